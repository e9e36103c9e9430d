"""Figures of a network's outputs, by what each output is: against labels and against the ANN."""
