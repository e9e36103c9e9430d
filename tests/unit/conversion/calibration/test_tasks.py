"""The task of an output: declared, else found from its shape, its host operation and samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.samples import CalibrationSet
from icsnn_deploy.conversion.calibration.tasks import find_tasks, recorded_tasks
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.arrangement import output_tasks
from icsnn_deploy.graph.file import graph_bytes
from icsnn_deploy.graph.nodes import Part
from icsnn_deploy.graph.tasks import Task, shape_tasks
from tests.support.outputs import outputs_graph, values

SHAPES: list[tuple[tuple[int, ...], str, Task]] = [
    ((10,), "", "classification"),
    ((2,), "", "classification"),
    ((10, 1, 1), "", "classification"),
    ((1,), "", "binary"),
    ((), "", "binary"),
    ((21, 32, 32), "", "segmentation"),
    ((2, 8, 8), "", "segmentation"),
    ((2, 7, 7), "", "regression"),
    ((1, 32, 32), "", "regression"),
    ((4, 100), "", "regression"),
    ((10,), "softmax", "classification"),
    ((3, 4, 4), "softmax", "segmentation"),
    ((3, 4, 4), "argmax", "segmentation"),
    ((1,), "sigmoid", "binary"),
    ((14,), "sigmoid", "binary"),
    ((1, 8, 8), "sigmoid", "segmentation"),
    ((3, 8, 8), "sigmoid", "binary"),
    ((3, 64, 64), "tanh", "regression"),
    ((10,), "tanh", "regression"),
]


@pytest.mark.parametrize(("shape", "host_op", "task"), SHAPES)
def test_shape_and_host_operation_tell_the_task(
    shape: tuple[int, ...], host_op: str, task: Task
) -> None:
    assert shape_tasks([Part("y", shape, host_op)]) == {"y": task}


def test_maps_of_the_same_channels_in_several_sizes_are_detection() -> None:
    heads = [Part("large", (255, 4, 4)), Part("small", (255, 8, 8)), Part("label", (5,))]
    assert shape_tasks(heads) == {
        "large": "detection",
        "small": "detection",
        "label": "classification",
    }


def test_an_image_made_from_the_input_is_regression() -> None:
    x = np.random.default_rng(0).random((4, 3, 8, 8)).astype(np.float32)
    same = outputs_graph((3, 8, 8))
    (found,) = find_tasks(same, CalibrationSet(x))
    assert (found.task, found.origin) == ("regression", "samples")
    assert recorded_tasks(same, (found,)) == {"y": "regression"}
    torch.manual_seed(0)
    classes = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1)).eval()
    report = convert(classes, x, Recipe(name="opi", time_steps=4)).report
    assert [(o.task, o.origin) for o in report.outputs] == [("segmentation", "shape")]


def test_an_image_that_the_network_copies_is_regression() -> None:
    class Copy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Conv2d(2, 2, 1)
            self.relu = nn.ReLU()
            self.fine = nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.fine(self.relu(self.mix(x)))
            return y

    model = Copy().eval()
    with torch.no_grad():
        for conv in (model.mix, model.fine):
            conv.weight.copy_(torch.eye(2).reshape(2, 2, 1, 1))
            assert conv.bias is not None
            conv.bias.zero_()
    x = np.random.default_rng(0).random((4, 2, 9, 9)).astype(np.float32)
    report = convert(model, x, Recipe(name="opi", time_steps=4)).report
    assert [(o.task, o.origin) for o in report.outputs] == [("regression", "samples")]


def test_a_declared_task_comes_first_and_the_others_are_detected() -> None:
    parts = (Part("label", (4,)), Part("box", (3,)))
    graph = outputs_graph((7,), parts)
    found = find_tasks(graph, CalibrationSet(values(4, 7)), {"box": "regression"})
    assert [(o.name, o.task, o.origin) for o in found] == [
        ("label", "classification", "shape"),
        ("box", "regression", "declared"),
    ]
    assert recorded_tasks(graph, found) == {"box": "regression"}


WRONG: list[tuple[Any, str]] = [
    ("regression", "the model has 2 outputs, label, box; give a task for each by name"),
    ({"boxes": "regression"}, "output 'boxes': the model's outputs are label, box; did you mean"),
    ({"box": "boxes"}, "'boxes' of output box: classification, binary"),
    ({"box": "segmentation"}, r"segmentation of output box of shape \[3\]: logits of several"),
]


@pytest.mark.parametrize(("declared", "message"), WRONG)
def test_a_task_that_does_not_fit_is_refused(declared: Any, message: str) -> None:
    graph = outputs_graph((7,), (Part("label", (4,)), Part("box", (3,))))
    with pytest.raises(ConversionError, match=message):
        find_tasks(graph, CalibrationSet(values(4, 7)), declared)


def test_classification_needs_several_logits() -> None:
    with pytest.raises(ConversionError, match="a single logit is binary"):
        find_tasks(outputs_graph((1,)), CalibrationSet(values(4, 1)), "classification")


def test_classification_of_positions_is_refused() -> None:
    with pytest.raises(ConversionError, match="a class per position is segmentation"):
        find_tasks(outputs_graph((3, 8, 8)), CalibrationSet(values(4, 3, 8, 8)), "classification")


def test_class_scores_record_nothing_so_that_files_stay_the_same() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    result = convert(model, values(16, 4), Recipe(name="opi", time_steps=4))
    assert result.network.tasks == result.ann.tasks == {}
    assert output_tasks(result.network) == {"output": "classification"}
    assert b"output_task" not in graph_bytes(result.network)
