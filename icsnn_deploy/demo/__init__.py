"""The demo of `icsnn demo`: a network for digits is trained, converted, exported and verified."""
