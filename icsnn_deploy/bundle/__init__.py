"""The deployment bundle: one folder that holds a network and everything made from it."""
