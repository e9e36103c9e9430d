"""Recordings of event cameras: read, binned to the steps of a network, found in folders."""
