"""From a trained PyTorch model to a calibrated integrate-and-fire network."""
