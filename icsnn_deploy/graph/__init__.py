"""The ground floor: one immutable, checked, hashed network, and what is a property of it."""
