"""Operators that only move values, and those that join and repeat them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses

from icsnn_deploy.conversion.frontend.onnx_model.operator_node import OperatorNode
from icsnn_deploy.conversion.frontend.onnx_model.sizes import allowed, integers, rank_of, shape_of
from icsnn_deploy.errors import ConversionError


def _axes(node: OperatorNode, given: Any) -> list[int] | None:
    """Axes as an input, or as an attribute in older operator sets; None if there are none."""
    return node.integers("axes") if given is None else integers(given)


def _reshape(node: OperatorNode, x: Any, shape: Any) -> Any:
    """A size of 0 is that of x, unless allowzero is set."""
    sizes = integers(shape)
    if not node.get("allowzero", 0):
        sizes = [shape_of(x)[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def _flatten(node: OperatorNode, x: Any) -> Any:
    axis = node.get("axis", 1)
    axis += rank_of(x) if axis < 0 else 0
    return x.reshape(math.prod(shape_of(x)[:axis]), -1)


def _squeeze(node: OperatorNode, x: Any, axes: Any = None) -> Any:
    chosen = _axes(node, axes)
    if chosen is None:
        chosen = [i for i in range(rank_of(x)) if shape_of(x)[i] == 1]
    dropped = {axis % rank_of(x) for axis in chosen}
    if any(shape_of(x)[axis] != 1 for axis in dropped):
        raise ConversionError(
            f"{node.path}: Squeeze of the axes {sorted(dropped)} of shape {shape_of(x)}, axes "
            "of size 1 are needed. Check the shape of the calibration data"
        )
    return x.reshape([size for i, size in enumerate(shape_of(x)) if i not in dropped])


def _unsqueeze(node: OperatorNode, x: Any, axes: Any = None) -> Any:
    chosen = _axes(node, axes) or []
    rank = rank_of(x) + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def _transpose(node: OperatorNode, x: Any) -> Any:
    return x.permute(node.integers("perm") or list(range(rank_of(x)))[::-1])


def _concat(node: OperatorNode, *parts: Any) -> Any:
    return torch.cat(parts, node.get("axis", 1))


def _split(node: OperatorNode, x: Any, sizes: Any = None) -> Any:
    axis = node.get("axis", 0)
    given = node.integers("split") if sizes is None else integers(sizes)
    if given is None:
        count, size = node.get("num_outputs", node.outputs), shape_of(x)[axis]
        given = [max(min(-(-size // count), size - i * -(-size // count)), 0) for i in range(count)]
    parts = torch.split(x, given, axis)
    return [parts[i] for i in range(len(given))]


def _slice(
    node: OperatorNode,
    x: Any,
    starts: Any = None,
    ends: Any = None,
    axes: Any = None,
    steps: Any = None,
) -> Any:
    """Positions along each axis; a negative step goes backwards."""
    first = node.integers("starts") if starts is None else integers(starts)
    last = node.integers("ends") if ends is None else integers(ends)
    first, last = first or [], last or []
    chosen = _axes(node, axes) or list(range(len(first)))
    stride = [1] * len(first) if steps is None else integers(steps)
    for axis, start, end, step in zip(chosen, first, last, stride, strict=True):
        size = shape_of(x)[axis]
        if step > 0:
            index = [slice(None)] * rank_of(x)
            index[axis] = slice(start, end, step)
            x = x[tuple(index)]
        else:
            # below -size means "to the first one" here, and "the last one" in Python
            stop = None if end < -size else end
            places = list(range(size))[max(start, -size) : stop : step]
            x = x.index_select(axis, torch.tensor(places, dtype=torch.int64))
    return x


def _gather(node: OperatorNode, x: Any, indices: Any) -> Any:
    axis = node.get("axis", 0) % rank_of(x)
    size = shape_of(x)[axis]
    places = [place + size if place < 0 else place for place in integers(indices)]
    if rank_of(indices) == 0:
        return x.select(axis, places[0])
    found = x.index_select(axis, torch.tensor(places, dtype=torch.int64))
    if rank_of(indices) == 1:
        return found
    shape = shape_of(x)
    return found.reshape([*shape[:axis], *shape_of(indices), *shape[axis + 1 :]])


def _gather_nd(node: OperatorNode, x: Any, indices: Any) -> Any:
    """Positions along the first axes, behind those of a batch of positions."""
    batch = node.get("batch_dims", 0)
    if batch:
        raise ConversionError(f"{node.path}: GatherND with batch_dims {batch}; 0 is allowed")
    return x[tuple(indices[..., i] for i in range(shape_of(indices)[-1]))]


def _expand(node: OperatorNode, x: Any, shape: Any) -> Any:
    sizes = np.broadcast_shapes(tuple(shape_of(x)), tuple(integers(shape)))
    return x.expand(allowed(node, sizes))


def _tile(node: OperatorNode, x: Any, repeats: Any) -> Any:
    counts = integers(repeats)
    allowed(node, [size * count for size, count in zip(shape_of(x), counts, strict=True)])
    return x.repeat(counts)


def _pad(node: OperatorNode, x: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    widths = node.integers("pads") if pads is None else integers(pads)
    widths = widths or []
    filler = node.get("value", 0.0) if value is None else value.item()
    chosen = (
        list(range(rank_of(x))) if axes is None else [axis % rank_of(x) for axis in integers(axes)]
    )
    half = len(widths) // 2
    around = {axis: (widths[i], widths[half + i]) for i, axis in enumerate(chosen)}
    allowed(node, [size + sum(around.get(i, (0, 0))) for i, size in enumerate(shape_of(x))])
    mode = str(node.get("mode", "constant"))
    if mode == "constant":
        first = min((axis for axis, ends in around.items() if any(ends)), default=rank_of(x))
        flat = [end for i in reversed(range(first, rank_of(x))) for end in around.get(i, (0, 0))]
        return F.pad(x, flat, value=filler) if flat else x
    for axis, ends in around.items():
        if any(ends):
            places = _bordered(node, mode, shape_of(x)[axis], *ends)
            x = x.index_select(axis, torch.tensor(places, dtype=torch.int64))
    return x


def _bordered(node: OperatorNode, mode: str, size: int, before: int, after: int) -> list[int]:
    """The positions along an axis that a padding of repeated values reads."""
    places = range(-before, size + after)
    if mode == "edge":
        return [min(max(place, 0), size - 1) for place in places]
    if mode == "wrap":
        return [place % size for place in places]
    if mode != "reflect":
        raise ConversionError(
            f"{node.path}: Pad of mode {mode!r:.40}: constant, edge, reflect and wrap are allowed"
        )
    period = max(2 * (size - 1), 1)
    return [min(place % period, period - place % period) if size > 1 else 0 for place in places]


def _depth_to_space(node: OperatorNode, x: Any) -> Any:
    block = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    b, c, h, w = shape_of(x)
    parts = x.reshape(b, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(b, c // block**2, h * block, w * block)


def _space_to_depth(node: OperatorNode, x: Any) -> Any:
    block = node.get("blocksize")
    b, c, h, w = shape_of(x)
    parts = x.reshape(b, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(b, c * block**2, h // block, w // block)


MOVES: dict[str, Callable[..., Any]] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
