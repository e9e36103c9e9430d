"""Labels by output: what each task takes, and what is said about labels that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.errors import DataError
from icsnn_deploy.judging.labels import NO_CLASS, check_output_labels, label_specs
from tests.support.outputs import outputs_graph, two_headed_network

N = 6
SHAPES: dict[str, tuple[int, ...]] = {
    "classification": (3,),
    "binary": (3,),
    "segmentation": (3, 2, 2),
    "regression": (3,),
    "detection": (3, 2, 2),
}


def checked(task: Any, labels: Any) -> Any:
    return check_output_labels(outputs_graph(SHAPES[task], tasks={"y": task}), labels, N)["y"]


def test_positions_without_a_class_are_marked() -> None:
    labels = np.zeros((N, 2, 2), np.int64)
    labels[0, 0, 0], labels[1, 1, 1] = 255, -100
    found = checked("segmentation", labels)
    assert (found == NO_CLASS).sum() == 2
    assert found[0, 0, 0] == found[1, 1, 1] == NO_CLASS


def test_numbers_may_come_without_an_axis_for_one_value() -> None:
    graph = outputs_graph((1,), tasks={"y": "regression"})
    for shape in ((N,), (N, 1)):
        assert check_output_labels(graph, np.ones(shape), N)["y"].shape == (N, 1)


def test_labels_beyond_those_needed_are_cut_off() -> None:
    assert len(checked("segmentation", np.zeros((N + 2, 2, 2), int))) == N


WRONG: list[tuple[str, Any, str]] = [
    ("segmentation", np.zeros(N, int), r"int64 \[6\]; class indices \[N, 2, 2\] are needed"),
    ("segmentation", np.zeros((N, 4, 4), int), r"\[6, 4, 4\]; class indices \[N, 2, 2\]"),
    ("segmentation", np.zeros((N, 2, 2)), "float64"),
    ("segmentation", np.full((N, 2, 2), 3), "sample 0 has class 3; 24 positions are not among the"),
    ("regression", np.zeros((N, 2)), r"\[6, 2\]; numbers \[N, 3\] are needed"),
    ("regression", np.full((N, 3), np.nan), "NaN or infinity"),
    ("regression", np.zeros((N - 1, 3)), "5 for 6 samples; one each is needed"),
    ("binary", np.full((N, 3), 2), "values 2 to 2; 0 and 1 are needed"),
    ("detection", np.zeros((N, 3, 2, 2)), "raw boxes and scores have no labels"),
    ("classification", np.zeros((N, 3), int), r"integers \[N\] are needed"),
    ("classification", {"other": np.zeros(N, int)}, "labels of other: the network's outputs are y"),
]


@pytest.mark.parametrize(("task", "labels", "message"), WRONG)
def test_labels_that_do_not_fit_are_refused(task: str, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        checked(task, labels)


def test_several_outputs_take_labels_by_name() -> None:
    network = two_headed_network(tasks={"box": "regression"})
    found = check_output_labels(network, {"box": np.zeros((N, 2, 2))}, N)
    assert list(found) == ["box"]
    with pytest.raises(DataError, match="has 2 outputs; give labels by the name of the output: la"):
        check_output_labels(network, np.zeros(N, int), N)


def test_an_archive_holds_labels_by_the_name_of_the_output(tmp_path: Path) -> None:
    network = two_headed_network()
    path = tmp_path / "data.npz"
    np.savez(path, images=np.zeros(3), box=np.zeros(3))
    assert label_specs(network, str(path)) == {"box": f"{path}:box"}
    assert label_specs(network, str(tmp_path)) == {"box": f"{tmp_path}:box"}
    assert label_specs(outputs_graph((3,)), "any.npy") == {"y": "any.npy"}
    np.savez(path, images=np.zeros(3))
    with pytest.raises(DataError, match="holds images; an array per output is needed: label, box"):
        label_specs(network, str(path))
    with pytest.raises(DataError, match=r"y.npy: the network has 2 outputs; give FILE.npz"):
        label_specs(network, str(tmp_path / "y.npy"))
