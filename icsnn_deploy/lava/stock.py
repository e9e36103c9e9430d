"""Connections as Lava's own processes: Dense, Conv and Sparse.

In fixed point Lava cuts the weights of Dense and Sparse to 8 bits, and to even ones where a
connection has both signs. So an integer matrix becomes several connections that Lava leaves as
they are, one for each sign and each seven bits; the target adds them up:

    W = sum_k 2^(7 k) (P_k - N_k),   0 <= P_k, N_k < 128,   weight_exp = 7 k

Images side by side are copies of the network: the matrix is repeated along the diagonal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv, Flatten, Linear
from icsnn_deploy.lava.netlist import Process, Tag, Transforms
from icsnn_deploy.lava.plan import Connection

MESSAGE_BITS = 24
"""What makes Lava's connections take numbers for what they are, not for spikes."""

_DIGIT = 7  # bits
_CONV_INT8 = 128  # Lava's Conv keeps its geometry in 8-bit integers

_TO_WHC = (2, 1, 0)  # from C, H, W and back


@dataclass(frozen=True, kw_only=True, eq=False)
class StockPart:
    """One of Lava's connections, and how flat ports [copies * neurons] fit its own."""

    process: Process
    before: Transforms = ()
    after: Transforms = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Entries:
    """A matrix [targets, sources] by its values that are not zero."""

    shape: tuple[int, ...]
    row: Array
    column: Array
    value: Array


def diagonal(values: Array) -> Entries:
    """The square matrix with these values on its diagonal."""
    place = np.arange(len(values))
    return Entries(shape=(len(values), len(values)), row=place, column=place, value=values)


def stock_parts(connection: Connection, copies: int, tag: Tag, graded: bool) -> list[StockPart]:
    """A connection as Lava's own.

    Args:
        connection: what is to be built; its matrix has to fit in memory.
        copies: images side by side.
        tag: "fixed_pt" splits the weights.
        graded: the source sends numbers, not spikes.
    """
    name = connection.name
    bits = MESSAGE_BITS if graded else 0
    node = _as_conv(connection, copies)
    if node is not None:
        return [_conv(name, connection, node, copies, bits)]
    if copies == 1 and _is_dense(connection):
        parts = lava_weights(connection.matrix(), tag)
        return [
            StockPart(
                process=Process(
                    kind="dense",
                    name=f"{name}/{number}",
                    options={"weight_exp": exponent, "message_bits": bits},
                    arrays={"weight": weight},
                )
            )
            for number, (weight, exponent) in enumerate(parts)
        ]
    matrix = connection.matrix()
    row, column = np.nonzero(matrix)
    entries = Entries(shape=matrix.shape, row=row, column=column, value=matrix[row, column])
    return sparse_parts(name, entries, copies, tag, bits)


def sparse_parts(
    name: str, matrix: Entries, copies: int, tag: Tag, message_bits: int = 0
) -> list[StockPart]:
    """A matrix as Sparse connections, one copy after the other."""
    result = []
    for number, (weight, exponent) in enumerate(lava_weights(matrix.value, tag)):
        (kept,) = np.nonzero(weight)
        row, column = matrix.row[kept], matrix.column[kept]
        shift = np.arange(copies)[:, None]
        process = Process(
            kind="sparse",
            name=f"{name}/{number}",
            options={
                "shape": [copies * n for n in matrix.shape],
                "weight_exp": exponent,
                "message_bits": message_bits,
            },
            arrays={
                "row": (row + shift * matrix.shape[0]).ravel().astype(np.int32),
                "column": (column + shift * matrix.shape[1]).ravel().astype(np.int32),
                "value": np.tile(weight[kept], copies),
            },
        )
        result.append(StockPart(process=process))
    return result


def lava_weights(matrix: Array, tag: Tag) -> list[tuple[Array, int]]:
    """Weights and weight_exp of connections that Lava does not cut; their sum is the matrix.

    It may be given by its entries alone: zeros change nothing.
    """
    if tag == "floating_pt":
        return [(matrix.astype(np.float64), 0)]
    whole = matrix.astype(np.int64)
    low, high = int(whole.min(initial=0)), int(whole.max(initial=0))
    mixed = low < 0 < high  # Lava then cuts to even weights; weights of one sign it cuts to 255
    even = mixed and not (whole & 1).any() and low >= -256 and high <= 254
    if even or (low == 0 and high <= 255) or (high == 0 and low >= -255):
        return [(whole.astype(np.int32), 0)]
    parts = []
    for sign in (1, -1):
        parts += [
            (sign * digit, exponent) for digit, exponent in _digits(np.maximum(sign * whole, 0))
        ]
    return parts


def _digits(matrix: Array) -> Iterator[tuple[Array, int]]:
    """Seven bits at a time, from the lowest; digits that are zero everywhere are left out."""
    exponent = 0
    while matrix.any():
        digit = matrix & (2**_DIGIT - 1)
        if digit.any():
            yield digit.astype(np.int32), exponent
        matrix = matrix >> _DIGIT
        exponent += _DIGIT


def _is_dense(connection: Connection) -> bool:
    kinds = [type(node) for node in connection.nodes]
    return kinds in ([Linear], [Flatten, Linear])


def _as_conv(connection: Connection, copies: int) -> Conv | None:
    """The one convolution that this is, if Lava's Conv can do it."""
    if len(connection.nodes) != 1 or not isinstance(connection.nodes[0], Conv):
        return None
    node = connection.nodes[0]
    if len(node.kernel) != 2 or any(before != after for before, after in node.padding):
        return None
    channels, *image = connection.shape_in
    padded = [n + 2 * before for n, (before, _) in zip(image, node.padding, strict=True)]
    window = [d * k for d, k in zip(node.dilation, node.kernel, strict=True)]
    wide = [copies * channels, copies * node.weight.shape[0], copies * node.groups]
    return node if max(*padded, *window, *node.stride, *wide) < _CONV_INT8 else None


def _conv(
    name: str, connection: Connection, node: Conv, copies: int, message_bits: int
) -> StockPart:
    """Lava convolves (kernels run backwards) over [W, H, C]; copies are groups of channels."""
    channels, height, width = connection.shape_in
    kernel = np.tile(node.weight, (copies, 1, 1, 1))
    kernel = kernel.astype(np.int32 if kernel.dtype.kind == "i" else np.float64)
    process = Process(
        kind="conv",
        name=name,
        options={
            "input_shape": [width, height, copies * channels],
            "padding": [before for before, _ in reversed(node.padding)],
            "stride": list(reversed(node.stride)),
            "dilation": list(reversed(node.dilation)),
            "groups": copies * node.groups,
            "message_bits": message_bits,
        },
        arrays={"weight": kernel[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)},  # [O, W, H, I]
    )
    outputs = int(np.prod(connection.shape_out)) * copies
    return StockPart(
        process=process,
        before=(("reshape", (copies * channels, height, width)), ("transpose", _TO_WHC)),
        after=(("transpose", _TO_WHC), ("reshape", (outputs,))),
    )
