"""Resize and Upsample, as far as PyTorch's interpolation computes the same."""

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

# Sizes and places are computed in float32, as in ONNX Runtime: 10 x 0.7 is 7 there, 6 in double.
_HALF = np.float32(0.5)
_TIE = 1e-6
"""A coordinate as near as this to a half counts as one, as in ONNX Runtime."""

_SAME_CENTERS = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")


def _resize(node: OperatorNode, x: Any, *operands: Any) -> Any:
    """Inputs: scales alone in operator set 10, from 11 on region, scales and sizes."""
    scales, sizes = (*operands, None, None, None)[1:3]
    if len(operands) == 1:
        scales = operands[0]
    return _resized(node, x, _factors(scales), None if sizes is None else integers(sizes))


def _upsample(node: OperatorNode, x: Any, scales: Any = None) -> Any:
    """The older operator, without a choice of coordinates."""
    factors = node.get("scales") if scales is None else _factors(scales)
    return _resized(node, x, list(factors or []), None)


def _factors(scales: Any) -> list[float]:
    return [] if scales is None else [float(one) for one in scales.reshape(-1).tolist()]


def _resized(node: OperatorNode, x: Any, factors: list[float], sizes: list[int] | None) -> Any:
    rank = rank_of(x)
    named = node.integers("axes")
    axes = list(range(rank)) if named is None else [axis % rank for axis in named]
    before = shape_of(x)
    after, scale = list(before), [1.0] * rank
    for i, axis in enumerate(axes):
        if sizes is None:
            scale[axis] = factors[i]
            after[axis] = math.floor(np.float32(before[axis]) * np.float32(factors[i]))
        else:
            after[axis] = sizes[i]
            scale[axis] = float(np.float32(sizes[i]) / np.float32(max(before[axis], 1)))
    allowed(node, after)
    changed = [axis for axis in range(rank) if scale[axis] != 1.0]
    if str(node.get("keep_aspect_ratio_policy", "stretch")) != "stretch":
        raise _refused(node, "a kept aspect ratio", "sizes that are taken as they are")
    mode = str(node.get("mode", "nearest"))
    if after == before:
        return x  # whatever the scales, as in ONNX Runtime
    if mode == "nearest":
        for axis in changed:
            x = _nearest(node, x, axis, after[axis], scale[axis])
        return x
    return _smooth(node, x, mode, changed, after, scale, by_scale=sizes is None)


