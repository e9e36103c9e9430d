"""Accuracy, spikes and parity over a whole data set, in one process or several."""
