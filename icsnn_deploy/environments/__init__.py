"""Environments of their own, for packages that can't live beside this one, and programs in them."""
