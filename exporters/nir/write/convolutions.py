"""Write convolutions in the form that NIR types correctly, and nodes that become convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.nir.kernels import Embedding, embed, find_embedding
from icsnn_deploy.exporters.nir.write.builder import NirBuilder, full
from icsnn_deploy.graph.nodes import AvgPool, Conv, Node, Shape
from icsnn_deploy.passes.pooling import window_mean


def write_conv(
    builder: NirBuilder,
    conv: Conv,
    shape: Shape,
    sources: list[str],
    *,
    owner: Node | None,
    was: str = "conv",
) -> str:
    """Add a convolution; returns its NIR name.

    Args:
        builder: the NIR graph to add it to.
        conv: the convolution, named after the graph node that it is written for.
        shape: of its input.
        sources: the NIR nodes with an edge into it.
        owner: the graph node that it stands for, or None.
        was: the kind of node that it is written for ("conv" where it is one), or its purpose.
    """
    source = conv.inputs[0]
    about: dict[str, Any] = {} if was == "conv" else {"was": was}
    positions = conv.output_shape(shape)[1:]
    embedding = find_embedding(conv, shape[1:], positions)
    padded = embedding is None
    if embedding is None:
        sources = _with_zero_row(builder, conv.name, source, shape, sources)
        builder.rewritten.append(f"{conv.name}: one zero row appended to its input")
        shape = (shape[0], shape[1] + 1, *shape[2:])
        embedding = find_embedding(conv, shape[1:], positions)
        if embedding is None:
            raise ExportError(f"{conv.name}: no square kernel with symmetric padding does this")
    same_padding = conv.padding == tuple((size, size) for size in embedding.padding)
    if padded or conv.groups > 1 or embedding.kernel != conv.kernel or not same_padding:
        about["conv"] = _geometry(conv, embedding)
    if conv.groups > 1 and was == "conv":
        builder.rewritten.append(f"{conv.name}: {conv.groups} groups -> dense with zeros")
    if embedding.kernel != conv.kernel:
        builder.rewritten.append(f"{conv.name}: kernel {conv.kernel} -> {embedding.kernel}")
    result = _nir_conv(conv, embedding, shape[1:])
    return builder.add_node(
        result, sources, source, owner=owner, wish=f"{conv.name}_{was}", about=about
    )


def write_pool_1d(builder: NirBuilder, node: AvgPool, shape: Shape, sources: list[str]) -> str:
    """Average pooling over one axis, which NIR does not have, as a diagonal convolution."""
    size = node.kernel[0]
    if size & (size - 1):
        builder.losses.append(
            f"{node.name}: the mean over {size} is taken with 1/{size} as float32"
        )
    builder.rewritten.append(f"{node.name}: 1-D average pooling -> a diagonal convolution")
    conv = window_mean(node, shape[0])
    return write_conv(builder, conv, shape, sources, owner=node, was="avg_pool")


def _geometry(conv: Conv, embedding: Embedding) -> dict[str, Any]:
    """What a reader needs to remove the embedding zeros."""
    return {
        "kernel": conv.kernel,
        "padding": conv.padding,
        "dilation": conv.dilation,
        "groups": conv.groups,
        "offset": embedding.offset,
    }


def _nir_conv(conv: Conv, embedding: Embedding, lengths: Shape) -> Any:
    import nir

    weight, bias = embed(conv, embedding).astype(np.float32), conv.bias.astype(np.float32)
    if len(lengths) == 2:
        return nir.Conv2d(
            input_shape=lengths,
            weight=weight,
            stride=conv.stride,
            padding=embedding.padding,
            dilation=embedding.dilation,
            groups=1,
            bias=bias,
        )
    return nir.Conv1d(
        input_shape=lengths[0],
        weight=weight,
        stride=conv.stride[0],
        padding=embedding.padding[0],
        dilation=embedding.dilation[0],
        groups=1,
        bias=bias,
    )


def _with_zero_row(
    builder: NirBuilder, name: str, source: str, shape: Shape, sources: list[str]
) -> list[str]:
    """NIR nodes whose sum is the input with one zero row appended along its first axis.

    Where one axis needs an even kernel and the other an odd one, no square kernel exists. A pooling
    changes the length of one axis by one. A sum over pairs of rows, taken of the even (odd) rows
    alone, holds every row twice; a mask keeps the copy that stands in its own place. (The portable
    profile, which has no poolings, appends zeros by a convolution: portable/appended_zeros.py.)
    """
    import nir

    kept = []
    for parity, label in enumerate(("even", "odd")):
        rows = np.arange(shape[1] + 1).reshape(-1, 1) % 2 == parity  # [H + 1, 1]
        before = nir.Scale(scale=full(rows[:-1], shape))
        pairs = nir.SumPool2d(
            kernel_size=np.array([2, 1]), stride=np.array([1, 1]), padding=np.array([1, 0])
        )
        after = nir.Scale(scale=full(rows, (shape[0], shape[1] + 1, shape[2])))
        part = builder.add_node(before, sources, source, wish=f"{name}_{label}_rows")
        part = builder.add_node(pairs, [part], source, wish=f"{name}_{label}_pairs")
        kept.append(builder.add_node(after, [part], source, wish=f"{name}_{label}_kept"))
    return kept
