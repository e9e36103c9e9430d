"""Inputs and outputs of the model as tensors of their own in an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.backends.onnx.openvino import OpenVinoSimulator
from icsnn_deploy.backends.onnx.reference import OnnxReferenceSimulator
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import DataError, ExportError
from icsnn_deploy.exporters.onnx.contract import LAYOUTS, TIMED_LAYOUTS, Layout
from icsnn_deploy.exporters.onnx.read import read
from icsnn_deploy.exporters.onnx.write import OnnxOptions, build, write
from icsnn_deploy.graph.arrangement import named_outputs, pack_inputs, unpack_input
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.nodes import Encoding, Part
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from tests.support.graphs import (
    if_graphs,
    residual_network,
    samples,
    two_headed_network,
    with_parts,
)
from tests.support.onnx_files import refused, stamped
from tests.unit.exporters.onnx.test_write import metadata, shapes
from tests.unit.lattice.test_quantize import quantized

NAMED = with_parts(residual_network(time_steps=3))


def lattice(graph: Graph) -> Graph:
    prepared = prepare(graph, samples(graph, 4), per_layer=False, input_bits=8)
    return round_to_lattice(prepared, {}, even_widths(prepared, 6), per_layer=False).graph


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_input_and_output_is_a_tensor_in_the_shape_of_the_model(layout: Layout) -> None:
    model = build(NAMED, OnnxOptions(layout=layout))
    inputs, outputs = shapes(model.graph.input), shapes(model.graph.output)
    assert inputs["left"] == ["N", 36]
    assert inputs["right"] == ["N", 37, 1]
    assert "x" not in inputs
    assert outputs["scores"] == ["N", 5, 1]
    assert outputs["box"] == ["N", 5]
    assert outputs["y" if layout == "step" else "logits"] == ["N", 10]


@pytest.mark.parametrize("layout", TIMED_LAYOUTS)
@pytest.mark.parametrize("integer", [False, True])
def test_a_runtime_that_knows_the_names_alone_gets_the_outputs_of_the_model(
    tmp_path: Path, layout: Layout, integer: bool
) -> None:
    graph = quantized(NAMED).network if integer else NAMED
    write(graph, tmp_path / "net.onnx", OnnxOptions(layout=layout))
    x = to_input_units(graph, samples(graph, 4))
    inputs = unpack_input(graph.input, x)
    x = pack_inputs(graph, inputs)  # 0 where no input gives a value
    expected = named_outputs(graph, ReferenceSimulator(graph).run(x).logits)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    for runner in (session, ReferenceEvaluator(onnx.load(tmp_path / "net.onnx"))):
        found = runner.run(["scores", "box"], inputs)
        for value, name in zip(found, ("scores", "box"), strict=True):
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(if_graphs(), st.integers(0, 99), st.sampled_from(LAYOUTS), st.booleans())
def test_random_networks_with_parts_run_as_the_reference_does(
    tmp_path: Path, graph: Graph, seed: int, layout: Layout, integer: bool
) -> None:
    named = with_parts(graph, seed)
    named = lattice(named) if integer else named
    x = to_input_units(named, samples(named, 3))
    x = pack_inputs(named, unpack_input(named.input, x))
    write(named, tmp_path / "net.onnx", OnnxOptions(layout=layout))
    expected = ReferenceSimulator(named).run(x)
    got = OnnxRuntimeSimulator(tmp_path / "net.onnx", prove=True).run(x)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(got.spikes[name], spikes)
    np.testing.assert_allclose(got.logits, expected.logits, rtol=1e-5, atol=1e-5)
    file = read(tmp_path / "net.onnx")
    assert file.input.parts == named.input.parts
    np.testing.assert_array_equal(file.input.index, named.input.index)
    assert [row.part for row in file.metadata.outputs] == list(named.output.parts)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("encoding", ["rate", "events"])
def test_spikes_of_several_inputs(tmp_path: Path, layout: Layout, encoding: Encoding) -> None:
    graph = residual_network(time_steps=4)
    graph = with_parts(graph.replace(replace(graph.input, encoding=encoding, dtype="uint8")))
    inputs = {
        part.name: np.random.default_rng(0).integers(0, 2, (4, 3, *part.shape)).astype(np.uint8)
        for part in graph.input.parts
    }
    x = pack_inputs(graph, inputs)
    write(graph, tmp_path / "net.onnx", OnnxOptions(layout=layout))
    expected = ReferenceSimulator(graph).run(x)
    got = OnnxRuntimeSimulator(tmp_path / "net.onnx").run(x)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(got.spikes[name], spikes)
    if layout != "step":
        session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
        (scores,) = session.run(["scores"], inputs)
        np.testing.assert_allclose(
            scores, named_outputs(graph, expected.logits)["scores"], atol=1e-5
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_that_the_inputs_cannot_give_are_refused(tmp_path: Path, layout: Layout) -> None:
    """Runtimes take the model's inputs: the value that is always 0 is not among them."""
    x = samples(NAMED, 2)
    assert x[:, 0, 0, 0].all()
    write(NAMED, tmp_path / "net.onnx", OnnxOptions(layout=layout))
    with pytest.raises(DataError, match="values that left and right can't give together"):
        OnnxRuntimeSimulator(tmp_path / "net.onnx").run(x)
    x[:, 0, 0, 0] = 0
    OnnxRuntimeSimulator(tmp_path / "net.onnx").run(x)


