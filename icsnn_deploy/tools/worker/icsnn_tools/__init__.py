"""Runs in the environment of a tool, and imports nothing of icsnn_deploy."""
