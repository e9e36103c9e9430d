"""Portable NIR files, which the readers of other frameworks can run."""
