"""An ANN graph and samples become an IF graph."""
