"""Labels of a network's outputs: read by output and checked against the task of each.

classification            class indices [N]
binary                    0 or 1: [N], or one per value [N, *output shape]
segmentation              class indices [N, *positions]; 255 and -100 mark positions without one
regression                numbers [N, *output shape]; of a single value also [N]
detection                 none: boxes are judged after the decoder
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.data import archive_names, check_labels
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrangement import output_parts, output_tasks
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Part
from icsnn_deploy.graph.tasks import Task
from icsnn_deploy.sources.batches import as_labels

NO_CLASS = -1
"""Label of a position that is not counted."""

_IGNORED = (255, -100)  # as Pascal VOC and Cityscapes, and as PyTorch's losses mark them

_REMEDY = "declare another task with --task if it is something else"


def check_output_labels(
    graph: Graph,
    labels: Array | Mapping[str, Array],
    count: int,
    *,
    samples: int | None = None,
) -> dict[str, Array]:
    """The labels of the samples that are run, by output.

    Args:
        graph: the network.
        labels: of its only output, or by name; outputs may be left out.
        count: number of samples that are run.
        samples: size of the data set; more labels than that belong to another data set.

    Returns:
        Class indices as int64 (segmentation: int32 with NO_CLASS for positions that are not
        counted), numbers as float64, each [count, ...].

    Raises:
        DataError: an unknown output, or labels that do not fit the task and shape of their output.
    """
    parts = {part.name: part for part in output_parts(graph)}
    if not isinstance(labels, Mapping):
        if len(parts) > 1:
            raise DataError(
                f"labels: the network has {len(parts)} outputs; give labels by the name of the "
                f"output: {', '.join(parts)}"
            )
        labels = {next(iter(parts)): labels}
    unknown = [name for name in labels if name not in parts]
    if unknown or not labels:
        raise DataError(
            f"labels of {', '.join(unknown) or 'no output'}: the network's outputs are "
            f"{', '.join(parts)}"
        )
    tasks = output_tasks(graph)
    return {
        name: _checked(parts[name], tasks[name], _as_array(name, given), count, samples)
        for name, given in labels.items()
    }


def labels_beside(graph: Graph, labels: Array | None) -> Array | None:
    """Labels that came with the samples; None where they can't be those of the network's outputs.

    Raises:
        DataError: labels that do not fit the only output.
    """
    tasks = output_tasks(graph)
    if labels is None or len(tasks) != 1 or "detection" in tasks.values():
        return None
    try:
        check_output_labels(graph, labels, len(labels))
    except DataError as error:
        raise DataError(
            f"{error}; they come with the samples: give others as labels=, or the samples alone"
        ) from error
    return labels


def label_specs(graph: Graph, spec: str) -> dict[str, str]:
    """Name the array of labels of each output that has some.

    Args:
        graph: the network.
        spec: of a network with one output, the array itself (FILE.npz:array, FILE.npy, a folder);
            of several outputs FILE.npz, or a folder of .npz files, with an array per output name.
            Other arrays in it are not looked at.

    Raises:
        DataError: several outputs, but no archive, or none of them in it.
    """
    names = [part.name for part in output_parts(graph)]
    if len(names) == 1:
        return {names[0]: spec}
    path = Path(spec)
    first = path if path.suffix == ".npz" else next(iter(sorted(path.glob("*.npz"))), None)
    if first is None:
        raise DataError(
            f"{spec}: the network has {len(names)} outputs; give FILE.npz (or a folder of them) "
            f"with an array per output: {', '.join(names)}"
        )
    held = archive_names(first)
    found = {name: f"{spec}:{name}" for name in names if name in held}
    if not found:
        raise DataError(
            f"{first}: holds {', '.join(held) or 'nothing'}; an array per output is needed: "
            f"{', '.join(names)}"
        )
    return found


def are_indices(graph: Graph, name: str) -> bool:
    """Whether the labels of an output are class indices [N]."""
    part = next(part for part in output_parts(graph) if part.name == name)
    return _are_indices(part, output_tasks(graph)[name])


def task_remedy(name: str, task: Task) -> str:
    """What to do where labels do not have the form that the task of an output takes."""
    return f"output {name} is judged as {task}, {_REMEDY}"


def _as_array(name: str, given: Any) -> Array:
    array = as_labels(given)
    if array is None:
        raise DataError(
            f"labels of output {name} of type {type(given).__name__}: an array, a tensor or a list "
            "of numbers is needed, one per sample"
        )
    return array


def _are_indices(part: Part, task: Task) -> bool:
    return task == "classification" or (task == "binary" and math.prod(part.shape) == 1)


def _checked(part: Part, task: Task, labels: Array, count: int, samples: int | None) -> Array:
    if _are_indices(part, task):
        classes = max(2, math.prod(part.shape))  # a single logit decides between two classes
        remedy = task_remedy(part.name, task)
        return check_labels(labels, count, samples=samples, classes=classes, remedy=remedy)
    what = f"labels of output {part.name} ({task})"
    if not labels.ndim:
        raise DataError(f"{what}: a single value; one per sample is needed, [N, ...]")
    if task == "detection":
        raise DataError(
            f"{what}: raw boxes and scores have no labels; they are compared with the ANN alone. "
            f"Leave the labels out, or {_REMEDY}"
        )
    if len(labels) < count or (samples is not None and len(labels) > samples):
        raise DataError(f"{what}: {len(labels)} for {samples or count} samples; one each is needed")
    if task == "segmentation":
        return _positions(what, part, labels[:count])
    shape = labels.shape[1:]
    if math.prod(part.shape) == 1 and shape in ((), (1,)):
        labels, shape = labels.reshape(-1, *part.shape), part.shape
    if shape != part.shape or labels.dtype.kind not in "fiub":
        raise DataError(
            f"{what}: {labels.dtype} {list(labels.shape)}; numbers "
            f"[N{''.join(f', {n}' for n in part.shape)}] are needed, as the output is; {_REMEDY}"
        )
    own = labels[:count].astype(np.float64)
    if task == "regression":
        if not np.isfinite(own).all():
            raise DataError(f"{what}: NaN or infinity; finite numbers are needed")
        return own
    if not ((own == 0) | (own == 1)).all():
        raise DataError(
            f"{what}: values {own.min():g} to {own.max():g}; 0 and 1 are needed; {_REMEDY}"
        )
    return own.astype(np.int64)


def _positions(what: str, part: Part, labels: Array) -> Array:
    """Checked class indices [N, *positions]."""
    classes, positions = max(2, part.shape[0]), part.shape[1:]
    if labels.shape[1:] != positions or labels.dtype.kind not in "iu":
        raise DataError(
            f"{what}: {labels.dtype} {list(labels.shape)}; class indices "
            f"[N{''.join(f', {n}' for n in positions)}] are needed, one per position of the "
            f"output; {_REMEDY}"
        )
    ignored = np.isin(labels, [mark for mark in _IGNORED if not 0 <= mark < classes])
    wrong = ((labels < 0) | (labels >= classes)) & ~ignored
    if wrong.any():
        sample = int(np.argwhere(wrong)[0][0])
        raise DataError(
            f"{what}: sample {sample} has class {labels[wrong][0]}; {wrong.sum():,} positions are "
            f"not among the {classes} classes, 0 to {classes - 1} (255 and -100 mark positions "
            "that are not counted)"
        )
    return np.where(ignored, NO_CLASS, labels).astype(np.int32)
