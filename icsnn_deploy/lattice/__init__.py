"""Networks of integer weights, thresholds and potentials, exact on every backend."""
