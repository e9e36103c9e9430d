"""The demonstration that `icsnn demo` runs: digits, trained, converted, exported and verified."""
