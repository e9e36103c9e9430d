"""One thing of a network that a target can't hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """Where, what, by how much, and what would make it fit."""

    node: str  # name of the node, or "network"
    what: str  # the property, for example "weight width"
    got: str
    allowed: str
    over: str  # by how much; empty where there is no measure
    remedy: str
    bits_over: int = 0  # of a width: what the weights that lead here would have to lose

    def __str__(self) -> str:
        over = f", {self.over} over" if self.over else ""
        return f"{self.node}: {self.what}: {self.got}, allowed: {self.allowed}{over}. {self.remedy}"


def amount(count: int, noun: str) -> str:
    """A number with its noun, in the plural where it has to be."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