def test_other_runtimes_run_the_file(tmp_path: Path) -> None:
    graph = lattice(with_parts(residual_network(time_steps=3)))
    x = pack_inputs(graph, unpack_input(graph.input, to_input_units(graph, samples(graph, 3))))
    write(graph, tmp_path / "net.onnx")
    expected = ReferenceSimulator(graph).run(x)
    for simulator in (OpenVinoSimulator, OnnxReferenceSimulator):
        got = simulator(tmp_path / "net.onnx").run(x)
        for name, spikes in expected.spikes.items():
            np.testing.assert_array_equal(got.spikes[name], spikes)


def test_the_parts_of_one_step_are_those_of_its_current(tmp_path: Path) -> None:
    graph = replace(two_headed_network(), output_unit=(0.5, 2.0))
    write(graph, tmp_path / "net.onnx", OnnxOptions(layout="step"))
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    feed = {"x": samples(graph, 2), "stem.if/v_in": np.zeros((2, 4, 2, 2), np.float32)}
    y, box, scores = session.run(["y", "box", "scores"], feed)
    np.testing.assert_array_equal(box, y[:, 5:] * np.float32(0.5))
    np.testing.assert_array_equal(scores, y[:, :5] * np.float32(2))


def test_logits_of_each_step_stay_as_the_network_computes_them(tmp_path: Path) -> None:
    write(NAMED, tmp_path / "net.onnx", OnnxOptions(logits_t=True))
    recording = OnnxRuntimeSimulator(tmp_path / "net.onnx").run(
        pack_inputs(NAMED, unpack_input(NAMED.input, samples(NAMED, 2))), Record(logits_t=True)
    )
    assert recording.logits_t is not None
    np.testing.assert_array_equal(recording.logits_t[-1], recording.logits)


def test_the_metadata_says_how_outputs_are_named_and_what_is_left_to_the_host() -> None:
    graph = replace(two_headed_network(), output_unit=(0.5, 2.0))
    rows = json.loads(metadata(build(graph))["outputs"])
    assert rows == [
        {"name": "box", "shape": [3], "host_op": "", "tensor": "box", "start": 5, "unit": 0.5},
        {
            "name": "scores",
            "shape": [5],
            "host_op": "softmax",
            "tensor": "scores",
            "start": 0,
            "unit": 2.0,
        },
    ]
    assert "logit_unit" not in metadata(build(graph))
    assert "inputs" not in metadata(build(graph))


