"""NIR files: writing and reading."""
