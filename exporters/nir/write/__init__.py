"""Write a graph as a NIR file.

file.py             to_nir and write: the whole file
builder.py          NirBuilder collects NIR nodes, edges, names and notes
nodes.py            each node of the graph as one or several NIR nodes
convolutions.py     convolutions, and nodes that are written as convolutions
"""
