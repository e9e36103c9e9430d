"""What icsnn_deploy.split writes, proves and refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import icsnn_deploy as icsnn
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import BundleError, DataError, GraphError, ParityError
from icsnn_deploy.exporters.onnx.read import read
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Conv
from icsnn_deploy.parity.golden import FILE, read_golden
from icsnn_deploy.parity.verify import verify
from icsnn_deploy.passes.split_first_layer import split_first_layer
from icsnn_deploy.splitting import split as splitting
from icsnn_deploy.splitting.host_file import ChipSimulator, HostFileSimulator, JoinedSimulator
from tests.support.branches import branched_network, rounded
from tests.support.graphs import (
    dyadic,
    residual_network,
    samples,
    two_headed_network,
    with_parts,
)


def bundle_of(graph: Graph, path: Path, **fields: object) -> Bundle:
    return create_bundle(
        path,
        network=graph,
        ann=None,
        samples=to_input_units(graph, samples(graph, 3)),
        report={"recipe": "by hand"},
        **fields,  # type: ignore[arg-type]
    )


def run_plainly(path: Path, x: Array, outputs: list[str]) -> list[Array]:
    """As a program without this package runs the file."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(outputs, {"x": x}))


@pytest.mark.parametrize("integer", [False, True])
def test_the_written_parts_give_every_spike_and_logit(tmp_path: Path, integer: bool) -> None:
    graph = rounded(residual_network()) if integer else residual_network()
    bundle = bundle_of(graph, tmp_path / "whole")
    result = icsnn.split(bundle, tmp_path / "parts")
    assert result.report.verdict == "pass"
    assert [c.backend for c in result.report.comparisons] == [
        "host.onnx",
        "host-step.onnx",
        "host + chip",
        "host.onnx + chip",
    ]
    assert all(c.spike_mismatches == 0 for c in result.report.comparisons)
    whole = ReferenceSimulator(graph).run(bundle.samples())
    (spikes,) = run_plainly(result.host_file, bundle.samples(), [result.populations["stem.if"]])
    np.testing.assert_array_equal(spikes, whole.spikes["stem.if"])
    np.testing.assert_array_equal(spikes, result.chip.samples())
    chip = ReferenceSimulator(result.chip.network()).run(spikes)
    np.testing.assert_array_equal(chip.logits, whole.logits)
    for name, found in chip.spikes.items():
        np.testing.assert_array_equal(found, whole.spikes[name])


def test_the_step_file_gives_the_same_spikes_step_by_step(tmp_path: Path) -> None:
    graph = rounded(residual_network())
    bundle = bundle_of(graph, tmp_path / "whole")
    result = icsnn.split(bundle, tmp_path / "parts")
    session = onnxruntime.InferenceSession(
        str(result.host_step_file), providers=["CPUExecutionProvider"]
    )
    x = bundle.samples()
    start = read(result.host_step_file).metadata.v_init["stem.if"]
    v = np.broadcast_to(start, (len(x), 4, 6, 6)).astype(np.float32)
    for wanted in result.chip.samples():
        spikes, y, v = session.run(
            ["stem.if/spikes", "y", "stem.if/v_out"], {"x": x, "stem.if/v_in": v}
        )
        np.testing.assert_array_equal(spikes, wanted)
        np.testing.assert_array_equal(y, wanted)


def test_each_part_is_a_bundle_that_is_exported_and_verified(tmp_path: Path) -> None:
    graph = rounded(residual_network())
    result = icsnn.split(bundle_of(graph, tmp_path / "whole"), tmp_path / "parts")
    for part in (result.host, result.chip):
        part.check_files()
        exported = icsnn.export_into(open_bundle(part.path), "nir", "onnx", "onnx-step")
        report = verify(exported, ["torch", "onnxruntime", "onnxruntime-step", "nir"])
        assert report.verdict == "pass"
        network = part.network()
        inputs, golden = read_golden(part.file(FILE), network)
        np.testing.assert_array_equal(inputs, part.samples())
        recording = ReferenceSimulator(network).run(inputs)
        for name, spikes in recording.spikes.items():
            np.testing.assert_array_equal(golden.spikes[name], spikes)
        np.testing.assert_array_equal(golden.logits, recording.logits)


