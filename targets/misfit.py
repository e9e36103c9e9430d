"""A property of a network that a target does not support."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """A property of a network that a target does not support, with a remedy."""

    node: str  # name of the node, or "network"
    what: str  # the property, for example "weight width"
    got: str
    allowed: str
    over: str  # by how much; empty if it can't be measured
    remedy: str
    bits_over: int = 0  # of a width: by how many bits the weights would have to be narrower

    @property
    def is_of_numbers(self) -> bool:
        """Whether it is about the widths of numbers, which quantizing for the target chooses."""
        return self.bits_over > 0 or self.what in ("lattice", "threshold granularity")

    def __str__(self) -> str:
        over = f", {self.over} over" if self.over else ""
        return f"{self.node}: {self.what}: {self.got}, allowed: {self.allowed}{over}. {self.remedy}"


def amount(count: int, noun: str) -> str:
    """A number with its noun, in the plural if needed."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
