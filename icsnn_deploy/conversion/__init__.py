"""A trained ReLU network in, a calibrated integrate-and-fire network out."""
