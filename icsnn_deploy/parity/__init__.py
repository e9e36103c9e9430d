"""Recordings of one network compared spike for spike, and the verdict on them."""
