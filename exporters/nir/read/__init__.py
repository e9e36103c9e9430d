"""Read a NIR file of any origin into a graph.

In the order in which a file passes through them:

    file.py             read_graph and from_nir: the whole file
    hdf5_scan.py        refuses hostile HDF5 before anything parses it
    hdf5_strings.py     measures variable-length strings in the raw bytes
    nodes.py            each NIR node as one or several nodes, every value checked
    values.py           checks of single values: numbers, sizes, shapes
    sums.py             several edges into one node -> an Add; names of nodes
    restore.py          undoes what the export had to rewrite
    zero_rows.py        removes the zero row that the export appended to an input
    remove_relay.py     removes the relay channel that sets initial potentials
"""
