"""The architectures that the coverage run converts: one entry each, built on request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A public architecture with random weights.

    Attributes:
        name: unique, "library/name".
        build: makes the model; imports its library only then.
        inputs: shape of each input without the batch.
        classes: for an integer input, how many values it takes; 0 for floats.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: tuple[Shape, ...] = ((3, 32, 32),)
    classes: int = 0

    @property
    def library(self) -> str:
        """Where it comes from: the part of the name before the slash."""
        return self.name.partition("/")[0]


def architectures() -> list[Architecture]:
    """All entries in the order of the page; no library is imported."""
    import coverage_audio
    import coverage_classifiers
    import coverage_dense
    import coverage_detection
    import coverage_generative
    import coverage_libraries
    import coverage_sets
    import coverage_structure

    return [
        *coverage_libraries.architectures(),
        *coverage_classifiers.architectures(),
        *coverage_audio.architectures(),
        *coverage_dense.architectures(),
        *coverage_detection.architectures(),
        *coverage_generative.architectures(),
        *coverage_sets.architectures(),
        *coverage_structure.architectures(),
    ]


def handwritten(
    table: dict[str, tuple[Callable[[], nn.Module], tuple[Shape, ...]]],
) -> list[Architecture]:
    """Entries of a table of this project's own models: name -> (build, input shapes)."""
    return [
        Architecture(name=f"plain/{name}", build=build, inputs=inputs)
        for name, (build, inputs) in table.items()
    ]
