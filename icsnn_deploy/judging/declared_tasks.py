"""Tasks that the user declares, where those that a network records or its shapes tell are wrong."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrangement import output_parts
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Part
from icsnn_deploy.graph.tasks import TASKS, Task


def judged_as(graph: Graph, declared: Task | Mapping[str, Task] | None) -> Graph:
    """The network with declared tasks in place of its own; its hash stays the same.

    Args:
        graph: the network.
        declared: of the only output, or by name; outputs that are left out keep their task.

    Raises:
        DataError: see checked_tasks.
    """
    tasks = checked_tasks(output_parts(graph), declared)
    return replace(graph, tasks={**graph.tasks, **tasks}) if tasks else graph


def checked_tasks(
    parts: Sequence[Part], declared: Task | Mapping[str, Task] | None
) -> Mapping[str, Task]:
    """Declared tasks by the name of the output; none where nothing is declared.

    Args:
        parts: the outputs.
        declared: of the only output, or by name.

    Raises:
        DataError: an unknown output or task, or a task that does not fit the output's shape.
    """
    if declared is None:
        return {}
    shapes = {part.name: part for part in parts}
    names = ", ".join(shapes)
    if isinstance(declared, str):
        if len(parts) > 1:
            raise DataError(
                f"task {declared!r}: the model has {len(parts)} outputs, {names}; give a task for "
                "each by name (--task NAME=TASK)"
            )
        declared = {parts[0].name: declared}
    for name, task in declared.items():
        if name not in shapes:
            near = difflib.get_close_matches(name, shapes, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise DataError(f"task of output {name!r}: the model's outputs are {names}{hint}")
        if task not in TASKS:
            raise DataError(
                f"task {task!r} of output {name}: {', '.join(TASKS)} are allowed; choose one"
            )
        _check_shape(shapes[name], task)
    return declared


def _check_shape(part: Part, task: Task) -> None:
    """Raise DataError where an output of this shape can't have the task."""
    channels = part.shape[0] if part.shape else 1
    positions = math.prod(part.shape[1:])
    wanted = ""
    if task == "classification" and (channels < 2 or positions > 1):
        wanted = "logits of two classes or more, [classes]"
        wanted += "; a single logit is binary" if channels * positions == 1 else ""
        wanted += "; a class per position is segmentation" if positions > 1 else ""
    if task == "segmentation" and positions < 2:
        wanted = "logits of several positions, [classes, *positions]"
    if wanted:
        raise DataError(
            f"task {task} of output {part.name} of shape {list(part.shape)}: {wanted} are needed"
        )
