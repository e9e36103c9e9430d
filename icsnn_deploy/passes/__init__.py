"""Graph -> Graph: each pass rewrites a network in one way and keeps what it computes."""
