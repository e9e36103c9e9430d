"""C99 programs: an integer network that adds the weights of neurons that spiked, and no others.

plan.py             the network as accumulators that connections add into
widths.py           the narrowest C type of every value, with the bound that allows it
arrange.py          parameters in the order that the program reads them
memory.py           RAM and flash per layer, and the limits
functions.py        the C functions, one per kind of layer and types
connections.py      those of connections
block_functions.py  those of connections with many weights, for all steps at once
interface.py        network.h
program.py          network.c
parameters.py       weights.h and weights.c
inspection.py       inspect.h and inspect.c: spikes and potentials of each population, for tests
golden.py           golden.h and test_main.c
build_files.py      Makefile, CMakeLists.txt and README.md
prefix.py           names that begin otherwise
write.py            a folder of these files
"""
