"""Figures of an evaluation: the same as counted by hand, whatever the shards and the breaks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator, run_ann
from icsnn_deploy.backends.torch.early_exit import run_until_sure
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.cli import app
from icsnn_deploy.errors import BackendUnavailableError, BundleError, DataError
from icsnn_deploy.evaluation.counts import Counts, from_json, total
from icsnn_deploy.evaluation.options import EvaluationOptions
from icsnn_deploy.evaluation.run import evaluate
from icsnn_deploy.evaluation.samples import open_samples
from icsnn_deploy.graph.inputs import encode_rate, to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv
from icsnn_deploy.judging.count import places
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.parity.judge import Tolerance
from tests.support.building import node_of
from tests.support.evaluating import NETWORK, as_ann, build, data, run

COUNT = 23


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    build(folder / "bundle", NETWORK, "onnx", "onnx-step")
    data(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def bundle(place: Path) -> Bundle:
    from icsnn_deploy.bundle.bundle import open_bundle

    return open_bundle(place / "bundle")


def test_figures_are_those_counted_by_hand(bundle: Bundle, place: Path) -> None:
    x, y = np.load(place / "x.npy"), np.load(place / "y.npy")
    expected = ReferenceSimulator(NETWORK).run(x, Record(logits_t=True))
    ann = run_ann(as_ann(NETWORK), x)
    found = run(bundle, place, shard_size=7, batch_size=3, confidence=0.2)
    assert found.counts.samples == COUNT
    assert found.top1 == np.mean(expected.logits.argmax(axis=1) == y)
    assert found.ann_top1 == np.mean(ann.argmax(axis=1) == y)
    five = np.argsort(-expected.logits, axis=1, kind="stable")[:, :5]
    assert found.top5 == np.mean((five == y[:, None]).any(axis=1))
    assert found.agreement == np.mean(expected.logits.argmax(axis=1) == ann.argmax(axis=1))
    assert expected.logits_t is not None
    for t, logits in enumerate(expected.logits_t, start=1):
        assert found.top1_t[t] == np.mean(logits.argmax(axis=1) == y)
        assert found.agreement_t[t] == np.mean(logits.argmax(axis=1) == ann.argmax(axis=1))
    assert list(found.top1_t) == list(range(1, 7))
    spikes = {name: int(s.sum()) for name, s in expected.spikes.items()}
    assert found.counts.spikes == spikes
    assert found.spikes == sum(spikes.values()) / COUNT
    assert found.firing_rate == pytest.approx(found.spikes / (3 * 4 * 6 * 6 * 6))
    assert found.layers["stem.if"]["spikes"] == spikes["stem.if"] / COUNT
    early = run_until_sure(TorchSimulator(NETWORK), x, 0.2)
    assert found.mean_steps == early.mean_steps
    assert 1 < found.mean_steps < 6
    assert found.exit_top1 == np.mean(early.logits.argmax(axis=1) == y)
    assert found.exit_agreement == np.mean(early.logits.argmax(axis=1) == ann.argmax(axis=1))
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize(("shard_size", "batch_size"), [(1, 1), (5, 64), (64, 4), (23, 23)])
def test_shards_and_batches_change_nothing(
    bundle: Bundle, place: Path, shard_size: int, batch_size: int
) -> None:
    options: dict[str, Any] = {"confidence": 0.2, "parity": ("reference", "onnxruntime")}
    expected = run(bundle, place, **options)
    found = run(bundle, place, shard_size=shard_size, batch_size=batch_size, **options)
    assert found.to_json() == expected.to_json()


def test_without_labels(bundle: Bundle, place: Path) -> None:
    found = run(bundle, place, labelled=False, limit=9)
    assert (found.top1, found.ann_top1, found.top1_t) == (None, None, {})
    assert found.agreement is not None
    assert len(found.agreement_t) == 6
    assert found.counts.samples == 9


def test_without_an_ann(tmp_path: Path) -> None:
    built = build(tmp_path / "bundle", NETWORK, ann=False)
    data(tmp_path, 5)
    found = run(built, tmp_path)
    assert (found.ann_top1, found.agreement, found.agreement_t) == (None, None, {})
    assert found.top1 is not None


def test_before_the_readout_starts_there_is_no_class(tmp_path: Path) -> None:
    built = build(tmp_path / "bundle", replace(NETWORK, readout_start=2))
    data(tmp_path, 5)
    assert list(run(built, tmp_path).top1_t) == [3, 4, 5, 6]


def test_an_onnx_file_is_measured_too(bundle: Bundle, place: Path) -> None:
    expected = run(bundle, place)
    found = run(bundle, place, backend="onnxruntime", parity=("torch",))
    assert (found.top1, found.spikes) == (expected.top1, expected.spikes)
    assert found.top1_t == {}  # not in the file
    assert run(bundle, place, backend="onnxruntime-step").top1_t == expected.top1_t
    assert [c.backend for c in found.counts.parity] == ["torch"]


def test_spike_input(tmp_path: Path) -> None:
    source = replace(NETWORK.input, encoding="rate", dtype="uint8")
    network = NETWORK.replace(source)
    built = build(tmp_path / "bundle", network, ann=False)
    x = encode_rate(np.random.default_rng(0).random((9, *source.shape)), 6, seed=1)
    np.save(tmp_path / "x.npy", x)
    given = open_samples(str(tmp_path / "x.npy"), axis=1, whole=True)
    found = evaluate(built, given, None, EvaluationOptions(shard_size=4, batch_size=3))
    expected = ReferenceSimulator(network).run(x)
    assert found.counts.samples == 9
    assert found.counts.spikes == {name: int(s.sum()) for name, s in expected.spikes.items()}


# Parity


def tampered(path: Path) -> Bundle:
    """A bundle whose ONNX export holds another bias."""
    from icsnn_deploy.exporters import FORMATS, export

    built = build(path)
    node = node_of(NETWORK, "block.conv1", Conv)
    other = NETWORK.replace(replace(node, bias=node.bias + np.float32(1 / 4)))
    return built.with_export("onnx", FORMATS["onnx"].file, lambda file: export(other, file, "onnx"))


def test_differences_are_counted(tmp_path: Path) -> None:
    built = tampered(tmp_path / "bundle")
    x, _ = data(tmp_path, 11)
    found = run(built, tmp_path, parity=("onnxruntime", "reference"), shard_size=4)
    assert found.verdict == "fail"
    bad, good = found.counts.parity
    assert (good.verdict, good.spike_mismatches, good.logit_mismatches) == ("pass", 0, 0)
    from icsnn_deploy.backends import open_backend

    ours = ReferenceSimulator(NETWORK).run(x)
    theirs = open_backend(built, "onnxruntime").run(x)
    different = {name: ours.spikes[name] != theirs.spikes[name] for name in ours.spikes}
    assert bad.spike_mismatches == sum(int(d.sum()) for d in different.values()) > 0
    assert bad.images_affected == len(
        {int(image) for d in different.values() for image in np.nonzero(d)[1]}
    )
    assert bad.logit_mismatches == np.count_nonzero(ours.logits.astype(np.float32) != theirs.logits)
    assert bad.images == 11
    assert bad.first_divergence is not None
    assert bad.first_divergence.layer == "block.if1"


def test_an_integer_network_must_be_exact(tmp_path: Path) -> None:
    x, _ = data(tmp_path, 12)
    integer = quantize(NETWORK, x, None, LatticeOptions(bits=5)).network
    built = build(tmp_path / "bundle", integer, "onnx", ann=False)
    units = to_input_units(integer, x)
    np.save(tmp_path / "x.npy", units)
    given = open_samples(str(tmp_path / "x.npy"), whole=True)
    options = EvaluationOptions(
        parity=("onnxruntime", "reference"), confidence=0.3, shard_size=5, batch_size=2
    )
    found = evaluate(built, given, None, options)
    assert [(c.verdict, c.spike_mismatches, c.logit_mismatches) for c in found.counts.parity] == [
        ("pass", 0, 0)
    ] * 2
    assert found.mean_steps is not None
    unit = integer.output_unit
    assert isinstance(unit, float)
    early = run_until_sure(TorchSimulator(integer), units, 0.3, unit=unit)
    assert found.mean_steps == early.mean_steps


# Counting


@settings(max_examples=100)
@given(st.data())
def test_places_of_labels(draw: st.DataObject) -> None:
    classes = draw.draw(st.integers(2, 7))
    rows = draw.draw(st.lists(st.lists(st.integers(0, 3), min_size=classes, max_size=classes)))
    labels = [draw.draw(st.integers(0, classes - 1)) for _ in rows]
    if not rows:
        return
    found = places(np.array(rows, float), np.array(labels))
    order = [[c for _, c in sorted((-row[c], c) for c in range(classes))] for row in rows]
    assert found.tolist() == [o.index(label) for o, label in zip(order, labels, strict=True)]


def test_counts_come_back_from_json(bundle: Bundle, tmp_path: Path) -> None:
    built = tampered(tmp_path / "bundle")
    data(tmp_path, 5)
    counts = run(built, tmp_path, parity=("onnxruntime",), confidence=0.2).counts
    assert counts.parity[0].divergences
    assert from_json(json.loads(json.dumps(counts.to_json()))) == counts
    assert total([counts], Tolerance()) == counts
    assert from_json(json.loads(json.dumps(Counts().to_json()))) == Counts()


# What is refused


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, DataError, "batch_size 0"),
        ({"shard_size": 0}, DataError, "shard_size 0"),
        ({"confidence": 0.0}, DataError, "0 < c <= 1"),
        ({"confidence": 1.5}, DataError, "0 < c <= 1"),
        (
            {"confidence": 0.5, "backend": "onnxruntime"},
            DataError,
            "early exit on onnxruntime: it does not record the logits of each step",
        ),
        ({"backend": "nothing"}, BackendUnavailableError, "no backend 'nothing'"),
        ({"parity": ("nothing",)}, BackendUnavailableError, "no backend 'nothing'"),
        ({"parity": ("nir",)}, BundleError, "no nir export"),
        ({"limit": 0}, DataError, "a limit of 0"),
        ({"margin": -1.0}, DataError, "a tolerance of -1.0 for margin"),
        ({"margin": float("nan")}, DataError, "a tolerance of nan for margin"),
        ({"parity": ("torch",)}, DataError, "torch compared with itself"),
    ],
)
def test_options_that_make_no_sense(
    bundle: Bundle, place: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(bundle, place, **options)


@pytest.mark.parametrize(
    "y", [np.full(COUNT, -1), np.full(COUNT, 100), np.zeros(COUNT), np.zeros(3, int)]
)
def test_labels_are_checked_wherever_they_come_from(
    bundle: Bundle, place: Path, tmp_path: Path, y: Array
) -> None:
    with pytest.raises(DataError, match="labels"):
        evaluate(bundle, open_samples(str(place / "x.npy")), y, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_of_any_integer_type_are_the_same_labels(
    bundle: Bundle, place: Path, tmp_path: Path
) -> None:
    x, y = open_samples(str(place / "x.npy")), np.load(place / "y.npy")
    found = [
        evaluate(bundle, x, y.astype(kind), out=tmp_path / "out").to_json()
        for kind in (np.uint8, np.int32, np.uint64)
    ]
    assert found[0] == found[1] == found[2]


# The command


def command(*arguments: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["evaluate", *arguments])
    return found.exit_code, found.stdout, found.stderr


def test_the_command(place: Path) -> None:
    names = (str(place / "bundle"), "--images", f"{place}/x.npy", "--labels", f"{place}/y.npy")
    more = ("--parity-backend", "onnxruntime", "--early-exit", "0.2", "--shard-size", "8")
    code, out, err = command(*names, *more)
    assert (code, err) == (0, "")
    for words in (
        "23 samples on torch",
        "early exit at 0.2",
        "parity with torch: pass",
        "spikes per sample",
    ):
        assert words in out
    code, out, err = command(*names, *more, "--json")
    assert (code, err) == (0, "")
    values = json.loads(out)
    assert values["samples"] == 23
    assert values["parity"]["comparisons"][0]["spike_mismatches"] == 0
    assert values["early_exit"]["confidence"] == 0.2


def test_the_command_shows_what_was_measured_alone(place: Path) -> None:
    names = (str(place / "bundle"), "--images", f"{place}/x.npy")
    for labels, shown in (((), False), (("--labels", f"{place}/y.npy"), True)):
        code, out, _ = command(*names, *labels)
        assert code == 0
        assert ("top-1" in out, "top-5" in out, "as the ANN" in out) == (shown, shown, True)


def test_the_command_fails_where_parity_does(tmp_path: Path) -> None:
    tampered(tmp_path / "bundle")
    data(tmp_path, 5)
    names = (str(tmp_path / "bundle"), "--images", f"{tmp_path}/x.npy")
    code, out, _ = command(*names, "--parity-backend", "onnxruntime")
    assert code == 1
    assert "parity with torch: fail" in out


def test_the_command_says_what_is_wrong(place: Path) -> None:
    code, out, err = command(str(place / "bundle"), "--images", f"{place}/none.npy")
    assert (code, out) == (2, "")
    assert err == f"error: {place}/none.npy: no such file\n"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "nothing is kept"),
        (("--out", "kept"), "the same command continues from what kept holds"),
    ],
)
def test_the_command_says_what_ctrl_c_leaves(
    place: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], said: str
) -> None:
    def pressed(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("icsnn_deploy.evaluation.run.evaluate", pressed)
    code, out, err = command(str(place / "bundle"), "--images", f"{place}/x.npy", *more)
    assert (code, out) == (130, "")
    assert said in err


def test_the_command_refuses_labels_of_another_data_set(place: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "y.npy", np.zeros(COUNT + 1, int))
    names = (str(place / "bundle"), "--images", f"{place}/x.npy")
    code, _, err = command(*names, "--limit", "4", "--labels", f"{tmp_path}/y.npy")
    assert (code, err) == (
        2,
        "error: 24 labels for a data set of 23 samples: one label per sample is "
        "needed, in the same order\n",
    )
