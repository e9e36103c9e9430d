"""Configurations of SynSense Speck: the layers of its cores, and what sinabs writes of them.

`connections.py` takes a network apart into convolutions of spikes, `cores.py` joins those of one
core, `configuration.py` describes the cores as sinabs does. `program.py` is copied into the export:
it lets sinabs itself write the configuration.
"""
