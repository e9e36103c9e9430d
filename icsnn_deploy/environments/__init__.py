"""Separate Python environments, for packages that conflict with this one, and programs in them."""
