"""Backends of a bundle beside the reference: agreement, tampering, recordings, chunks."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.recording_file import load_recording, save_recording
from icsnn_deploy.backends.reference import ReferenceSimulator, run_ann
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.errors import BackendUnavailableError, BundleError, DataError
from icsnn_deploy.exporters import FORMATS, GENERAL, export
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv, Flatten, Input, Linear, Node, Output, Relu
from icsnn_deploy.parity.judge import Tolerance
from icsnn_deploy.parity.report import ParityReport
from icsnn_deploy.parity.verify import verify
from tests.support.graphs import residual_network, samples

BACKENDS = ("reference", "torch", "onnxruntime", "onnxruntime-step", "nir")
NETWORK = residual_network(time_steps=4)
INPUTS = samples(NETWORK, 7)


def as_ann(network: Graph) -> Graph:
    """The network with a Relu in the place of each population."""
    nodes: list[Node] = [
        Relu(name=node.name, inputs=node.inputs) if isinstance(node, IF) else node
        for node in network.nodes
    ]
    return Graph(nodes=tuple(nodes))


def build(path: Path, network: Graph, inputs: Array, exported: Graph | None = None) -> Bundle:
    """A bundle with its exports; `exported` is what the exports hold instead of the network."""
    bundle = create_bundle(
        path, network=network, ann=as_ann(network), samples=inputs, report={"recipe": "none"}
    )
    for name in GENERAL:

        def write(file: Path, name: str = name) -> None:
            export(exported or network, file, name)

        bundle = bundle.with_export(name, FORMATS[name].file, write)
    return bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("verify") / "bundle"
    build(path, NETWORK, INPUTS)
    return open_bundle(path)


def changed(network: Graph, name: str, change: float) -> Graph:
    """The network with another bias in one convolution."""
    node = network.node(name)
    assert isinstance(node, Conv)
    return network.replace(replace(node, bias=node.bias + np.float32(change)))


def test_every_backend_agrees_on_the_own_samples(bundle: Bundle) -> None:
    report = verify(bundle, BACKENDS, tolerance=Tolerance(exact=True))
    assert report.verdict == "pass"
    assert [c.backend for c in report.comparisons] == list(BACKENDS)
    neurons = 3 * 4 * 6 * 6
    assert {c.images for c in report.comparisons} == {7}
    assert {c.spikes_compared for c in report.comparisons} == {4 * 7 * neurons}
    assert {c.spike_mismatches for c in report.comparisons} == {0}
    assert {c.max_abs_logit_difference for c in report.comparisons} == {0.0}
    counts = report.comparisons[0].spike_counts
    assert all(0 < ours < 4 * 7 * 4 * 6 * 6 for ours, _ in counts.values())
    assert report.graph_hash == NETWORK.hash()
    assert report.ann_accuracy is None


@pytest.mark.parametrize(
    ("convolution", "layer"),
    [("stem.conv", "stem.if"), ("block.conv1", "block.if1"), ("block.conv2", "block.if2")],
)
def test_a_tampered_export_fails_at_the_layer(tmp_path: Path, convolution: str, layer: str) -> None:
    tampered = changed(NETWORK, convolution, 0.5)
    built = build(tmp_path / "bundle", NETWORK, INPUTS, exported=tampered)
    report = verify(built, BACKENDS, behavior_only=True)
    assert report.verdict == "fail"
    by_name = {c.backend: c for c in report.comparisons}
    assert {name: c.verdict for name, c in by_name.items()} == {
        "reference": "pass",
        "torch": "pass",
        "onnxruntime": "fail",
        "onnxruntime-step": "fail",
        "nir": "fail",
    }
    for name in ("onnxruntime", "onnxruntime-step", "nir"):
        found = by_name[name]
        assert 0 < found.images_affected <= 7
        first = found.first_divergence
        assert first is not None
        assert first.layer == layer
        assert first.u_reference is not None
        assert first.u_other is not None
        assert first.u_other - first.u_reference == pytest.approx(0.5)
        assert layer in found.reason


def test_a_tampered_head_fails_by_its_logits(tmp_path: Path) -> None:
    head = NETWORK.node("head")
    assert isinstance(head, Linear)
    other = NETWORK.replace(replace(head, bias=head.bias + np.float32(0.5)))
    built = build(tmp_path / "bundle", NETWORK, INPUTS, other)
    report = verify(built, ["nir", "onnxruntime"], behavior_only=True)
    assert [c.verdict for c in report.comparisons] == ["fail", "fail"]
    assert [c.spike_mismatches for c in report.comparisons] == [0, 0]
    assert report.comparisons[0].max_abs_logit_difference == pytest.approx(0.5)


def test_an_export_of_another_network(tmp_path: Path) -> None:
    other = Graph(
        nodes=tuple(
            [
                replace(
                    node,
                    name=node.name.replace("block.", "stage."),
                    inputs=tuple(name.replace("block.", "stage.") for name in node.inputs),
                )
                for node in NETWORK.nodes
            ]
        ),
        time_steps=4,
    )
    built = build(tmp_path / "bundle", NETWORK, INPUTS, exported=other)
    for backend in ("nir", "onnxruntime", "onnxruntime-step"):
        with pytest.raises(DataError, match=r"'stage\.if1', which is not a population"):
            verify(built, [backend], behavior_only=True)


def test_other_inputs_than_the_samples(bundle: Bundle) -> None:
    report = verify(bundle, ["torch"], samples(NETWORK, 3, seed=9))
    assert (report.verdict, report.comparisons[0].images) == ("pass", 3)


def test_labels_give_accuracies(bundle: Bundle) -> None:
    ann = run_ann(as_ann(NETWORK), INPUTS).argmax(axis=1)
    snn = ReferenceSimulator(NETWORK).run(INPUTS).logits.argmax(axis=1)
    labels = snn.copy()
    labels[:2] = (labels[:2] + 1) % 10
    report = verify(bundle, ["torch"], INPUTS, labels=labels)
    assert report.snn_accuracy == pytest.approx(5 / 7)
    assert report.ann_accuracy == pytest.approx(float(np.mean(ann == labels)))
    longer = np.concatenate([labels, labels])
    assert verify(bundle, ["torch"], INPUTS, labels=longer).snn_accuracy == report.snn_accuracy
    json.dumps(report.to_json(), allow_nan=False)


def test_too_few_labels_are_told_before_anything_runs(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReferenceSimulator, "run", None)
    with pytest.raises(DataError, match="6 labels for 7 samples"):
        verify(bundle, ["torch"], INPUTS, labels=np.zeros(6, int))


@pytest.mark.parametrize("labels", [np.full(7, -1), np.full(7, 10), np.zeros(7)])
def test_labels_that_are_no_classes(bundle: Bundle, labels: Array) -> None:
    with pytest.raises(DataError, match="labels"):
        verify(bundle, ["torch"], INPUTS, labels=labels)


def test_a_backend_named_twice_is_compared_once(bundle: Bundle) -> None:
    report = verify(bundle, ["torch", "torch"], INPUTS)
    assert [(c.backend, c.images) for c in report.comparisons] == [("torch", 7)]


def report_with_chunks(
    bundle: Bundle, size: int, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[ParityReport, list[tuple[str, int, int | None]]]:
    """The report when `size` images fit into the memory, and the progress that was told."""
    told: list[tuple[str, int, int | None]] = []
    backends: Sequence[str] = ("torch", "nir")
    # as images_at_once counts: a byte a spike, for each backend and ten times for the reference
    per_image = 3 * 4 * 6 * 6 * 4 * (len(backends) + 10)
    monkeypatch.setattr("icsnn_deploy.parity.verify.DEFAULT_MEMORY", size * per_image)
    report = verify(
        bundle,
        backends,
        labels=np.arange(7),
        progress=lambda *step: told.append(step),
        **options,
    )
    return report, told


STAGES = ("reference", "comparing torch", "comparing nir")


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_report_does_not_depend_on_the_chunks(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tampered = changed(NETWORK, "block.conv1", 1 / 64)
    built = build(tmp_path / "bundle", NETWORK, INPUTS, exported=tampered)
    run = ReferenceSimulator(tampered).run(INPUTS)
    recording = replace(run, backend="chip")
    whole, told = report_with_chunks(built, 100, monkeypatch, against=recording, behavior_only=True)
    inner = {"reference, steps", "samples on torch", "nodes of the ANN"}
    assert inner <= {step[0] for step in told}
    assert [step for step in told if step[0] not in inner] == [
        *((f"opening {name}", done, 1) for name in ("nir", "torch") for done in range(2)),
        *((stage, done, 7) for stage in STAGES for done in (0, 7)),
        *(("batches of the ANN", done, 1) for done in range(2)),
    ]
    parts, told = report_with_chunks(
        built, size, monkeypatch, against=recording, behavior_only=True
    )
    for stage in STAGES:
        done = [(start, min(start + size, 7)) for start in range(0, 7, size)]
        assert [step[1] for step in told if step[0] == stage] == [n for ends in done for n in ends]
    assert parts.to_json() == whole.to_json()
    assert [c.verdict for c in whole.comparisons] == ["pass", "fail", "fail"]


def test_an_external_recording(bundle: Bundle, tmp_path: Path) -> None:
    run = ReferenceSimulator(NETWORK).run(INPUTS)
    save_recording(run, tmp_path / "chip.npz")
    read = load_recording(tmp_path / "chip.npz", NETWORK, "chip")
    assert read.backend == "chip"
    assert list(read.spikes) == list(run.spikes)
    for name, spikes in run.spikes.items():
        assert np.array_equal(read.spikes[name], spikes)
        assert read.spikes[name].dtype == np.uint8
    assert np.array_equal(read.logits, run.logits)
    report = verify(bundle, [], against=read, tolerance=Tolerance(exact=True))
    assert [(c.backend, c.verdict) for c in report.comparisons] == [("chip", "pass")]


@pytest.mark.parametrize("name", ["chip.npz", "chip"])
def test_a_recording_is_written_whole_under_the_name_given(tmp_path: Path, name: str) -> None:
    run = ReferenceSimulator(NETWORK).run(INPUTS)
    save_recording(run, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert np.array_equal(load_recording(tmp_path / name, NETWORK, "chip").logits, run.logits)
    with pytest.raises(DataError, match="can't be written"):
        save_recording(run, tmp_path / "none" / name)


def test_an_external_recording_that_differs(bundle: Bundle) -> None:
    run = ReferenceSimulator(NETWORK).run(INPUTS)
    spikes = {name: s.copy() for name, s in run.spikes.items()}
    spikes["block.if1"][2, 5, 3, 4, 1] ^= 1
    against = replace(run, backend="torch", spikes=spikes)
    report = verify(bundle, ["torch"], against=against)
    assert [(c.verdict, c.images) for c in report.comparisons] == [("pass", 7), ("fail", 7)]
    first = report.comparisons[1].first_divergence
    assert first is not None
    assert (first.image, first.layer, first.step) == (5, "block.if1", 3)
    assert first.neuron == (3, 4, 1)
    assert first.u_reference is not None
    assert first.u_other is None
    assert "not recorded in the other" in str(first)


def test_a_recording_shows_the_potential_of_its_own_image_in_every_batch(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(potentials=frozenset({"block.if1"}))
    run = ReferenceSimulator(NETWORK).run(INPUTS, record)
    spikes = {name: s.copy() for name, s in run.spikes.items()}
    spikes["block.if1"][2, 5, 3, 4, 1] ^= 1
    against = replace(run, backend="chip", spikes=spikes)
    whole = verify(bundle, [], against=against).comparisons[0].first_divergence
    monkeypatch.setattr("icsnn_deploy.parity.verify.images_at_once", lambda *_: 2)
    parts = verify(bundle, [], against=against).comparisons[0].first_divergence
    assert whole is not None
    assert whole.u_other == run.potentials["block.if1"][2, 5, 3, 4, 1]
    assert parts == whole


def recorded(path: Path, **arrays: object) -> Path:
    """A recording file with the reference's arrays, some of them replaced or added."""
    run = ReferenceSimulator(NETWORK).run(INPUTS)
    content: dict[str, object] = {"logits": run.logits, **run.spikes, **arrays}
    kept: dict[str, Any] = {name: np.asarray(a) for name, a in content.items() if a is not None}
    np.savez(path, **kept)
    return path


