"""SystemVerilog: an integer network as modules that pass streams on; written only.

rtl/           the modules, one per kind of layer, the same for every network
limits.py      what the format can't hold, all of it in one error
plan.py        the network as instances of these modules, and their memories
top.py         network.sv, which connects the instances
bench.py       network_tb.sv, which compares every layer with golden spikes
build_files.py Makefile and README.md
write.py       a folder of these files
written.py     how a folder was written
"""
