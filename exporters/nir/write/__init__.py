"""NIR files: writing."""
