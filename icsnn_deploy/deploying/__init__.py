"""One command from a bundle to what a chip's own tools take."""
