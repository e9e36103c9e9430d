"""What runs inside Lava's environment: standard library, NumPy and Lava only."""
