"""The code that runs in Lava's environment; imports only the standard library, NumPy and Lava."""