def test_several_first_populations_are_packed_by_name(tmp_path: Path) -> None:
    graph = rounded(branched_network(("conv", "depthwise", "second layer")))
    bundle = bundle_of(graph, tmp_path / "whole")
    result = icsnn.split(bundle, tmp_path / "parts")
    assert list(result.populations) == ["branch0.if", "branch1.if", "branch2.if"]
    found = run_plainly(result.host_file, bundle.samples(), list(result.populations.values()))
    chip = result.chip.network()
    packed = icsnn.pack_inputs(chip, dict(zip(result.populations, found, strict=True)))
    np.testing.assert_array_equal(packed, result.chip.samples())
    exported = icsnn.export_into(result.chip, "onnx")
    session = onnxruntime.InferenceSession(
        str(exported.export("onnx")), providers=["CPUExecutionProvider"]
    )
    feed = dict(zip((node.name for node in session.get_inputs()), found, strict=True))
    assert list(feed) == list(result.populations)
    (logits,) = session.run(["logits"], feed)
    whole = ReferenceSimulator(graph).run(bundle.samples())
    np.testing.assert_array_equal(logits, whole.logits.astype(np.float32))


def test_the_folder_says_what_is_in_it(tmp_path: Path) -> None:
    graph = residual_network()
    normalization = Normalization(mean=(0.5, 0.5), std=(0.25, 0.25))
    bundle = bundle_of(graph, tmp_path / "whole", normalization=normalization)
    result = icsnn.split(bundle, tmp_path / "parts")
    described = json.loads((tmp_path / "parts" / "split.json").read_bytes())
    assert described["graph_hash"] == graph.hash()
    assert described["host_graph_hash"] == result.host.graph_hash
    assert described["chip_graph_hash"] == result.chip.graph_hash
    assert described["populations"] == {"stem.if": {"output": "spikes/stem.if", "shape": [4, 6, 6]}}
    assert set(described["files"]) == {"host.onnx", "host-step.onnx"}
    assert described["parity"]["verdict"] == "pass"
    assert json.loads(json.dumps(result.to_json()))["parity"] == described["parity"]
    assert result.host.normalization == normalization
    assert result.chip.normalization is None
    assert result.chip.report()["whole"] == {"recipe": "by hand"}
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {
        "host.onnx",
        "host-step.onnx",
        "host",
        "chip",
        "split.json",
    }


def at_ties(graph: Graph) -> Graph:
    """The network with potentials of the first population that float32 rounds up to v_threshold."""
    node = graph.nodes_of(IF)[0]
    one = np.ones((1, 1, 1), np.float32)
    first = replace(node, v_init=one * 0.5, v_threshold=one)
    connection = graph.nodes_of(Conv)[0]
    below = np.nextafter(np.float32(0.5), np.float32(0))  # 0.5 + below rounds to 1 in float32
    plain = replace(
        connection, weight=connection.weight * 0, bias=np.full_like(connection.bias, below)
    )
    return graph.replace(first, plain)


def with_other_thresholds(chip: Graph) -> Graph:
    return chip.replace(*(replace(p, v_threshold=p.v_threshold * 2) for p in chip.nodes_of(IF)))


@pytest.mark.parametrize("integer", [False, True])
def test_parts_that_differ_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, integer: bool
) -> None:
    graph = rounded(residual_network()) if integer else residual_network()
    bundle = bundle_of(graph, tmp_path / "whole")
    parts = split_first_layer(graph)
    wrong = replace(parts, chip=with_other_thresholds(parts.chip))
    monkeypatch.setattr(splitting, "split_first_layer", lambda graph: wrong)
    with pytest.raises(ParityError, match=r"host \+ chip: fail") as caught:
        icsnn.split(bundle, tmp_path / "parts")
    last = caught.value.report.comparisons[-1]
    assert last.spike_mismatches > 0
    assert last.first_divergence.layer == "block.if1"
    assert None not in (last.first_divergence.u_reference, last.first_divergence.u_other)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_a_float_network_is_cut_exactly_though_its_file_may_round(tmp_path: Path) -> None:
    """Neurons that all stay beside a tie: float32 and float64 differ, the cut changes nothing."""
    graph = at_ties(residual_network())
    result = icsnn.split(bundle_of(graph, tmp_path / "whole"), tmp_path / "parts")
    file, _, cut, joined = result.report.comparisons
    assert (cut.spike_mismatches, cut.logit_mismatches) == (0, 0)
    assert file.spike_mismatches > 0
    assert joined.spike_mismatches > 0
    assert "after a rounding tie" in joined.reason


