"""Lava processes. Lava runs every file in this folder when it compiles: nothing else lives here."""
