"""Smooth activations and products fitted by sums of rectifiers, on request."""
