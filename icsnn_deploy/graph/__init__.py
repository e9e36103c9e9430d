"""The ground floor: one immutable, checked, hashed network, and everything that is a property of it."""
