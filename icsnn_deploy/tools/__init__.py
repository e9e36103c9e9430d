"""Simulators of others that run a network as plain neurons and synapses, in their own environments.

nengo-loihi emulates Loihi 1, SANA-FE models the latency and energy of chips, and Brian2 is a
simulator for neuroscience. None of them is imported here: `worker/` runs in their environments.
"""
