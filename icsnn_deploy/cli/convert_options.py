"""The options of icsnn convert, from text to what the package takes; wrong ones are DataErrors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import ConversionError, DataError, UnsupportedOperatorError
from icsnn_deploy.events.binning import EventBinning, EventBins
from icsnn_deploy.graph.nodes import Encoding

if TYPE_CHECKING:
    from icsnn_deploy.conversion.frontend.approximate.options import Approximation
    from icsnn_deploy.conversion.frontend.declared import DeclaredActivation

_LABELED = "hybrid"


def parse_approximation(asked: bool, knots: int | None) -> Approximation | None:
    """--approximate and --knots."""
    from icsnn_deploy.conversion.frontend.approximate.options import Approximation

    if not asked:
        if knots is not None:
            raise DataError(f"--knots {knots} without --approximate: give both, or neither")
        return None
    return Approximation() if knots is None else Approximation(knots=knots)


def takes_labels(recipe: str, labels: str | None, encoding: Encoding) -> bool:
    """Whether the recipe needs labels; raises DataError where they do not fit the other options."""
    if recipe != _LABELED:
        if labels is not None:
            raise DataError(
                f"--calibration-labels {labels} with --recipe {recipe}: only the recipe "
                f"{_LABELED} uses labels; leave them out, or choose it"
            )
        return False
    if encoding == "events":
        raise DataError(
            f"--recipe {_LABELED} with --encoding events: call icsnn_deploy.convert with "
            "(spikes, labels), or choose the recipe auto"
        )
    return True


def parse_time_steps(text: str) -> int | tuple[int, int]:
    """--time-steps: T, or the two ends of a range."""
    fields = text.split(",")
    if len(fields) > 2 or not all(field.strip().isdecimal() for field in fields):
        raise DataError(f"--time-steps {text}: a number, or the two ends of a range, such as 4,32")
    numbers = [int(field) for field in fields]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def parse_binning(shape: str, bins: EventBins, steps: int | tuple[int, int]) -> EventBinning:
    """--event-shape and --event-bins."""
    sizes = shape.split(",")
    if len(sizes) != 3 or not all(size.strip().isdecimal() for size in sizes):
        raise DataError(f"--event-shape {shape}: three numbers C,H,W are needed, such as 2,34,34")
    last = steps if isinstance(steps, int) else steps[1]
    return EventBinning(time_steps=last, shape=tuple(map(int, sizes)), bins=bins)


@contextmanager
def naming_event_shape(shape: str | None) -> Iterator[None]:
    """Where a conversion of recordings fails, say what shape they were given to the model in."""
    try:
        yield
    except ConversionError as error:
        if shape is None or isinstance(error, UnsupportedOperatorError):
            raise
        raise ConversionError(
            f"{error}. The recordings became images [{shape}], as --event-shape says: give the "
            "shape of the model's input, C,H,W"
        ) from error


def parse_normalization(mean: str | None, std: str | None) -> Normalization | None:
    """--mean and --std; None without both."""
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise DataError("--mean and --std go together: give one value per channel in each")
    try:
        return Normalization(
            mean=tuple(float(n) for n in mean.split(",")),
            std=tuple(float(n) for n in std.split(",")),
        )
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"--mean {mean} --std {std}: comma-separated numbers are needed") from error


def parse_activations(texts: list[str]) -> list[DeclaredActivation]:
    """--activation, given once or more often."""
    from icsnn_deploy.conversion.frontend.declared import DeclaredActivation

    found = []
    for text in texts:
        fields = text.split(":")
        if len(fields) not in (2, 3) or not all(fields):
            raise DataError(f"--activation {text}: CLASS:BOUND or CLASS:BOUND:LEVELS is needed")
        levels = fields[2] if len(fields) == 3 else None
        found.append(DeclaredActivation(class_name=fields[0], bound=fields[1], levels=levels))
    return found
