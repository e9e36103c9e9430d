"""The version, written once: the package's metadata and every file it writes take it from here."""

__version__ = "0.1.0"
