"""NIR files read into graphs."""
