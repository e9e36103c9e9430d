"""NIR files, written and read.

formats.py      the formats nir, nir-portable and nir-relay; NirOptions
metadata.py     what NIR has no field for: a JSON string in the metadata
notes.py        notes on nodes, so that reading restores the same graph
parts.py        the model's inputs and outputs by name
kernels.py      square kernels with symmetric padding, as NIR's type check needs them
write/          a graph -> a NIR file
read/           a NIR file of any origin -> a graph
portable/       the form of a network that other frameworks run correctly
"""
