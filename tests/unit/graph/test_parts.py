"""Parts: the model's inputs and outputs by name, checked, packed, and in the model's units."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import DataError, GraphError
from icsnn_deploy.graph.arrangement import (
    input_parts,
    named_outputs,
    output_parts,
    pack_inputs,
    unpack_input,
)
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import logit_unit, part_units
from icsnn_deploy.graph.limits import MAX_VALUES
from icsnn_deploy.graph.nodes import Input, Output, Part
from tests.support.graphs import residual_network, samples, two_headed_network, with_parts

PAIR = (Part("a", (2,)), Part("b", (1, 2)))


def ends(node: Input, output: Output | None = None) -> Graph:
    return Graph(nodes=(node, output or Output(name="y", inputs=(node.name,))))


def test_a_network_without_parts_has_one_input_and_output_of_its_own_names() -> None:
    graph = residual_network()
    assert input_parts(graph) == (Part("input", (2, 6, 6)),)
    assert output_parts(graph) == (Part("output", (10,)),)
    x = samples(graph, 3)
    np.testing.assert_array_equal(pack_inputs(graph, {"input": x}), x)
    logits = np.arange(30.0).reshape(3, 10)
    np.testing.assert_array_equal(named_outputs(graph, logits)["output"], logits)


def test_inputs_are_packed_by_the_index_and_unpacked_by_its_inverse() -> None:
    node = Input(name="x", shape=(2, 3), index=np.array([[3, 0, -1], [1, 2, 3]]), parts=PAIR)
    graph = ends(node)
    a, b = np.array([[1.0, 2.0]]), np.array([[[3.0, 4.0]]])
    x = pack_inputs(graph, {"a": a, "b": b})
    np.testing.assert_array_equal(x, [[[4, 1, 0], [2, 3, 4]]])
    again = unpack_input(node, x)
    np.testing.assert_array_equal(again["a"], a)
    np.testing.assert_array_equal(again["b"], b)


def test_spikes_are_packed_at_every_step() -> None:
    node = Input(name="x", shape=(4,), encoding="events", index=np.arange(4)[::-1], parts=PAIR)
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (5, 3, 2)), rng.integers(0, 2, (5, 3, 1, 2))
    x = pack_inputs(ends(node), {"a": a, "b": b})
    assert x.shape == (5, 3, 4)
    np.testing.assert_array_equal(x[..., 3], a[..., 0])
    np.testing.assert_array_equal(unpack_input(node, x)["b"], b)


def test_one_part_of_another_shape_needs_no_index() -> None:
    node = Input(name="x", shape=(2, 2), parts=(Part("flat", (4,)),))
    graph = ends(node, Output(name="y", inputs=("x",), parts=(Part("row", (4, 1)),)))
    x = np.arange(8.0).reshape(2, 4)
    packed = pack_inputs(graph, {"flat": x})
    assert packed.shape == (2, 2, 2)
    np.testing.assert_array_equal(unpack_input(node, packed)["flat"], x)
    np.testing.assert_array_equal(named_outputs(graph, packed)["row"][..., 0], x)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_named_outputs_are_the_logits_at_the_index(batch: int) -> None:
    graph = two_headed_network()
    logits = np.arange(batch * 8.0).reshape(batch, 8)
    named = named_outputs(graph, logits)
    np.testing.assert_array_equal(named["scores"], logits[:, :5])
    np.testing.assert_array_equal(named["box"], logits[:, 5:])
    stacked = named_outputs(graph, np.stack([logits, logits + 1]))  # [T, B, 8]
    np.testing.assert_array_equal(stacked["box"][1], logits[:, 5:] + 1)


def test_an_output_of_one_number_has_no_axis_but_the_batch() -> None:
    node = Input(name="x", shape=(1,))
    graph = ends(node, Output(name="y", inputs=("x",), parts=(Part("age", ()),)))
    assert named_outputs(graph, np.ones((4, 1)))["age"].shape == (4,)


def test_named_outputs_are_in_the_units_of_the_model() -> None:
    graph = replace(two_headed_network(), output_unit=(0.5, 0.25))
    named = named_outputs(graph, np.ones((1, 8), np.float32))
    assert named["box"].tolist() == [[0.5] * 3]
    assert named["scores"].tolist() == [[0.25] * 5]
    assert named["box"].dtype == np.float32
    unit = logit_unit(graph)
    assert isinstance(unit, np.ndarray)
    assert unit.tolist() == [0.25] * 5 + [0.5] * 3
    assert part_units(graph) == (0.5, 0.25)
    assert part_units(replace(graph, output_unit=2.0)) == (2.0, 2.0)
    assert part_units(replace(graph, output_unit=None)) == (1.0, 1.0)


@pytest.mark.parametrize("unit", [(0.5,), (0.5, 1.0, 2.0), (0.5, 0.0), (0.5, "1"), (), (True, 1.0)])
def test_units_are_one_or_one_per_part(unit: Any) -> None:
    with pytest.raises(
        GraphError, match=r"output_unit .* a finite number > 0, or 2 of them needed"
    ):
        replace(two_headed_network(), output_unit=unit)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"left": (2, 36)}, "inputs left: this network takes left, right"),
        ({"left": (2, 36), "right": (2, 37, 1), "x": (2,)}, "takes left, right"),
        ({"left": (2, 36), "right": (2, 36)}, r"'right' of shape \(2, 36\): \[B, 37, 1\] is"),
        ({"left": (2, 36), "right": (3, 37, 1)}, "one B for all inputs"),
        ({"left": (), "right": (3, 37, 1)}, r"'left' of shape \(\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, Any], message: str) -> None:
    graph = with_parts(residual_network())
    with pytest.raises(DataError, match=message):
        pack_inputs(graph, {name: np.zeros(shape) for name, shape in inputs.items()})


def test_inputs_of_text_are_refused() -> None:
    with pytest.raises(DataError, match="'input' of type <U1: real numbers are needed"):
        pack_inputs(residual_network(), {"input": np.full((1, 2, 6, 6), "a")})


WRONG_INPUTS: list[tuple[dict[str, Any], str]] = [
    ({"parts": 3}, "a list of parts is needed"),
    ({"parts": "ab"}, "a list of parts is needed"),
    ({"parts": ("ab",)}, "a name, a shape and a host_op needed"),
    ({"parts": (("a", (4,), "", ""),)}, "a name, a shape and a host_op needed"),
    ({"parts": (("", (4,)),)}, "a name, a shape and a host_op needed"),
    ({"parts": ((3, (4,)),)}, "a name, a shape and a host_op needed"),
    ({"parts": (("a", (4,), 3),)}, "a name, a shape and a host_op needed"),
    ({"parts": (("\ud800", (4,)),)}, "half of a surrogate pair"),
    ({"parts": (("a", (4,), "\udfff"),)}, "half of a surrogate pair"),
    ({"parts": (("a", 4),)}, "a name, a shape and a host_op needed"),
    ({"parts": (("a", (4.0,)),)}, "a name, a shape and a host_op needed"),
    ({"parts": (("a", (-4,)),)}, "a name, a shape and a host_op needed"),
    ({"parts": (("a", (0,)),)}, "a name, a shape and a host_op needed"),
    ({"parts": (("a", (1,) * 9),)}, "at most 8 are allowed"),
    ({"parts": (("a", (2**40,)),)}, "too large"),
    ({"parts": (("a", (2,)), ("a", (2,)))}, "the name 'a' occurs twice"),
    ({"parts": tuple((str(i), (MAX_VALUES,)) for i in range(2))}, "more than 134,217,728 values"),
    ({"parts": PAIR}, "2 parts need an index"),
    ({"parts": (("a", (3,)),)}, "both need the same number of values"),
    ({"index": np.arange(4)}, "an index needs parts"),
    ({"index": np.arange(4.0), "parts": PAIR}, "integers from -1 on are needed"),
    ({"index": np.arange(4) - 2, "parts": PAIR}, "integers from -1 on are needed"),
    ({"index": np.arange(4) + 1, "parts": PAIR}, "position 4 in the 4 values of its parts"),
    ({"index": np.full(4, 2**62), "parts": PAIR}, "in the 4 values of its parts"),
    ({"index": np.arange(3), "parts": PAIR}, r"shape \(3,\), \(4,\) needed"),
    ({"index": np.arange(4).reshape(2, 2), "parts": PAIR}, r"shape \(2, 2\), \(4,\) needed"),
    ({"index": np.zeros(0, int), "parts": PAIR}, "rank 1 or more needed"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG_INPUTS)
def test_inputs_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        ends(Input(name="x", shape=(4,), **fields))


WRONG_OUTPUTS: list[tuple[dict[str, Any], str]] = [
    ({"parts": PAIR}, "2 parts need an index"),
    ({"parts": (("a", (3,)),)}, "both need the same number of values"),
    ({"index": np.array([0, 1, 2, -1]), "parts": PAIR}, "integers from 0 on are needed"),
    ({"index": np.arange(4) + 1, "parts": PAIR}, "position 4 in 4 values"),
    ({"index": np.arange(3), "parts": PAIR}, "one position per value of its parts"),
    ({"index": np.arange(4).reshape(2, 2), "parts": PAIR}, "one position per value of its parts"),
]


@pytest.mark.parametrize(("fields", "message"), WRONG_OUTPUTS)
def test_outputs_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        ends(Input(name="x", shape=(4,)), Output(name="y", inputs=("x",), **fields))


def test_the_hash_knows_parts_and_index_but_not_the_type_of_the_index() -> None:
    graph = two_headed_network()
    output = graph.output
    assert output.index is not None
    hashes = {
        graph.hash(),
        graph.replace(replace(output, index=output.index[::-1])).hash(),
        graph.replace(replace(output, parts=(output.parts[0], Part("s", (5,), "softmax")))).hash(),
        graph.replace(replace(output, parts=(output.parts[0], Part("scores", (5,))))).hash(),
        graph.replace(replace(output, parts=(), index=None)).hash(),
    }
    assert len(hashes) == 5
    narrow = replace(output, index=output.index.astype(np.int8))
    assert narrow.index is not None
    assert narrow.index.dtype == np.int64
    assert graph.replace(narrow).hash() == graph.hash()


def test_the_network_computes_with_its_parameters_alone() -> None:
    graph = with_parts(residual_network())
    assert set(graph.input.arrays()) == {"index"}
    assert graph.input.parameters() == {}
    x = samples(graph, 2)
    plain, named = ReferenceSimulator(residual_network()).run(x), ReferenceSimulator(graph).run(x)
    np.testing.assert_array_equal(plain.logits, named.logits)
