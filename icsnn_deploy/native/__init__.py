"""Small C functions that are compiled on the user's machine, if it has a compiler."""
