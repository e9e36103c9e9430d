"""What the errors of an approximation mean, by the task of each output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from icsnn_deploy.conversion.frontend.approximate.measures import Fitted, as_record
from icsnn_deploy.graph.arrangement import output_parts, output_tasks
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Part
from icsnn_deploy.graph.spread import relative_squared_error, spread_of
from icsnn_deploy.graph.tasks import CLASS_TASKS, Task


def judged(fitted: Fitted, graph: Graph) -> dict[str, Any]:
    """The record of the fits, with figures by the task that the shape of each output tells.

        classes    agreement: share of the decisions with the class of the model
        numbers    r2: 1 - mean squared difference / spread^2 of the model's (graph.spread)

    Args:
        fitted: of the model.
        graph: that was made of it.
    """
    if not fitted.record:
        return {}
    tasks, outputs = output_tasks(graph), dict(fitted.record["outputs"])
    for part in output_parts(graph):
        if part.name in outputs:
            given, wanted = fitted.values(part.name)
            figures = _figures(part, tasks[part.name], given, wanted)
            outputs[part.name] = {**outputs[part.name], **figures}
    return {**fitted.record, "outputs": outputs}


def without_agreement(record: Mapping[str, Any], tasks: Mapping[str, Task]) -> dict[str, Any]:
    """The record without classes of outputs that are numbers, as declared or found from samples."""
    outputs = {
        name: one if tasks.get(name) in CLASS_TASKS else {**one, "agreement": None}
        for name, one in record["outputs"].items()
    }
    return {**record, "outputs": outputs}


def _figures(part: Part, task: Task, given: Array, wanted: Array) -> dict[str, float | None]:
    if task not in CLASS_TASKS:
        r2 = 1 - relative_squared_error(wanted, given, spread_of(wanted))
        return {"agreement": None, "r2": as_record(r2)}
    same = _classes(part, task, given) == _classes(part, task, wanted)
    return {"agreement": as_record(float(same.mean()))}


def _classes(part: Part, task: Task, values: Array) -> Array:
    """The class of each decision, from values with the operation that is left to the host."""
    classes: Array
    if task == "binary" or values.shape[1] == 1:
        classes = values > (0.5 if part.host_op == "sigmoid" else 0.0)
    else:
        classes = np.argmax(values, axis=1)
    return classes
