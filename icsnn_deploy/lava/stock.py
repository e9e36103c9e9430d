"""Connections as Lava's own processes: Dense, Conv and Sparse.

In fixed point Lava truncates the weights of Dense and Sparse to 8 bits, and to even numbers if a
connection has both signs. So an integer matrix is split into several connections that Lava does not
truncate, one per sign and per seven bits; the target adds them:

    W = sum_k 2^(7 k) (P_k - N_k),   0 <= P_k, N_k < 128,   weight_exp = 7 k

Images at the same time are copies of the network: the matrix is repeated along the diagonal.
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
"""Value of num_message_bits with which Lava's connections take numbers instead of spikes."""

_DIGIT_BITS = 7
_CONV_LIMIT = 128  # Lava's Conv stores its geometry in 8-bit integers

_TO_WHC = (2, 1, 0)  # from C, H, W and back


@dataclass(frozen=True, kw_only=True, eq=False)
class StockPart:
    """A Lava connection, and the transforms between its ports and flat ports [copies * neurons]."""

    process: Process
    before: Transforms = ()
    after: Transforms = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Entries:
    """A sparse matrix [targets, sources]."""

    shape: tuple[int, ...]
    row: Array
    column: Array
    value: Array


def diagonal(values: Array) -> Entries:
    """The square matrix with these values on its diagonal."""
    place = np.arange(len(values))
    return Entries(shape=(len(values), len(values)), row=place, column=place, value=values)


def stock_parts(connection: Connection, copies: int, tag: Tag, graded: bool) -> list[StockPart]:
    """Build a connection from Lava's own processes.

    Args:
        connection: of the plan; its matrix must fit in memory.
        copies: images that run at the same time.
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
    """Build Sparse connections from a matrix that is repeated along the diagonal."""
    result = []
    for number, (weight, exponent) in enumerate(lava_weights(matrix.value, tag)):
        (nonzero,) = np.nonzero(weight)
        row, column = matrix.row[nonzero], matrix.column[nonzero]
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
                "value": np.tile(weight[nonzero], copies),
            },
        )
        result.append(StockPart(process=process))
    return result


def lava_weights(matrix: Array, tag: Tag) -> list[tuple[Array, int]]:
    """Split a matrix into (weights, weight_exp) of connections that Lava does not truncate.

    Their sum is the matrix, which may also be given by its nonzero entries alone.
    """
    if tag == "floating_pt":
        return [(matrix.astype(np.float64), 0)]
    whole = matrix.astype(np.int64)
    low, high = int(whole.min(initial=0)), int(whole.max(initial=0))
    mixed = low < 0 < high  # Lava then truncates to even weights; those of one sign go up to 255
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
    """Split into digits of seven bits, the lowest first; digits that are all zero are omitted."""
    exponent = 0
    while matrix.any():
        digit = matrix & (2**_DIGIT_BITS - 1)
        if digit.any():
            yield digit.astype(np.int32), exponent
        matrix = matrix >> _DIGIT_BITS
        exponent += _DIGIT_BITS


def _is_dense(connection: Connection) -> bool:
    kinds = [type(node) for node in connection.nodes]
    return kinds in ([Linear], [Flatten, Linear])


def _as_conv(connection: Connection, copies: int) -> Conv | None:
    """The connection's convolution, if it is one that Lava's Conv supports; else None."""
    if len(connection.nodes) != 1 or not isinstance(connection.nodes[0], Conv):
        return None
    node = connection.nodes[0]
    if len(node.kernel) != 2 or any(before != after for before, after in node.padding):
        return None
    channels, *image = connection.shape_in
    padded = [n + 2 * before for n, (before, _) in zip(image, node.padding, strict=True)]
    window = [d * k for d, k in zip(node.dilation, node.kernel, strict=True)]
    wide = [copies * channels, copies * node.weight.shape[0], copies * node.groups]
    return node if max(*padded, *window, *node.stride, *wide) < _CONV_LIMIT else None


def _conv(
    name: str, connection: Connection, node: Conv, copies: int, message_bits: int
) -> StockPart:
    """Build Lava's Conv: it flips kernels, works on [W, H, C], and copies are channel groups."""
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
