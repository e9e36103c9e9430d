"""A trained model becomes an ANN graph."""
