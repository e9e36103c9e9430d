"""Networks without time steps: spikes one after the other, in the order in which they arrive."""
