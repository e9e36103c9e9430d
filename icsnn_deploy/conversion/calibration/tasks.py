"""Find the task of each output: as declared, else from its shape, else from the samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.conversion.calibration.samples import CalibrationSet
from icsnn_deploy.conversion.report import OutputTask
from icsnn_deploy.errors import ConversionError, DataError
from icsnn_deploy.graph.arrangement import named_outputs, output_parts
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Part
from icsnn_deploy.graph.tasks import Task, shape_tasks
from icsnn_deploy.judging.declared_tasks import checked_tasks

SAMPLES_COMPARED = 32
"""Samples that are run to compare outputs with inputs."""
_CORRELATION = 0.8


def find_tasks(
    ann: Graph, samples: CalibrationSet, declared: Task | Mapping[str, Task] | None = None
) -> tuple[OutputTask, ...]:
    """The task of each output of an ANN, in order.

    A declared task comes first, then graph.tasks.shape_tasks. A map that would be segmentation is
    regression where it is an image made from the image that enters: it has the channels of the
    input, a whole multiple of its height and width, and every channel correlates with the same
    channel of the input by at least 0.8, over the first 32 calibration samples.

    Args:
        ann: the traced network.
        samples: calibration samples.
        declared: of the only output, or by name; outputs that are left out are detected.

    Raises:
        ConversionError: an unknown output or task, or a task that does not fit the output's shape.
    """
    parts = output_parts(ann)
    try:
        given = checked_tasks(parts, declared)
    except DataError as error:
        raise ConversionError(str(error)) from error
    found = []
    for part in parts:
        task, origin = shape_tasks(parts)[part.name], "shape"
        if part.name in given:
            task, origin = given[part.name], "declared"
        elif task == "segmentation" and _is_image(ann, part, samples):
            task, origin = "regression", "samples"
        found.append(OutputTask(name=part.name, shape=part.shape, task=task, origin=origin))  # type: ignore[arg-type]
    return tuple(found)


def recorded_tasks(ann: Graph, outputs: tuple[OutputTask, ...]) -> dict[str, Task]:
    """The tasks that a graph has to record: those that its shapes do not tell."""
    told = shape_tasks(output_parts(ann))
    return {output.name: output.task for output in outputs if output.task != told[output.name]}


def _is_image(ann: Graph, part: Part, samples: CalibrationSet) -> bool:
    """Whether a map is an image made from the image that enters."""
    source = ann.input.shape
    if ann.input.parts or len(source) != 3 or part.host_op or part.shape[0] != source[0]:
        return False
    scale = [after // before for after, before in zip(part.shape[1:], source[1:], strict=True)]
    multiple = [n * before for n, before in zip(scale, source[1:], strict=True)]
    if 0 in scale or tuple(multiple) != part.shape[1:]:
        return False
    inputs = np.asarray(samples.samples[:SAMPLES_COMPARED])
    outputs = named_outputs(ann, TorchANN(ann).run(inputs))[part.name]
    enlarged = inputs.repeat(scale[0], axis=2).repeat(scale[1], axis=3)
    return bool((_correlations(enlarged, outputs) >= _CORRELATION).all())


def _correlations(one: Array, other: Array) -> Array:
    """Correlation of two [N, C, H, W] arrays, by channel, [C]; 0 where one is constant."""
    rows = [np.moveaxis(a.astype(np.float64), 1, 0).reshape(a.shape[1], -1) for a in (one, other)]
    x, y = (row - row.mean(axis=1, keepdims=True) for row in rows)
    scale = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    result: Array = (x * y).sum(axis=1) / np.where(scale > 0, scale, np.inf)
    return result
