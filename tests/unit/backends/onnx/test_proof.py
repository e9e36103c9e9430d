"""Runtimes prove themselves on files of certified networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from icsnn_deploy.backends.onnx import proof as onnx_proof
from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.backends.onnx.reference_session import ReferenceSession
from icsnn_deploy.backends.onnx.simulator import OnnxFileSimulator
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.onnx.contract import LAYOUTS, Layout, OnnxOptions
from icsnn_deploy.exporters.onnx.read import OnnxFile
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from tests.support.graphs import residual_network, samples
from tests.support.onnx_files import stamped


def integer_network() -> Graph:
    network = residual_network(0, 3)
    prepared = prepare(network, samples(network, 4), per_layer=False, input_bits=8)
    return round_to_lattice(prepared, {}, even_widths(prepared, 8), per_layer=False).graph


class Wrong(ReferenceSession):
    """A runtime that is off by one in its last sample, where there are several."""

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        found = super().run(outputs, feed)
        if len(feed["x"]) > 1:
            found[-1] = found[-1].copy()
            found[-1].flat[-1] += 1
        return found


def open_wrong(path: Path, prove: bool | None = None) -> OnnxFileSimulator:
    def open_session(file: OnnxFile, data: bytes) -> Wrong:
        return Wrong(file, data)

    return OnnxFileSimulator(path, "stub", open_session, prove=prove)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_right_runtime_passes_with_all_that_it_is_asked_for(
    layout: Layout, tmp_path: Path
) -> None:
    graph = integer_network()
    path = tmp_path / "network.onnx"
    timed = layout != "step"
    options = OnnxOptions(layout=layout, logits_t=True) if timed else OnnxOptions()
    export(graph, path, "onnx" if timed else "onnx-step", options)
    simulator = OnnxRuntimeSimulator(path, prove=True)
    names = frozenset(simulator.file.metadata.populations)
    x = np.random.default_rng(0).integers(0, 9, (2, *graph.input.shape)).astype(graph.input.dtype)
    simulator.run(x, Record(potentials=names))


def test_a_wrong_one_is_refused_by_file_and_output(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    export(integer_network(), path, "onnx")
    with pytest.raises(ExportError) as caught:
        open_wrong(path)
    message = str(caught.value)
    assert str(path) in message
    assert "stub computes 'logits' wrongly" in message
    assert "1 of " in message
    assert "another backend" in message


def test_a_float_network_has_nothing_to_prove(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    export(residual_network(0, 2), path, "onnx")
    open_wrong(path, prove=True)


def test_large_networks_are_proven_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "network.onnx"
    export(integer_network(), path, "onnx")
    monkeypatch.setattr(onnx_proof, "CHEAP", 10)
    open_wrong(path)
    with pytest.raises(ExportError, match="wrongly"):
        open_wrong(path, prove=True)


def test_the_estimate_of_work_is_no_less_than_the_networks(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    export(integer_network(), path, "onnx")
    file = OnnxRuntimeSimulator(path).file
    # stem 2 -> 4 and two convolutions 4 -> 4, 3 x 3, at 6 x 6 positions
    assert onnx_proof.multiply_adds(file) >= (2 * 4 + 2 * 4 * 4) * 9 * 36


def test_what_the_reference_evaluator_raises_is_one_clear_error(tmp_path: Path) -> None:
    """A file may say that it is certified and hold any operators that the reader admits."""
    path = tmp_path / "network.onnx"
    export(integer_network(), path, "onnx")
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([7, -1]), "hostile"))
    logits = model.graph.output[0].name
    model.graph.node.append(onnx.helper.make_node("Reshape", [logits, "hostile"], ["seven"]))
    path.write_bytes(stamped(model))
    with pytest.raises(ExportError) as caught:
        OnnxRuntimeSimulator(path)
    assert str(path) in str(caught.value)


def test_each_use_of_a_shared_weight_counts_as_work(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    export(integer_network(), path, "onnx", OnnxOptions(layout="unrolled"))
    once = onnx_proof.multiply_adds(OnnxRuntimeSimulator(path).file)
    model = onnx.load(path)
    (first,) = [node for node in model.graph.node if node.op_type == "Conv"][:1]
    for number in range(100):
        model.graph.node.append(onnx.helper.make_node("Conv", list(first.input), [f"more{number}"]))
        model.graph.node[-1].attribute.extend(first.attribute)
    path.write_bytes(stamped(model))
    assert onnx_proof.multiply_adds(OnnxRuntimeSimulator(path, prove=False).file) > 5 * once