def test_a_failure_half_way_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_of(residual_network(), tmp_path / "whole")
    icsnn.split(bundle, tmp_path / "parts")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(BundleError, match=r"exists already.*--overwrite"):
        icsnn.split(bundle, tmp_path / "parts")

    def full_disk(*given: object, **fields: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(splitting, "create_bundle", full_disk)
    with pytest.raises(BundleError, match="parts: can't be written"):
        icsnn.split(bundle, tmp_path / "parts", overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    icsnn.split(bundle, tmp_path / "parts", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "parts"}


def test_only_a_split_is_overwritten(tmp_path: Path) -> None:
    bundle = bundle_of(residual_network(), tmp_path / "whole")
    for path in (tmp_path / "whole", tmp_path / "mine"):
        path.mkdir(exist_ok=True)
        with pytest.raises(BundleError, match="was not written by icsnn split"):
            icsnn.split(bundle, path, overwrite=True)


def test_a_split_is_not_replaced_by_a_split_of_its_own_part(tmp_path: Path) -> None:
    result = icsnn.split(bundle_of(residual_network(), tmp_path / "whole"), tmp_path / "parts")
    with pytest.raises(BundleError, match=r"holds .*host, which is split"):
        icsnn.split(result.host, tmp_path / "parts", overwrite=True)
    result.host.check_files()


def test_a_host_file_takes_the_inputs_of_the_model_by_name(tmp_path: Path) -> None:
    graph = with_parts(branched_network(("conv", "conv")))
    left, right = (part.shape for part in graph.input.parts)
    rng = np.random.default_rng(0)
    named = {"left": dyadic(rng, 3, *left), "right": dyadic(rng, 3, *right)}
    x = icsnn.pack_inputs(graph, named)
    bundle = bundle_of(graph, tmp_path / "whole")
    result = icsnn.split(bundle, tmp_path / "parts", x)
    session = onnxruntime.InferenceSession(
        str(result.host_file), providers=["CPUExecutionProvider"]
    )
    found = session.run(list(result.populations.values()), named)
    whole = ReferenceSimulator(graph).run(x)
    for name, spikes in zip(result.populations, found, strict=True):
        np.testing.assert_array_equal(spikes, whole.spikes[name])


def test_what_can_not_be_split_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    graph = residual_network()
    bundle = bundle_of(graph, tmp_path / "whole")
    chip = icsnn.split(bundle, tmp_path / "parts").chip
    with pytest.raises(GraphError, match="takes spikes already"):
        icsnn.split(chip, tmp_path / "again")
    with pytest.raises(DataError, match="0 samples"):
        icsnn.split(bundle, tmp_path / "again", samples(graph, 0))
    shallow = bundle_of(two_headed_network(), tmp_path / "shallow")
    with pytest.raises(GraphError, match=r"stem\.if: .* no neuron is left for the chip"):
        icsnn.split(shallow, tmp_path / "again")
    with pytest.raises(DataError, match="input of shape"):
        icsnn.split(bundle, tmp_path / "again", samples(graph, 2)[:, :1])
    assert not (tmp_path / "again").exists()


def test_potentials_of_both_parts_are_those_of_the_whole_network(tmp_path: Path) -> None:
    graph = rounded(residual_network())
    result = icsnn.split(bundle_of(graph, tmp_path / "whole"), tmp_path / "parts")
    x = result.host.samples()
    record = Record(spikes=False, potentials=frozenset({"stem.if", "block.if2"}), logits_t=True)
    whole = ReferenceSimulator(graph).run(x, record)
    host, chip = HostFileSimulator(result.host_file), ChipSimulator(result.chip.network())
    joined = JoinedSimulator("joined", host, ["stem.if"], chip)
    found = joined.run(x, record)
    assert not found.spikes
    for name, u in whole.potentials.items():
        np.testing.assert_array_equal(found.potentials[name], u)
    assert found.logits_t is not None
    assert whole.logits_t is not None
    np.testing.assert_array_equal(found.logits_t, whole.logits_t)
