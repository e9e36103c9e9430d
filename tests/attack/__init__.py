"""Attacks on bundles: kills, races and changed numbers. Each module runs as `python -m`."""
