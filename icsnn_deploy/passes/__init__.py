"""Passes, Graph -> Graph: each rewrites a network in one way and keeps its results."""
