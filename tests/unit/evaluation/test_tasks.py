"""Evaluation and verification of networks that are no classifiers, and of several outputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from icsnn_deploy.backends.reference import ReferenceSimulator, run_ann
from icsnn_deploy.backends.torch.early_exit import confidence_unit
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.options import EvaluationOptions
from icsnn_deploy.evaluation.run import evaluate
from icsnn_deploy.evaluation.samples import open_output_labels, open_samples
from icsnn_deploy.graph.arrangement import named_outputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.judging.labels import check_output_labels
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.parity.verify import verify
from tests.support.evaluating import as_ann
from tests.support.outputs import map_network, number_network, two_headed_network, unit_samples

COUNT = 23


def bundle_of(path: Path, network: Graph, ann: Graph | None = None) -> Bundle:
    """A bundle with the ANN given, or that of the network."""
    ann = ann or as_ann(network)
    return create_bundle(path, network=network, ann=ann, samples=None, report={})


def command(*arguments: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    return found.exit_code, found.stdout, found.stderr


@pytest.fixture
def segmentation(tmp_path: Path) -> tuple[Path, Any]:
    """A bundle of a segmentation network whose labels are the ANN's own classes, but for a row."""
    network = map_network(3, tasks={"y": "segmentation"})
    bundle_of(tmp_path / "bundle", network)
    x = unit_samples(network, COUNT)
    y = run_ann(as_ann(network), x).argmax(axis=1)
    y[:, 0] = 255
    np.savez(tmp_path / "data.npz", x=x, y=y)
    classes = ReferenceSimulator(network).run(x).logits.argmax(axis=1)
    return tmp_path, np.mean((classes == y)[y != 255])


def test_verify_gives_pixel_accuracy_of_a_segmentation(segmentation: tuple[Path, Any]) -> None:
    """Not the share of images whose largest of all logits has the number of the label."""
    place, right = segmentation
    names = ("--images", f"{place}/data.npz:x", "--labels", f"{place}/data.npz:y")
    code, out, err = command("verify", str(place / "bundle"), *names)
    assert (code, err) == (0, "")
    assert right > 0.5
    assert f"y (segmentation): pixel accuracy ANN 100.00%, SNN {right:.2%}; mIoU ANN 100.00%" in out
    assert "accuracy: " not in out
    assert "top-1" not in out
    code, out, _ = command("verify", str(place / "bundle"), *names, "--json")
    values = json.loads(out)
    assert values["outputs"]["y"]["pixel_accuracy"] == right
    assert values["outputs"]["y"]["ann_miou"] == 1
    assert {"ann_accuracy", "snn_accuracy"}.isdisjoint(values)
    (comparison,) = values["comparisons"]
    assert (comparison["top1_agreement"], comparison["class_agreement"]) == (None, {"y": 1.0})


def test_evaluate_gives_pixel_accuracy_of_a_segmentation(segmentation: tuple[Path, Any]) -> None:
    place, right = segmentation
    names = ("--images", f"{place}/data.npz:x", "--labels", f"{place}/data.npz:y")
    more = ("--parity-backend", "reference", "--shard-size", "5")
    code, out, err = command("evaluate", str(place / "bundle"), *names, *more)
    assert (code, err) == (0, "")
    for words in ("y (segmentation): 23 samples on torch", "pixel accuracy", "mIoU", "same class"):
        assert words in out
    assert "top-1" not in out
    code, out, _ = command("evaluate", str(place / "bundle"), *names, *more, "--json")
    values = json.loads(out)
    assert values["outputs"]["y"]["pixel_accuracy"] == right
    assert values["outputs"]["y"]["pixel_accuracy_over_time"]["6"] == right
    assert (values["top1"], values["ann_agreement"], values["top1_over_time"]) == (None, None, {})


@pytest.mark.parametrize("integer", [False, True])
def test_a_regression_is_measured_in_units_of_the_ann(tmp_path: Path, integer: bool) -> None:
    network = map_network(1, tasks={"y": "regression"})
    x = unit_samples(network, COUNT)
    if integer:
        network = quantize(network, x, replace(as_ann(network), tasks=network.tasks)).network
        assert network.is_integer
        assert network.output_unit != 1
    built = bundle_of(tmp_path / "bundle", network, as_ann(map_network(1)))
    np.save(tmp_path / "x.npy", x)
    ann = run_ann(as_ann(map_network(1)), x)
    truth = ann + np.random.default_rng(0).normal(size=ann.shape) / 8
    given = open_samples(str(tmp_path / "x.npy"))
    found = evaluate(built, given, truth, EvaluationOptions(shard_size=7, batch_size=3))
    logits = ReferenceSimulator(network).run(to_input_units(network, x)).logits
    logits = logits * (network.output_unit or 1)
    total = np.square(truth - truth.mean(axis=(0, 2, 3), keepdims=True)).sum()
    figures = found.outputs["y"]
    assert figures["r2"] == pytest.approx(1 - np.square(logits - truth).sum() / total, rel=1e-5)
    # the ANN of an integer network takes the rounded inputs
    tolerance = 2e-2 if integer else 1e-6
    assert figures["ann_r2"] == pytest.approx(1 - np.square(ann - truth).sum() / total, tolerance)
    spread = np.square(ann - ann.mean()).sum()
    wanted = np.sqrt(np.square(logits - ann).sum() / spread)
    assert figures["ann_deviation"] == pytest.approx(wanted, rel=2e-2 if integer else 1e-5)
    assert figures["ann_deviation_over_time"][6] == pytest.approx(figures["ann_deviation"])
    assert found.top1 is None
    report = verify(built, ["torch"], x, labels=truth)
    assert report.outputs["y"]["r2"] == pytest.approx(figures["r2"], rel=1e-5)
    assert report.snn_accuracy is None
    unlabelled = verify(built, ["torch"], x).outputs["y"]
    assert set(unlabelled) == {"task", "ann_deviation"}


