"""A network in two parts, one for the host and one for a chip: their files, and their proof."""
