"""The largest networks that this package builds, writes and reads.

A graph checks these limits as it is built, so that no file is written that a reader refuses.
Readers use the same numbers on what a file declares, before memory is spent on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from icsnn_deploy.errors import GraphError

MAX_TIME_STEPS = 2**16
"""Time steps T of a network."""

MAX_VALUES = 2**27
"""Values of one node's result for one sample and step: 1 GiB in double precision. A VGG16 on
224 x 224 pixels has 2^22; a few bytes of padding in a hostile file could ask for any number."""

MAX_AXES = 8
"""Axes of one node's result, without time and batch."""


def check_time_steps(time_steps: int) -> None:
    """Raise GraphError for more time steps than a network may have."""
    if time_steps > MAX_TIME_STEPS:
        raise GraphError(
            f"time_steps {time_steps}: at most {MAX_TIME_STEPS:,} are allowed; convert with fewer"
        )


def check_result(node: str, shape: Sequence[int]) -> None:
    """Raise GraphError where the result of a node, of this shape, is larger than allowed."""
    if len(shape) > MAX_AXES:
        raise GraphError(
            f"{node}: a result of {len(shape)} axes, at most {MAX_AXES} are allowed; merge axes"
        )
    if math.prod(shape) > MAX_VALUES:
        raise GraphError(
            f"{node}: a result of shape {tuple(shape)} is too large, at most {MAX_VALUES:,} "
            "values are allowed; use smaller inputs, paddings or fewer channels"
        )
