"""Single nodes: what they refuse and by what message, shape rules, immutability."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any, cast

import numpy as np
import pytest

from icsnn_deploy.graph.nodes import (
    IF,
    NODE_TYPES,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Input,
    Linear,
    Node,
    Output,
    Relu,
    broadcast_shapes,
)
from tests.support.building import ann, make, refused

# What a node refuses by itself

NAN = np.array([1.0, np.nan])

BAD_NODES: list[tuple[type[Node], dict[str, Any], str]] = [
    (Relu, {"name": ""}, "node name ''"),
    (Relu, {"name": "a/b"}, "node name 'a/b': a non-empty string without '/' is needed"),
    (Relu, {"name": 3}, "node name 3"),
    (Relu, {"inputs": (3,)}, "n: inputs must be node names, got (3,)"),
    (Relu, {"inputs": ()}, "n (relu): 0 inputs, 1 needed"),
    (Relu, {"inputs": ("a", "b")}, "n (relu): 2 inputs, 1 needed"),
    (Add, {"inputs": ("a",)}, "n (add): 1 inputs, at least 2 needed"),
    (Input, {"inputs": ("a",)}, "n (input): 1 inputs, 0 needed"),
    (Output, {"inputs": ("a", "b")}, "n (output): 2 inputs, 1 needed"),
    (Input, {"shape": ()}, "n.shape: empty, at least one axis is needed"),
    (Input, {"shape": (2, 0)}, "n.shape: (2, 0), integers >= 1 needed"),
    (Input, {"shape": (2, 1.5)}, "n.shape: (2, 1.5), integers >= 1 needed"),
    (Input, {"shape": (True, 2)}, "n.shape: (True, 2), integers >= 1 needed"),
    (Input, {"shape": 4}, "n.shape: 4, integers >= 1 needed"),
    (Input, {"dtype": "float64"}, "n.dtype: 'float64'; float32, uint8, int8 or int16"),
    (Input, {"encoding": "poisson"}, "n.encoding: 'poisson'; direct, rate or events"),
    (Conv, {"weight": np.ones((2, 2))}, "n.weight: shape (2, 2), rank 3 or 4 needed"),
    (Conv, {"weight": np.ones((2,) * 5)}, "n.weight: shape (2, 2, 2, 2, 2), rank 3 or 4 needed"),
    (Conv, {"weight": np.ones((2, 2, 3, 3), bool)}, "n.weight: type bool, allowed"),
    (Conv, {"weight": np.ones((2, 2, 3, 3), "f2")}, "n.weight: type float16, allowed"),
    (Conv, {"weight": np.ones((2, 0, 3, 3))}, "n.weight: shape (2, 0, 3, 3), rank 1 or more"),
    (Conv, {"weight": np.full((2, 2, 3, 3), np.inf)}, "n.weight: not finite"),
    (Conv, {"weight": np.full((2, 2, 3, 3), 1e39)}, "n.weight: not finite"),
    (Conv, {"bias": np.zeros(3)}, "n.bias: shape (3,), (2,) needed"),
    (Conv, {"bias": np.zeros((2, 1))}, "n.bias: shape (2, 1), rank 1 needed"),
    (Conv, {"bias": NAN}, "n.bias: not finite (NaN, infinity, or beyond float32)"),
    (Conv, {"stride": (1,)}, "n: stride, padding and dilation need 2 entries each"),
    (Conv, {"stride": (0, 1)}, "n.stride: (0, 1), integers >= 1 needed"),
    (Conv, {"dilation": (1, 1, 1)}, "n: stride, padding and dilation need 2 entries each"),
    (Conv, {"dilation": (1, -1)}, "n.dilation: (1, -1), integers >= 1 needed"),
    (Conv, {"padding": ((0, 0),)}, "n: stride, padding and dilation need 2 entries each"),
    (Conv, {"padding": (1, 1)}, "n.padding: (1, 1), pairs of integers >= 0 needed"),
    (Conv, {"padding": ((0, -1), (0, 0))}, "n.padding: ((0, -1), (0, 0)), pairs of integers"),
    (Conv, {"padding": ((0, 0, 0), (0, 0))}, "n.padding: ((0, 0, 0), (0, 0)), pairs"),
    (Conv, {"groups": 0}, "n.groups: 0, must divide 2"),
    (Conv, {"groups": 4}, "n.groups: 4, must divide 2"),
    (Conv, {"groups": 1.0}, "n.groups: 1.0, must divide 2"),
    (Linear, {"weight": np.ones(3)}, "n.weight: shape (3,), rank 2 needed"),
    (Linear, {"bias": np.zeros(3)}, "n.bias: shape (3,), (2,) needed"),
    (ChannelAffine, {"scale": np.array(1.0)}, "n.scale: shape (), rank 1 or more needed"),
    (ChannelAffine, {"shift": NAN}, "n.shift: not finite"),
    (AvgPool, {"kernel": ()}, "n: kernel, stride and padding need one entry an axis"),
    (AvgPool, {"kernel": (2,)}, "n: kernel, stride and padding need one entry an axis"),
    (AvgPool, {"kernel": (0, 2)}, "n.kernel: (0, 2), integers >= 1 needed"),
    (AvgPool, {"padding": ((0, 0),)}, "n: kernel, stride and padding need one entry an axis"),
    (Relu, {"upper": 0}, "n.upper: 0, a finite number > 0 needed"),
    (Relu, {"upper": -1.0}, "n.upper: -1.0, a finite number > 0 needed"),
    (Relu, {"upper": float("inf")}, "n.upper: inf, a finite number > 0 needed"),
    (Relu, {"upper": float("nan")}, "n.upper: nan, a finite number > 0 needed"),
    (Relu, {"upper": "6"}, "n.upper: '6', a finite number > 0 needed"),
    (Relu, {"upper": True}, "n.upper: True, a finite number > 0 needed"),
    (Relu, {"levels": 4}, "n.levels: 4 needs upper and an integer >= 1"),
    (Relu, {"upper": 1.0, "levels": 0}, "n.levels: 0 needs upper and an integer >= 1"),
    (Relu, {"upper": 1.0, "levels": 1.5}, "n.levels: 1.5 needs upper and an integer >= 1"),
    (IF, {"v_threshold": np.zeros((2, 1, 1))}, "n.v_threshold: smallest is 0.0, > 0 needed"),
    (IF, {"v_threshold": np.array([1.0, -1.0])}, "n.v_threshold: smallest is -1.0, > 0 needed"),
    (IF, {"v_threshold": NAN}, "n.v_threshold: not finite"),
    (IF, {"v_init": NAN}, "n.v_init: not finite"),
]


def case_id(value: object) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("node_type", "fields", "message"), BAD_NODES, ids=case_id)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_node_refuses(node_type: type[Node], fields: dict[str, Any], message: str) -> None:
    make(node_type)  # without those fields it is well formed
    refused(message, lambda: make(node_type, **fields))


# What a node refuses of its sources

BAD_SHAPES: list[tuple[Node, tuple[int, ...], str]] = [
    (make(Conv), (3, 4, 4), "n: input of shape (3, 4, 4), (2, H, W) needed"),
    (make(Conv), (2, 4), "n: input of shape (2, 4), (2, H, W) needed"),
    (
        make(Conv, weight=np.ones((2, 1, 3, 3)), groups=2),
        (1, 4, 4),
        "n: input of shape (1, 4, 4), (2, H, W) needed",
    ),
    (
        make(
            Conv, weight=np.ones((2, 2, 3)), stride=(1,), padding=((0, 0),), dilation=(1,)
        ),
        (2, 4, 4),
        "n: input of shape (2, 4, 4), (2, L) needed",
    ),
    (
        make(Conv, dilation=(2, 1)),
        (2, 4, 4),
        "n: a window of 5 does not fit the padded length 4 of spatial axis 0",
    ),
    (
        make(AvgPool, kernel=(2, 6), padding=((0, 0), (1, 0))),
        (2, 4, 4),
        "n: a window of 6 does not fit the padded length 5 of spatial axis 1",
    ),
    (make(AvgPool), (2, 4), "n: input of shape (2, 4), 3 axes"),
    (make(Linear), (4,), "n: input of shape (4,), (3,) needed"),
    (make(Linear), (2, 3), "n: input of shape (2, 3), (3,) needed"),
    (make(ChannelAffine), (3, 4, 4), "n.scale: shape (2, 1, 1), allowed (1, 1, 1) or (3, 1, 1) or"),
    (make(ChannelAffine, shift=np.ones(2)), (2, 4, 4), "n.shift: shape (2,), allowed (1, 1, 1) or"),
    (make(IF), (2, 4), "n.v_threshold: shape (2, 1, 1), allowed (1, 1) or (2, 1) or (2, 4)"),
    (
        make(IF, v_init=np.ones((1, 4, 4))),
        (2, 4, 4),
        "n.v_init: shape (1, 4, 4), allowed (1, 1, 1) or (2, 1, 1) or (2, 4, 4)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("node", "shape", "message"), BAD_SHAPES, ids=case_id)
def test_a_node_refuses_a_source(node: Node, shape: tuple[int, ...], message: str) -> None:
    time_steps = 4 if isinstance(node, IF) else None
    refused(message, lambda: ann(node, shape=shape, time_steps=time_steps))


def test_only_equal_shapes_can_be_added() -> None:
    pool = make(AvgPool, name="pool", stride=(2, 2))
    add = make(Add, inputs=("a", "pool"))
    refused("n: sources of shapes ((2, 4, 4), (2, 2, 2)) can't be added", lambda: ann(pool, add))


def test_a_convolution_counts_its_windows() -> None:
    node = make(
        Conv,
        weight=np.ones((6, 2, 3, 2)),
        bias=np.zeros(6),
        stride=(2, 3),
        padding=((1, 0), (2, 1)),
        dilation=(2, 1),
    )
    assert node.output_shape((2, 9, 8)) == (6, (9 + 1 - 5) // 2 + 1, (8 + 3 - 2) // 3 + 1)


def test_parameters_are_per_layer_channel_or_neuron() -> None:
    assert broadcast_shapes((2, 4, 4)) == ((1, 1, 1), (2, 1, 1), (2, 4, 4))
    assert broadcast_shapes((5,)) == ((1,), (5,))
    assert broadcast_shapes((1, 1)) == ((1, 1),)


# What a node keeps


@pytest.mark.parametrize("node_type", NODE_TYPES.values())
def test_fields_and_arrays_of_a_node_cannot_be_changed(node_type: type[Node]) -> None:
    node = make(node_type)
    with pytest.raises(FrozenInstanceError):
        cast(Any, node).name = "other"
    for value in node.arrays().values():
        with pytest.raises(ValueError, match="read-only"):
            value[...] = 0


def test_a_node_does_not_see_later_changes_of_what_it_was_given() -> None:
    weight, sources = np.ones((2, 3), np.float32), ["a"]
    node = make(Linear, weight=weight, inputs=sources)
    weight[:] = 7
    sources[0] = "b"
    assert isinstance(node, Linear)
    assert (node.weight == 1).all()
    assert node.inputs == ("a",)
    assert weight.flags.writeable


def test_doubles_become_floats_and_integers_stay() -> None:
    assert make(Linear, weight=np.ones((2, 3), np.float64)).arrays()["weight"].dtype == np.float32
    for dtype in ("int8", "int16", "int32", "int64"):
        node = make(Linear, weight=np.ones((2, 3), dtype))
        assert node.arrays()["weight"].dtype == dtype


def test_lists_become_tuples() -> None:
    node = make(Conv, stride=[1, 2], padding=[[0, 1], [1, 0]], dilation=[1, 1])
    assert isinstance(node, Conv)
    assert (node.stride, node.padding, node.dilation) == ((1, 2), ((0, 1), (1, 0)), (1, 1))
