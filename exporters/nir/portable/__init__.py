"""NIR files for the readers of other projects."""