def test_one_output_that_is_the_logits_has_no_tensor_of_its_own(tmp_path: Path) -> None:
    graph = residual_network(time_steps=2)
    named = graph.replace(
        replace(graph.output, parts=(Part("classes", (10,), "softmax"),)),
        replace(graph.input, parts=(Part("image", (2, 6, 6)),), dtype="uint8"),
    )
    model = build(named)
    assert shapes(model.graph.output) == {"logits": ["N", 10]}
    assert shapes(model.graph.input) == {"x": ["N", 2, 6, 6]}
    write(named, tmp_path / "net.onnx")
    (row,) = read(tmp_path / "net.onnx").metadata.outputs
    assert (row.part.host_op, row.tensor) == ("softmax", "logits")
    assert read(tmp_path / "net.onnx").input.parts == named.input.parts


def test_names_that_the_file_uses_itself_get_an_underscore(tmp_path: Path) -> None:
    graph = two_headed_network()
    graph = graph.replace(
        replace(graph.input, parts=(Part("image", (32,)),)),
        replace(graph.output, parts=(Part("logits", (3,)), Part("image", (5,)))),
    )
    outputs = shapes(build(graph).graph.output)
    assert outputs == {"logits": ["N", 8], "logits_": ["N", 3], "image_": ["N", 5]}
    slash = graph.replace(replace(graph.output, parts=(Part("a/b", (3,)), Part("a.b", (5,)))))
    assert set(shapes(build(slash).graph.output)) == {"logits", "a.b", "a.b_"}
    for number, one in enumerate((graph, slash)):
        write(one, tmp_path / f"{number}.onnx")
        read(tmp_path / f"{number}.onnx")


def test_names_that_runtimes_cannot_hold_are_refused() -> None:
    graph = residual_network()
    graph = graph.replace(replace(graph.output, parts=(Part("a\0b", (10,)),)))
    with pytest.raises(ExportError, match="NUL in a name; rename it"):
        build(graph)


def test_the_index_stays_in_the_model_where_parameters_are_outside(tmp_path: Path) -> None:
    graph = with_parts(residual_network(time_steps=2), seed=3)
    many = np.arange(10).repeat(40)
    graph = graph.replace(replace(graph.output, parts=(Part("many", (400,)),), index=many))
    write(graph, tmp_path / "net.onnx", OnnxOptions(inline_bytes=0))
    x = pack_inputs(graph, unpack_input(graph.input, samples(graph, 2)))
    got = OnnxRuntimeSimulator(tmp_path / "net.onnx").run(x)
    np.testing.assert_allclose(got.logits, ReferenceSimulator(graph).run(x).logits, atol=1e-5)


# Hostile files

Change = Callable[[onnx.ModelProto], object]


def entry_of(model: onnx.ModelProto, key: str) -> Any:
    (found,) = (entry for entry in model.metadata_props if entry.key == key)
    return found


def with_rows(key: str, change: Callable[[list[dict[str, object]]], object]) -> Change:
    def apply(model: onnx.ModelProto) -> None:
        entry = entry_of(model, key)
        rows = json.loads(entry.value)
        change(rows)
        entry.value = json.dumps(rows)

    return apply


def with_text(key: str, text: str) -> Change:
    return lambda model: setattr(entry_of(model, key), "value", text)


