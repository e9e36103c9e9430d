"""Write each node of a graph as one or several NIR nodes."""

from __future__ import annotations

import numpy as np
from typing_extensions import assert_never

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.nir.metadata import V_INIT
from icsnn_deploy.exporters.nir.write.builder import NirBuilder, full
from icsnn_deploy.exporters.nir.write.convolutions import write_conv, write_pool_1d
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Relu,
    Shape,
)
from icsnn_deploy.passes.affine import is_per_channel
from icsnn_deploy.passes.convolutions import depthwise


def write_node(builder: NirBuilder, node: Node) -> None:
    """Add the NIR nodes of a graph node to the builder; its sources must be there already."""
    import nir

    if isinstance(node, Input):
        result = nir.Input(input_type=np.array(node.shape))
        builder.bind(node, [builder.add_node(result, [], node.name, owner=node)])
    elif isinstance(node, Add):
        builder.bind_sum(node)
    else:
        shape = builder.graph.shape(node.inputs[0])
        builder.bind(node, _write(builder, node, shape, builder.sources(node.inputs[0])))


def _write(builder: NirBuilder, node: Node, shape: Shape, sources: list[str]) -> list[str]:
    """NIR nodes whose sum is the result of a node of one input."""
    import nir

    match node:
        case Conv():
            return [write_conv(builder, node, shape, sources, owner=node)]
        case ChannelAffine():
            return _write_scale(builder, node, shape, sources)
        case AvgPool():
            return [_write_pool(builder, node, shape, sources)]
        case Linear():
            # sinabs drops a nir.Linear: profile portable writes a nir.Affine with a bias of zeros
            result = _affine(node.weight, node.bias, biased=builder.profile == "portable")
        case IF():
            result = _write_if(node, shape)
        case Flatten():
            # axes from the end, which hold with a batch axis in front too
            result = nir.Flatten(
                input_type={"input": np.array(shape)}, start_dim=-len(shape), end_dim=-1
            )
        case Output():
            result = nir.Output(output_type=np.array(shape))
        case Input() | Add() | Relu():
            raise ExportError(f"{node.name}: NIR export has no rule for {node.kind!r}")
        case _:
            assert_never(node)
    return [builder.add_node(result, sources, node.inputs[0], owner=node)]


def _write_if(node: IF, shape: Shape) -> object:
    """A population; with hard reset, its threshold is written for NIR's comparison, `>`."""
    import nir

    v_threshold, v_reset = full(node.v_threshold, shape), np.zeros(shape, np.float32)
    if node.v_reset is not None:
        v_threshold = fires_above(v_threshold)
        v_reset = full(node.v_reset, shape)
    return nir.IF(
        r=np.ones(shape, np.float32),
        v_threshold=v_threshold,
        v_reset=v_reset,
        metadata={V_INIT: full(node.v_init, shape)},
    )


def fires_above(v_threshold: Array) -> Array:
    """The next smaller float32 b: v >= v_threshold if and only if v > b, for float32 v."""
    below: Array = np.nextafter(v_threshold, np.float32(-np.inf))
    return below


def _affine(weight: Array, bias: Array, *, biased: bool = False) -> object:
    import nir

    if not biased and not bias.any():
        return nir.Linear(weight=weight.astype(np.float32))
    return nir.Affine(weight=weight.astype(np.float32), bias=bias.astype(np.float32))


def _write_scale(
    builder: NirBuilder, node: ChannelAffine, shape: Shape, sources: list[str]
) -> list[str]:
    """One NIR node, or two whose results add up where scale or shift varies in space."""
    import nir

    source, unpadded = node.inputs[0], ((0, 0),) * (len(shape) - 1)
    if not node.shift.any():
        result = nir.Scale(scale=full(node.scale, shape))
        return [builder.add_node(result, sources, source, owner=node)]
    builder.rewritten.append(f"{node.name}: scale and shift -> a diagonal connection with bias")
    if len(shape) == 1:
        result = _affine(np.diag(full(node.scale, shape)), full(node.shift, shape))
        return [builder.add_node(result, sources, source, owner=node, about={"was": "scale"})]
    if is_per_channel(node.scale) and is_per_channel(node.shift):
        per_channel = (shape[0], *(1,) * len(unpadded))
        weight, bias = (full(v, per_channel).reshape(-1) for v in (node.scale, node.shift))
        conv = depthwise(node, weight, bias, unpadded)
        return [write_conv(builder, conv, shape, sources, owner=node, was="scale")]
    # NIR has no bias per neuron: a constant 1 for every neuron, scaled
    ones = np.ones(shape[0], np.float32)
    constant = depthwise(node, 0 * ones, ones, unpadded)
    one = write_conv(builder, constant, shape, sources, owner=None, was="one")
    scaled, shift = (nir.Scale(scale=full(v, shape)) for v in (node.scale, node.shift))
    return [
        builder.add_node(scaled, sources, source, owner=node),
        builder.add_node(shift, [one], source, wish=f"{node.name}_shift"),
    ]


def _write_pool(builder: NirBuilder, node: AvgPool, shape: Shape, sources: list[str]) -> str:
    import nir

    if len(node.kernel) == 1:
        return write_pool_1d(builder, node, shape, sources)
    if any(pair != (0, 0) for pair in node.padding):
        # NIR does not define whether padded zeros count in the mean: pad first, then pool
        builder.rewritten.append(f"{node.name}: padding -> a diagonal convolution before it")
        ones = np.ones(shape[0], np.float32)
        padded = depthwise(node, ones, 0 * ones, node.padding)
        sources = [write_conv(builder, padded, shape, sources, owner=None, was="pad")]
    result = nir.AvgPool2d(
        kernel_size=np.array(node.kernel),
        stride=np.array(node.stride),
        padding=np.zeros(2, np.int64),
    )
    return builder.add_node(result, sources, node.inputs[0], owner=node)
