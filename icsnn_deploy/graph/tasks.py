"""The task of an output: what its values are, and so how they are judged.

    classification   one class of several per sample: logits [classes]
    binary           yes or no for each value: one logit per decision
    segmentation     one class per position: logits [classes, *positions]; one logit decides
                     between two classes
    regression       numbers: each value counts as it is
    detection        boxes and scores, which a decoder takes apart: numbers without labels

A task is declared, or found from the outputs themselves (shape_tasks).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from icsnn_deploy.graph.nodes import Part

Task = Literal["classification", "binary", "regression", "segmentation", "detection"]

TASKS: tuple[Task, ...] = get_args(Task)
"""Every task."""

CLASS_TASKS: frozenset[Task] = frozenset({"classification", "binary", "segmentation"})
"""Tasks whose outputs are logits of classes; those of the others are numbers."""

MAP_POSITIONS = 64
"""Positions from which on several channels are taken for a map of class scores."""

_CLASSES = ("softmax", "log_softmax", "argmax")


def shape_tasks(parts: Sequence[Part]) -> dict[str, Task]:
    """The task of each output as its shape and its host operation tell.

    In this order:

    1. sigmoid on the host: binary; with one channel and several positions, segmentation.
    2. softmax, log_softmax or argmax on the host: classification; with several positions,
       segmentation.
    3. another operation on the host: regression.
    4. one value: binary. Several channels with one position each: classification.
    5. maps [C, H, W] with C >= 2 that occur in several sizes with the same C: detection.
    6. a map [C, H, W] with C >= 2 and at least MAP_POSITIONS positions: segmentation.
    7. anything else: regression.
    """
    sizes: dict[int, set[tuple[int, ...]]] = {}
    for part in parts:
        if _is_map(part):
            sizes.setdefault(part.shape[0], set()).add(part.shape[1:])
    scales = {channels for channels, found in sizes.items() if len(found) > 1}
    return {part.name: _shape_task(part, scales) for part in parts}


def _shape_task(part: Part, scales: set[int]) -> Task:
    channels = part.shape[0] if part.shape else 1
    positions = math.prod(part.shape[1:])
    if part.host_op == "sigmoid":
        return "segmentation" if channels == 1 < positions else "binary"
    if part.host_op in _CLASSES:
        return "segmentation" if positions > 1 else "classification"
    if part.host_op:
        return "regression"
    if positions == 1:
        return "classification" if channels > 1 else "binary"
    if _is_map(part) and channels in scales:
        return "detection"
    return "segmentation" if _is_map(part) and positions >= MAP_POSITIONS else "regression"


def _is_map(part: Part) -> bool:
    """Whether an output may be a map of several channels that the host leaves as it is."""
    return len(part.shape) == 3 and part.shape[0] > 1 and not part.host_op