def _nearest(node: OperatorNode, x: Any, axis: int, size: int, scale: float) -> Any:
    """Each place takes the value of one place before, whichever the rule says."""
    length = shape_of(x)[axis]
    places = [_place(node, i, length, size, scale) for i in range(size)]
    repeats = max(size // length, 1)
    if places == [i // repeats for i in range(size)] and size == length * repeats:
        return x.repeat_interleave(repeats, axis)
    return x.index_select(axis, torch.tensor(places, dtype=torch.int64))


def _place(node: OperatorNode, i: int, length: int, size: int, scale: float) -> int:
    rounding = str(node.get("nearest_mode", _default_rounding(node, scale)))
    if rounding not in _ROUNDINGS:
        raise _refused(node, f"nearest_mode {rounding!r:.40}", ", ".join(_ROUNDINGS))
    with np.errstate(all="ignore"):  # what is not finite is refused by the rounding
        at = _coordinate(node, *map(np.float32, (i, length, size, scale)))
    return min(max(_ROUNDINGS[rounding](float(at)), 0), length - 1)


def _coordinate(
    node: OperatorNode, i: np.float32, length: np.float32, size: np.float32, scale: np.float32
) -> np.float32:
    """The place before that place i after belongs to."""
    mode = _coordinates(node)
    if mode == "align_corners":
        return i * (length - 1) / (size - 1) if size > 1 else np.float32(0)
    if mode == "asymmetric":
        return i / scale
    if mode not in _SAME_CENTERS:
        raise _refused(node, f"coordinates {mode!r:.40}", "half_pixel, asymmetric, align_corners")
    if mode == "pytorch_half_pixel" and size == 1:
        return np.float32(0)
    at: np.float32 = (i + _HALF) / scale - _HALF
    if mode == "half_pixel_symmetric":
        at += length * _HALF * (1 - size / (length * scale))
    return at


def _default_rounding(node: OperatorNode, scale: float) -> str:
    """Before operator set 11 none was named; runtimes round so that no value is left out."""
    if node.kind == "Resize" and node.opset >= 11:
        return _ROUNDED
    return "floor" if scale >= 1 else "ceil"


def _near_half(at: float) -> float:
    half = math.floor(at) + 0.5
    return half if abs(at - half) < _TIE else at


_ROUNDED = "round_prefer_floor"
_ROUNDINGS: dict[str, Callable[[float], int]] = {
    _ROUNDED: lambda at: math.ceil(_near_half(at) - 0.5),
    "round_prefer_ceil": lambda at: math.floor(_near_half(at) + 0.5),
    "floor": math.floor,
    "ceil": math.ceil,
}


def _coordinates(node: OperatorNode) -> str:
    """How places after and before belong together; older operators had one way."""
    default = "half_pixel" if node.kind == "Resize" and node.opset >= 11 else "asymmetric"
    return str(node.get("coordinate_transformation_mode", default))


def _smooth(
    node: OperatorNode,
    x: Any,
    mode: str,
    changed: list[int],
    after: list[int],
    scale: list[float],
    *,
    by_scale: bool,
) -> Any:
    """Linear and cubic interpolation over the last one or two axes."""
    coordinates = _coordinates(node)
    if not changed:
        return x
    if mode not in ("linear", "cubic"):
        raise _refused(node, f"mode {mode!r:.40}", "nearest, linear and cubic")
    if coordinates not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise _refused(
            node, f"{mode} with coordinates {coordinates!r:.40}", "half_pixel and align_corners"
        )
    if node.get("exclude_outside", 0) or node.get("cubic_coeff_a", -0.75) != -0.75:
        raise _refused(node, "cubic weights of its own", "exclude_outside 0, cubic_coeff_a -0.75")
    if any(shape_of(x)[axis] and after[axis] == 1 for axis in changed):
        raise _refused(node, f"{mode} to a size of 1", "sizes of 2 and more")
    order, back = _spatial_last(rank_of(x), changed)
    moved = x.permute(order)
    axes = max(len(changed), 1 if rank_of(x) == 3 else 2)
    if axes > 2 or (mode == "cubic" and axes != 2):
        raise _refused(node, f"{mode} over the axes {changed}", "two spatial axes")
    aligned = coordinates == "align_corners"
    sizes, factors = (
        [after[axis] for axis in order[-axes:]],
        [scale[axis] for axis in order[-axes:]],
    )
    exact = all(
        math.isclose(size, shape_of(x)[axis] * factor, rel_tol=1e-6)
        for size, factor, axis in zip(sizes, factors, order[-axes:], strict=True)
    )
    chosen: dict[str, Any] = {"size": sizes}
    if by_scale and not exact and not aligned:
        chosen = {"scale_factor": factors, "recompute_scale_factor": False}
    method = {"linear": {1: "linear", 2: "bilinear"}[axes], "cubic": "bicubic"}[mode]
    options = {"antialias": True} if node.get("antialias", 0) else {}
    resized = F.interpolate(moved, mode=method, align_corners=aligned, **chosen, **options)
    return resized.permute(back)


def _spatial_last(rank: int, changed: list[int]) -> tuple[list[int], list[int]]:
    """The order of the axes with those that change last, and the order that undoes it."""
    kept = [axis for axis in range(rank) if axis not in changed]
    order = [*kept, *changed]
    return order, [order.index(axis) for axis in range(rank)]


def _refused(node: OperatorNode, got: str, allowed_text: str) -> ConversionError:
    return ConversionError(
        f"{node.path}: {node.kind} with {got}; {allowed_text} are allowed. Export the model with "
        "another way of resizing"
    )


RESIZING: dict[str, Callable[..., Any]] = {"Resize": _resize, "Upsample": _upsample}