def test_a_recording_of_one_layer(tmp_path: Path, bundle: Bundle) -> None:
    absent = {"stem.if": None, "block.if2": None}
    read = load_recording(recorded(tmp_path / "r.npz", **absent), NETWORK, "chip")
    assert list(read.spikes) == ["block.if1"]
    assert verify(bundle, [], against=read).verdict == "pass"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits": None}, "no array 'logits'"),
        ({"logits": np.zeros((7, 9))}, r"logits float64 \[7, 9\]"),
        ({"logits": np.zeros(7)}, r"logits float64 \[7\]"),
        ({"logits": np.full((7, 10), "1")}, r"logits <U1"),
        ({"logits": np.zeros((7, 10), complex)}, "logits complex128"),
        ({"unknown": np.zeros(3)}, r"'unknown' is not a population"),
        ({"stem.conv": np.zeros((4, 7, 4, 6, 6))}, r"'stem\.conv' is not a population"),
        ({"stem.if": np.zeros((5, 7, 4, 6, 6))}, r"stem\.if float64 \[5, 7, 4, 6, 6\]"),
        ({"stem.if": np.zeros((4, 6, 4, 6, 6))}, r"\[4, 7, 4, 6, 6\] are needed"),
        ({"stem.if": np.full((4, 7, 4, 6, 6), 2)}, "0 and 1"),
        ({"stem.if": np.full((4, 7, 4, 6, 6), np.nan)}, "0 and 1"),
        ({"stem.if": np.full((4, 7, 4, 6, 6), "1")}, "0 and 1"),
    ],
)
def test_recordings_that_do_not_fit(
    tmp_path: Path, arrays: dict[str, object], message: str
) -> None:
    path = recorded(tmp_path / "r.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load_recording(path, NETWORK, "chip")
    assert str(path) in str(caught.value)


def test_recordings_that_can_not_be_read(tmp_path: Path) -> None:
    good = recorded(tmp_path / "good.npz").read_bytes()
    bad = tmp_path / "bad.npz"
    cases = [b"", b"no archive", good[: len(good) // 2], good[:-30]]
    middle = len(good) // 2
    cases.append(good[:middle] + bytes(64) + good[middle + 64 :])
    for data in cases:
        bad.write_bytes(data)
        with pytest.raises(DataError, match=r"bad\.npz"):
            load_recording(bad, NETWORK, "chip")
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "single.npy").rename(bad)
    with pytest.raises(DataError, match="not an archive"):
        load_recording(bad, NETWORK, "chip")
    with pytest.raises(DataError, match="no such file"):
        load_recording(tmp_path / "missing.npz", NETWORK, "chip")
    with zipfile.ZipFile(bad, "w"):
        pass
    with pytest.raises(DataError, match="holds nothing"):
        load_recording(bad, NETWORK, "chip")


def test_pickles_in_a_recording_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.npz"
    np.savez(path, logits=np.array([object()], dtype=object))
    with pytest.raises(DataError, match="pickle"):
        load_recording(path, NETWORK, "chip")


def test_a_recording_of_another_number_of_images(bundle: Bundle) -> None:
    against = replace(ReferenceSimulator(NETWORK).run(INPUTS[:3]), backend="chip")
    with pytest.raises(DataError, match="chip: 3 images, 7 are needed"):
        verify(bundle, ["torch"], against=against)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((3, 2, 6, 7), np.float32), r"\(3, 2, 6, 7\)"),
        (np.zeros((2, 6, 6), np.float32), r"\[B, 2, 6, 6\]"),
        (np.full((1, 2, 6, 6), np.nan, np.float32), "NaN"),
        (np.full((1, 2, 6, 6), "1"), "real numbers"),
        (np.zeros((0, 2, 6, 6), np.float32), "nothing to compare"),
    ],
)
def test_wrong_inputs(bundle: Bundle, inputs: Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        verify(bundle, ["torch"], inputs)


def test_no_backends(bundle: Bundle) -> None:
    with pytest.raises(DataError, match="nothing to compare"):
        verify(bundle, [])


def test_an_unknown_backend_lists_the_known_ones(bundle: Bundle) -> None:
    with pytest.raises(BackendUnavailableError, match="'lava'; there are reference, torch,"):
        verify(bundle, ["lava"])


def test_a_device_that_is_not_there(bundle: Bundle) -> None:
    with pytest.raises(BackendUnavailableError, match="'abacus'"):
        verify(bundle, ["torch:abacus"])
    with pytest.raises(BackendUnavailableError, match="AbacusExecutionProvider"):
        verify(bundle, ["onnxruntime:AbacusExecutionProvider"])


def test_a_missing_export_names_the_command(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    built = create_bundle(
        path, network=NETWORK, ann=as_ann(NETWORK), samples=INPUTS, report={"recipe": "none"}
    )
    for backend, needed in [
        ("nir", "nir"),
        ("onnxruntime", "onnx"),
        ("onnxruntime-step", "onnx-step"),
    ]:
        with pytest.raises(BundleError) as caught:
            verify(built, ["torch", backend])
        assert str(caught.value).endswith(f"run: icsnn export {path} --format {needed}")


def test_spikes_as_input(tmp_path: Path) -> None:
    """Rate and event input is [T, N, *shape]; the ANN sees the mean over time."""
    rng = np.random.default_rng(3)
    weight = rng.integers(-32, 33, (6, 8)).astype(np.float32) / 64
    v_init = np.full(6, 2.0**-14, np.float32)
    nodes = (
        Input(name="input", shape=(2, 4), encoding="events"),
        Flatten(name="flatten", inputs=("input",)),
        Linear(name="fc", inputs=("flatten",), weight=weight, bias=np.full(6, 0.25, np.float32)),
        IF(name="if", inputs=("fc",), v_threshold=np.ones(6, np.float32), v_init=v_init),
        Linear(name="head", inputs=("if",), weight=weight[:3, :6], bias=np.zeros(3, np.float32)),
        Output(name="output", inputs=("head",)),
    )
    network = Graph(nodes=nodes, time_steps=6)
    ann = as_ann(network).map(lambda n: replace(n, encoding="direct") if n is nodes[0] else n)
    spikes = rng.integers(0, 2, (6, 5, 2, 4)).astype(np.float32)
    built = create_bundle(
        tmp_path / "bundle", network=network, ann=ann, samples=spikes, report={"recipe": "none"}
    )
    labels = run_ann(ann, spikes.mean(axis=0)).argmax(axis=1)
    report = verify(built, ["torch", "reference"], labels=labels)
    assert report.verdict == "pass"
    assert {c.images for c in report.comparisons} == {5}
    assert report.ann_accuracy == 1


def test_spikes_saved_by_hand_as_booleans(tmp_path: Path) -> None:
    run = ReferenceSimulator(NETWORK).run(INPUTS)
    as_bool = {name: s.astype(bool) for name, s in run.spikes.items()}
    save_recording(Recording(backend="x", logits=run.logits, spikes=as_bool), tmp_path / "r.npz")
    read = load_recording(tmp_path / "r.npz", NETWORK, "x")
    assert np.array_equal(read.spikes["stem.if"], run.spikes["stem.if"])