def with_index(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def apply(model: onnx.ModelProto) -> None:
        (tensor,) = (one for one in model.graph.initializer if one.name == name)
        changed = change(numpy_helper.to_array(tensor).copy())
        tensor.CopyFrom(numpy_helper.from_array(changed, name))

    return apply


def rewired(model: onnx.ModelProto) -> None:
    """The output box takes the place of scores."""
    for node in model.graph.node:
        if node.output[0] == "box":
            node.input[1] = "const/output_0_index"


def without_output(model: onnx.ModelProto) -> None:
    kept = [one for one in model.graph.output if one.name != "box"]
    del model.graph.output[:]
    model.graph.output.extend(kept)


HOSTILE: dict[str, Change] = {
    "outputs that are no JSON": with_text("outputs", "["),
    "outputs nested without end": with_text("outputs", "[" * 10**5),
    "outputs that are no list": with_text("outputs", "{}"),
    "no outputs": with_text("outputs", "[]"),
    "an output of text": with_text("outputs", '["a"]'),
    "one output": with_rows("outputs", lambda rows: rows.pop()),
    "a name twice": with_rows("outputs", lambda rows: rows[1].update(name="scores")),
    "another name": with_rows("outputs", lambda rows: rows[1].update(name="boxes")),
    "another tensor": with_rows("outputs", lambda rows: rows[1].update(tensor="scores")),
    "another shape": with_rows("outputs", lambda rows: rows[1].update(shape=[6])),
    "a huge shape": with_rows("outputs", lambda rows: rows[1].update(shape=[2**40])),
    "a shape of text": with_rows("outputs", lambda rows: rows[1].update(shape="5")),
    "a start": with_rows("outputs", lambda rows: rows[1].update(start=3)),
    "a start beyond the logits": with_rows("outputs", lambda rows: rows[1].update(start=10**18)),
    "a start that is a fraction": with_rows("outputs", lambda rows: rows[1].update(start=0.5)),
    "a unit": with_rows("outputs", lambda rows: rows[1].update(unit=0.5)),
    "a unit of 0": with_rows("outputs", lambda rows: rows[1].update(unit=0)),
    "a unit beyond floats": with_rows("outputs", lambda rows: rows[1].update(unit=10**400)),
    "a host_op that is a number": with_rows("outputs", lambda rows: rows[1].update(host_op=3)),
    "a further entry": with_rows("outputs", lambda rows: rows[1].update(more=3)),
    "an entry less": with_rows("outputs", lambda rows: rows[1].pop("host_op")),
    "an index below 0": with_index("const/output_1_index", lambda index: index - 10),
    "an index beyond the logits": with_index("const/output_1_index", lambda index: index + 10),
    "an index of floats": with_index("const/output_1_index", lambda i: i.astype(np.float32)),
    "a longer index": with_index("const/output_1_index", lambda index: np.repeat(index, 2)),
    "an output that takes another's values": rewired,
    "an output that is not there": without_output,
    "inputs that are no JSON": with_text("inputs", "]"),
    "one input": with_rows("inputs", lambda rows: rows.pop()),
    "another name of an input": with_rows("inputs", lambda rows: rows[1].update(name="up")),
    "another tensor of an input": with_rows("inputs", lambda rows: rows[1].update(tensor="left")),
    "another shape of an input": with_rows("inputs", lambda rows: rows[1].update(shape=[37])),
    "an input with a start": with_rows("inputs", lambda rows: rows[1].update(start=0)),
    "no input shape": lambda model: model.metadata_props.remove(entry_of(model, "input_shape")),
    "an input shape that is none": with_text("input_shape", "[0, 6, 6]"),
    "a huge input shape": with_text("input_shape", f"[{2**40}]"),
    "another input shape": with_text("input_shape", "[72]"),
    "an input index beyond the parts": with_index("const/input_index", lambda index: index + 10),
    "an input index below 0": with_index("const/input_index", lambda index: index - 10),
    "another input index": with_index("const/input_index", lambda index: np.roll(index, 1)[:-1]),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("layout", ["unrolled", "step"])
def test_a_file_whose_parts_are_not_as_it_says_is_refused(
    tmp_path: Path, what: str, layout: Layout
) -> None:
    model = build(NAMED, OnnxOptions(layout=layout))
    (tmp_path / "net.onnx").write_bytes(stamped(model))
    read(tmp_path / "net.onnx")
    HOSTILE[what](model)
    (tmp_path / "net.onnx").write_bytes(stamped(model))
    refused(tmp_path / "net.onnx")


def test_gather_stays_within_what_an_export_holds(tmp_path: Path) -> None:
    """An index outside the checked ones, into the weights, is taken by no runtime unchecked."""
    model = build(NAMED)
    model.graph.node.append(helper.make_node("Gather", ["logits", "far"], ["stolen"], axis=1))
    model.graph.initializer.append(numpy_helper.from_array(np.array([2**40]), "far"))
    (tmp_path / "net.onnx").write_bytes(stamped(model))
    assert "Gather" in refused(tmp_path / "net.onnx")