def test_several_outputs_are_shown_each_by_name(tmp_path: Path) -> None:
    network = two_headed_network(tasks={"box": "regression"})
    bundle_of(tmp_path / "bundle", network)
    x = unit_samples(network, COUNT)
    ann = named_outputs(network, run_ann(as_ann(network), x))
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "y.npz", label=ann["label"].argmax(axis=1), box=ann["box"])
    names = ("--images", f"{tmp_path}/x.npy", "--labels", f"{tmp_path}/y.npz")
    found = named_outputs(network, ReferenceSimulator(network).run(x).logits)
    right = np.mean(found["label"].argmax(axis=1) == ann["label"].argmax(axis=1))
    code, out, err = command("verify", str(tmp_path / "bundle"), *names)
    assert (code, err) == (0, "")
    assert f"label (classification): top-1 ANN 100.00%, SNN {right:.2%}" in out
    assert "box (regression): R^2 ANN 1, SNN 0." in out
    assert "same class" in out
    code, out, err = command("evaluate", str(tmp_path / "bundle"), *names, "--json")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert list(values["outputs"]) == ["label", "box"]
    assert values["outputs"]["label"]["top1"] == right
    assert values["outputs"]["box"]["ann_r2"] == 1
    assert values["top1"] is None
    code, out, _ = command("evaluate", str(tmp_path / "bundle"), *names)
    assert "label (classification): 23 samples" in out
    assert "box (regression): 23 samples" in out


def test_a_continued_evaluation_keeps_the_order_of_outputs(tmp_path: Path) -> None:
    network = two_headed_network(tasks={"box": "regression"})
    built = bundle_of(tmp_path / "bundle", network)
    np.save(tmp_path / "x.npy", unit_samples(network, COUNT))
    given = open_samples(str(tmp_path / "x.npy"))
    options = EvaluationOptions(shard_size=7)
    first, again = (
        evaluate(built, given, None, options, out=tmp_path / "out").to_json() for _ in range(2)
    )
    assert json.dumps(first) == json.dumps(again)
    assert list(again["outputs"]) == ["label", "box"]


def test_labels_of_several_files_are_joined(tmp_path: Path) -> None:
    network = two_headed_network()
    for n in range(2):
        box = np.full((3, 2, 2), n, np.float32)
        np.savez(tmp_path / f"{n}.npz", x=np.zeros((3, 4)), label=np.full(3, n), box=box)
    found = open_output_labels(network, str(tmp_path))
    assert found["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert found["box"][:, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_labels_of_several_files_have_one_shape(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", label=np.zeros(3, int), box=np.zeros((3, 2, 2)))
    np.savez(tmp_path / "1.npz", label=np.zeros(3, int), box=np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"1\.npz:box: \[3, 2\], but .*0\.npz:box holds"):
        open_output_labels(two_headed_network(), str(tmp_path))


@pytest.fixture
def number(tmp_path: Path) -> tuple[str, ...]:
    """A bundle of a network of one value, which its shape takes for a logit, and arguments."""
    network = number_network()
    bundle_of(tmp_path / "bundle", network)
    x = unit_samples(network, COUNT)
    np.savez(tmp_path / "data.npz", x=x, y=run_ann(as_ann(network), x)[:, 0])
    data = f"{tmp_path}/data.npz"
    return (str(tmp_path / "bundle"), "--images", f"{data}:x", "--labels", f"{data}:y")


@pytest.mark.parametrize("name", ["verify", "evaluate"])
def test_a_task_is_declared_where_the_one_of_the_bundle_is_wrong(
    number: tuple[str, ...], name: str
) -> None:
    code, _, err = command(name, *number)
    assert code == 2
    assert "data.npz:y: float64 [23]; integers [N] are needed; output y is judged as " in err
    assert "binary, declare another task with --task" in err
    code, out, err = command(name, *number, "--task", "regression", "--json")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert values["outputs"]["y"]["ann_r2"] == 1
    assert values["outputs"]["y"]["ann_deviation"] < 1
    assert values["graph_hash"] == open_bundle(number[0]).graph_hash
    code, _, err = command(name, *number, "--task", "segmentation")
    assert code == 2
    assert "task segmentation of output y of shape [1]: logits of several positions" in err


def test_a_single_value_is_no_label() -> None:
    network = map_network(1)
    with pytest.raises(DataError, match="a single value; one per sample"):
        check_output_labels(network, np.array(3.0), 4)


EXITS = [
    (map_network(3, tasks={"y": "segmentation"}), r"gives y \(segmentation\)"),
    (two_headed_network(), r"gives label \(classification\), box \(regression\)"),
    (map_network(1), r"gives y \(regression\)"),
]


@pytest.mark.parametrize(("network", "message"), EXITS)
def test_early_exit_is_for_one_classifier(tmp_path: Path, network: Graph, message: str) -> None:
    with pytest.raises(DataError, match=f"early exit: the network {message}"):
        confidence_unit(network)
    built = bundle_of(tmp_path / "bundle", network)
    np.save(tmp_path / "x.npy", unit_samples(network, 3))
    with pytest.raises(DataError, match="Leave early exit out"):
        evaluate(
            built,
            open_samples(str(tmp_path / "x.npy")),
            None,
            EvaluationOptions(confidence=0.5),
        )
