"""Figures of an output: those counted by hand, in any batches, and none that means nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Part
from icsnn_deploy.graph.spread import merge_moments, moments
from icsnn_deploy.graph.tasks import TASKS, Task
from icsnn_deploy.judging.count import count_outputs, same_classes
from icsnn_deploy.judging.counts import from_json, total_outputs
from icsnn_deploy.judging.figures import output_figures
from icsnn_deploy.judging.labels import NO_CLASS, check_output_labels
from tests.support.graphs import two_headed_network as joined_by_a_sum
from tests.support.outputs import outputs_graph, two_headed_network, values

COUNT = 12


def figures(graph: Graph, logits: Array, **given: Any) -> dict[str, Any]:
    """The figures of the only output."""
    (found,) = count_outputs(graph, logits, **given).values()
    return output_figures(found)


def test_pixel_accuracy_and_mean_iou() -> None:
    graph = outputs_graph((3, 4, 5), tasks={"y": "segmentation"})
    logits, ann = values(COUNT, 3, 4, 5), values(COUNT, 3, 4, 5, seed=1)
    labels = np.random.default_rng(2).integers(0, 2, (COUNT, 4, 5))  # class 2 has no label
    labels[0] = 255
    checked = check_output_labels(graph, labels, COUNT)
    found = figures(graph, logits, labels=checked, ann=ann)
    known = labels != 255
    for prefix, values_of in (("", logits), ("ann_", ann)):
        classes = values_of.argmax(axis=1)
        assert found[f"{prefix}pixel_accuracy"] == np.mean((classes == labels)[known])
        shares = []
        for c in range(3):
            one, other = (classes == c) & known, (labels == c) & known
            shares.append((one & other).sum() / (one | other).sum())
        assert found[f"{prefix}miou"] == pytest.approx(np.mean(shares), rel=1e-12)
    assert found["ann_agreement"] == np.mean(logits.argmax(axis=1) == ann.argmax(axis=1))


def test_a_class_that_occurs_nowhere_does_not_count() -> None:
    graph = outputs_graph((4, 2, 2), tasks={"y": "segmentation"})
    logits = np.zeros((1, 4, 2, 2), np.float32)
    logits[:, 1] = 1
    labels = check_output_labels(graph, np.array([[[1, 1], [1, 0]]]), 1)
    assert figures(graph, logits, labels=labels)["miou"] == (3 / 4 + 0) / 2


def test_one_logit_per_position_decides_between_two_classes() -> None:
    graph = outputs_graph((1, 4, 5), (Part("mask", (1, 4, 5), "sigmoid"),))
    logits = values(COUNT, 1, 4, 5)
    labels = np.random.default_rng(2).integers(0, 2, (COUNT, 4, 5))
    found = figures(graph, logits, labels=check_output_labels(graph, labels, COUNT))
    assert found["task"] == "segmentation"
    assert found["pixel_accuracy"] == np.mean((logits[:, 0] > 0) == labels)


def test_numbers_have_r2_and_error() -> None:
    graph = outputs_graph((3,), tasks={"y": "regression"})
    truth = values(COUNT, 3, seed=5).astype(np.float64) * [1, 2, 4] + [100, 0, 0]
    logits, ann = (truth + values(COUNT, 3, seed=n) / 4 for n in (6, 7))
    found = figures(graph, logits, labels={"y": truth}, ann=ann)
    total = np.square(truth - truth.mean(axis=0)).sum()
    for prefix, result in (("", logits), ("ann_", ann)):
        error = np.square(result - truth).sum()
        assert found[f"{prefix}r2"] == pytest.approx(1 - error / total)
        assert found[f"{prefix}rmse"] == pytest.approx(np.sqrt(error / truth.size))
        assert found[f"{prefix}error"] == pytest.approx(np.sqrt(error / total))
    spread = np.square(ann - ann.mean(axis=0)).sum()
    wanted = np.sqrt(np.square(logits - ann).sum() / spread)
    assert found["ann_deviation"] == pytest.approx(wanted)
    assert {"top1", "ann_agreement", "miou"}.isdisjoint(found)


def test_a_map_has_one_mean_per_channel() -> None:
    graph = outputs_graph((2, 4, 5), tasks={"y": "regression"})
    ann = values(COUNT, 2, 4, 5) + np.arange(20, dtype=np.float32).reshape(4, 5)
    ann[:, 1] += 1000
    found = figures(graph, ann + 1, ann=ann)
    spread = ann.astype(np.float64).std(axis=(0, 2, 3))
    assert found["ann_deviation"] == pytest.approx(1 / np.sqrt(np.square(spread).mean()), rel=1e-4)


def test_numbers_that_do_not_vary_have_no_r2() -> None:
    graph = outputs_graph((2,), tasks={"y": "regression"})
    truth = np.ones((COUNT, 2))
    found = figures(graph, truth + 1, labels={"y": truth}, ann=truth)
    assert (found["r2"], found["error"], found["ann_deviation"]) == (None, None, None)
    assert found["rmse"] == 1


def test_detection_is_compared_with_the_ann_alone() -> None:
    graph = outputs_graph((6, 4, 5), tasks={"y": "detection"})
    ann = values(COUNT, 6, 4, 5)
    found = figures(graph, ann, ann=ann)
    assert found == {"task": "detection", "ann_deviation": 0.0, "ann_deviation_over_time": {}}


def test_an_integer_network_needs_its_unit_for_numbers() -> None:
    graph = outputs_graph((3,), tasks={"y": "regression"})
    ann = values(COUNT, 3)
    assert figures(replace(graph, output_unit=0.5), ann * 2, ann=ann)["ann_deviation"] == 0
    integer = Graph(
        nodes=(replace(graph.input, dtype="int8"), graph.output), time_steps=2, tasks=graph.tasks
    )
    assert integer.is_integer
    assert figures(integer, ann * 2, ann=ann)["ann_deviation"] is None


def test_decisions_are_counted_one_by_one() -> None:
    graph = outputs_graph((4,), tasks={"y": "binary"})
    logits, ann = values(COUNT, 4), values(COUNT, 4, seed=1)
    labels = np.random.default_rng(2).integers(0, 2, (COUNT, 4))
    found = figures(graph, logits, labels=check_output_labels(graph, labels, COUNT), ann=ann)
    assert found["top1"] == np.mean((logits > 0) == labels)
    assert found["ann_top1"] == np.mean((ann > 0) == labels)
    assert found["ann_agreement"] == np.mean((logits > 0) == (ann > 0))
    assert found["top5"] is None


def test_several_outputs_are_counted_by_name() -> None:
    network = two_headed_network(tasks={"box": "regression"})
    logits, ann = values(COUNT, 7), values(COUNT, 7, seed=1)
    labels = {"label": np.arange(COUNT) % 3}
    found = count_outputs(network, logits, labels=labels, ann=ann)
    label, box = (output_figures(found[name]) for name in ("label", "box"))
    assert label["top1"] == np.mean(logits[:, 4:].argmax(axis=1) == labels["label"])
    error = np.square(logits[:, :4] - ann[:, :4]).sum()
    spread = np.square(ann[:, :4] - ann[:, :4].mean(axis=0)).sum()
    assert box["ann_deviation"] == pytest.approx(np.sqrt(error / spread), rel=1e-5)
    assert box["r2"] is None  # it has no labels
    same = same_classes(network, logits, ann)
    assert list(same) == ["label"]
    assert same["label"][1] == COUNT


SHAPES: dict[Task, tuple[int, ...]] = {
    "classification": (6,),
    "binary": (3,),
    "segmentation": (3, 4, 5),
    "regression": (3,),
    "detection": (6, 4, 5),
}


@pytest.mark.parametrize("task", TASKS)
def test_batches_add_up_and_come_back_from_json(task: Task) -> None:
    shape = SHAPES[task]
    graph = outputs_graph(shape, tasks={"y": task})
    logits, ann = values(COUNT, *shape), values(COUNT, *shape, seed=1)
    over_time = values(2, COUNT, *shape, seed=2)
    rng = np.random.default_rng(4)
    labels: dict[Task, Array | None] = {
        "classification": rng.integers(0, 6, COUNT),
        "binary": rng.integers(0, 2, (COUNT, 3)),
        "segmentation": rng.integers(NO_CLASS, 3, (COUNT, 4, 5)),
        "regression": rng.normal(size=(COUNT, 3)) + 1e6,
        "detection": None,
    }
    given = labels[task]

    def part(rows: slice) -> Any:
        own = None if given is None else {"y": given[rows]}
        steps = over_time[:, rows]
        return count_outputs(graph, logits[rows], labels=own, ann=ann[rows], logits_t=steps)

    whole = part(slice(None))["y"]
    parts = total_outputs([part(slice(n, n + 5)) for n in range(0, COUNT, 5)])["y"]
    wanted, found = output_figures(whole, 1), output_figures(parts, 1)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if name.endswith("_over_time"):
            assert found[name] == pytest.approx(value, rel=1e-9)
            assert list(value) == [2]
        else:
            exact = value is None or isinstance(value, str)
            assert found[name] == (value if exact else pytest.approx(value, rel=1e-9))
    assert from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_moments_of_parts_are_those_of_the_whole() -> None:
    numbers = values(30, 4).astype(np.float64) + 1e8
    parts = merge_moments([moments(numbers[:7]), moments(numbers[7:8]), moments(numbers[8:])])
    whole = moments(numbers)
    assert parts.count == whole.count == 30
    assert parts.mean == pytest.approx(whole.mean, rel=1e-14)
    assert parts.squares == pytest.approx(whole.squares, rel=1e-6)


def test_each_output_of_numbers_is_counted_in_its_own_unit() -> None:
    graph = joined_by_a_sum()
    tasks: dict[str, Task] = {"box": "regression", "scores": "regression"}
    graph = replace(graph, output_unit=(0.5, 4.0), tasks=tasks)
    raw = values(COUNT, 8)
    ann = raw * np.array([4] * 5 + [0.5] * 3, np.float32)  # scores are read first
    for counts in count_outputs(graph, raw, ann=ann).values():
        assert counts.snn.ann_error == 0
