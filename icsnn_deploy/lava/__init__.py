"""Lava, run as a process of its own in an environment of its own: this package never imports it."""
