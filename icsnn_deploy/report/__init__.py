"""Results as tables and lines for a terminal, and figures per layer.

tables.py       conversion, parity, graph, certificate, bundle
evaluation.py   an evaluation over a data set
resources.py    targets, resources, misfits, allocation, activity, energy
chip_cost.py    latency and energy on a chip, as a tool models them
layers.py       first-spike times, and how well outputs match activations
plain.py        the style of every table
"""
