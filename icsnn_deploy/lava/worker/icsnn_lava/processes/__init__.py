"""Lava processes. Lava executes every file in this folder when it compiles: add no other files."""
