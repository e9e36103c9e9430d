"""Pooling, and reductions over axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses

from icsnn_deploy.conversion.frontend.onnx_model.operator_node import OperatorNode
from icsnn_deploy.conversion.frontend.onnx_model.sizes import integers, rank_of, shape_of
from icsnn_deploy.conversion.frontend.onnx_model.windows import (
    Ends,
    flat,
    is_symmetric,
    padding_of,
    per_axis,
)
from icsnn_deploy.errors import ConversionError

_AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_MAXIMA = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def _window(node: OperatorNode, x: Any) -> tuple[list[int], list[int], Ends]:
    """Kernel, strides and padding."""
    kernel = node.integers("kernel_shape") or []
    if len(kernel) not in _AVERAGES or len(kernel) != rank_of(x) - 2:
        raise ConversionError(
            f"{node.path}: {node.kind} with windows of shape {kernel} on {shape_of(x)}: a size "
            "for each of 1, 2 or 3 spatial axes is needed"
        )
    stride = per_axis(node, "strides", len(kernel), 1)
    return kernel, stride, padding_of(node, x, kernel, stride)


def _average_pool(node: OperatorNode, x: Any) -> Any:
    kernel, stride, ends = _window(node, x)
    if any(one != 1 for one in per_axis(node, "dilations", len(kernel), 1)):
        raise ConversionError(f"{node.path}: AveragePool with dilation, none is allowed")
    pool = _AVERAGES[len(kernel)]
    ceil, counted = bool(node.get("ceil_mode", 0)), bool(node.get("count_include_pad", 0))
    if is_symmetric(ends) and _is_narrow(ends, kernel):
        padding = [before for before, _ in ends]
        return pool(x, kernel, stride, padding, ceil, counted)
    chosen = _wanted(node, x, kernel, stride, ends)
    padded = _cut(pool(F.pad(x, flat(ends)), kernel, stride, 0, ceil), chosen)
    if counted:
        return padded
    inside = torch.ones([1, 1, *shape_of(x)[2:]])
    share = _cut(pool(F.pad(inside, flat(ends)), kernel, stride, 0, ceil), chosen)
    if not bool((share > 0).all()):
        raise ConversionError(
            f"{node.path}: AveragePool with padding {ends} and windows of padding alone, which "
            "have no mean. Use less padding"
        )
    return padded / share


def _max_pool(node: OperatorNode, x: Any) -> Any:
    kernel, stride, ends = _window(node, x)
    dilation = per_axis(node, "dilations", len(kernel), 1)
    pool = _MAXIMA[len(kernel)]
    ceil = bool(node.get("ceil_mode", 0))
    before = [pads[0] for pads in ends]
    if is_symmetric(ends) and _is_narrow(ends, kernel):
        return pool(x, kernel, stride, before, dilation, ceil)
    if any(one != 1 for one in dilation):
        raise ConversionError(
            f"{node.path}: MaxPool with dilation {dilation}, windows of {kernel} and padding "
            f"{ends}: equal padding at both ends, of half the window at most, is needed. Pad with "
            "a Pad node of value -inf before it"
        )
    if any(max(pads) >= k for pads, k in zip(ends, kernel, strict=True)):
        raise ConversionError(
            f"{node.path}: MaxPool with windows of {kernel} and padding {ends}, which leaves "
            "windows of padding alone: padding smaller than the window is needed. Use less padding"
        )
    chosen = _wanted(node, x, kernel, stride, ends)
    windows = list(zip(shape_of(x)[2:], kernel, stride, before, strict=True))
    reached = [_positions(size, k, step, (pad, pad), True) for size, k, step, pad in windows]
    enough = all(have >= part.stop for have, part in zip(reached, chosen[2:], strict=True))
    if enough and _is_narrow([(pad, pad) for pad in before], kernel):
        # Windows that ceil_mode lets reach beyond the end hold what the padding there would.
        return pool(x, kernel, stride, before, 1, True)[chosen]
    # Each window holds the value at the border that is repeated: the maximum is the same.
    return _cut(pool(F.pad(x, flat(ends), mode="replicate"), kernel, stride, 0, 1, ceil), chosen)


def _is_narrow(ends: Ends, kernel: list[int]) -> bool:
    """Whether no padding is above half of the window, as PyTorch's pooling needs it."""
    return all(2 * max(pads) <= k for pads, k in zip(ends, kernel, strict=True))


def _cut(pooled: Any, chosen: tuple[slice, ...]) -> Any:
    """The chosen windows; the tensor itself where these are all."""
    has_all = shape_of(pooled)[2:] == [part.stop for part in chosen[2:]]
    return pooled if has_all else pooled[chosen]


def _wanted(
    node: OperatorNode, x: Any, kernel: list[int], stride: list[int], ends: Ends
) -> tuple[slice, ...]:
    """The windows of the padded input that ONNX counts, as an index of the pooled tensor."""
    ceil = bool(node.get("ceil_mode", 0))
    windows = zip(shape_of(x)[2:], kernel, stride, ends, strict=True)
    counts = [_positions(size, k, step, pads, ceil) for size, k, step, pads in windows]
    return (slice(None), slice(None), *(slice(0, count) for count in counts))


def _positions(size: int, kernel: int, stride: int, ends: tuple[int, int], ceil: bool) -> int:
    """How many windows there are along an axis."""
    room = size + sum(ends) - kernel
    count = (-(-room // stride) if ceil else room // stride) + 1
    # a window that begins in the padding at the end is left out
    return count - 1 if ceil and (count - 1) * stride >= size + ends[0] else count


def _global(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda node, x: function(x, list(range(2, rank_of(x))), keepdim=True)


def _reduction(
    function: Callable[..., Any], each: Callable[[Any], Any] | None = None
) -> Callable[..., Any]:
    """Over the axes of an input, or of an attribute in older operator sets; over all if none.

    Args:
        function: reduces a tensor over axes.
        each: what the operator does to every value where noop_with_empty_axes is set and there are
            no axes; None leaves the values as they are.
    """

    def over_axes(node: OperatorNode, x: Any, axes: Any = None) -> Any:
        chosen = node.integers("axes") if axes is None else integers(axes)
        if not chosen and node.get("noop_with_empty_axes", 0):
            return x if each is None else each(x)
        return function(x, chosen or list(range(rank_of(x))), keepdim=bool(node.get("keepdims", 1)))

    return over_axes


def _norm(x: Any, axes: list[int], *, keepdim: bool) -> Any:
    return torch.linalg.vector_norm(x, 2, axes, keepdim=keepdim)


def _sum_of_squares(x: Any, axes: list[int], *, keepdim: bool) -> Any:
    return torch.sum(x * x, axes, keepdim=keepdim)


def _sum_of_sizes(x: Any, axes: list[int], *, keepdim: bool) -> Any:
    return torch.sum(torch.abs(x), axes, keepdim=keepdim)


def _product(x: Any, axes: list[int], *, keepdim: bool) -> Any:
    """Of sizes, mostly."""
    for axis in sorted((one % rank_of(x) for one in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keepdim)
    return x


def _position_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """The first position of the largest or least value; the last one of equal ones is refused."""

    def over_axis(node: OperatorNode, x: Any) -> Any:
        if node.get("select_last_index", 0):
            raise ConversionError(
                f"{node.path}: {node.kind} with select_last_index 1; 0 is allowed, the first of "
                "equal values. Export the model without it"
            )
        return function(x, node.get("axis", 0), keepdim=bool(node.get("keepdims", 1)))

    return over_axis


POOLING: dict[str, Callable[..., Any]] = {
    "ArgMax": _position_of(torch.argmax),
    "ArgMin": _position_of(torch.argmin),
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global(torch.mean),
    "GlobalMaxPool": _global(torch.amax),
    "MaxPool": _max_pool,
    "ReduceL1": _reduction(_sum_of_sizes, torch.abs),
    "ReduceL2": _reduction(_norm, torch.abs),
    "ReduceMax": _reduction(torch.amax),
    "ReduceMean": _reduction(torch.mean),
    "ReduceMin": _reduction(torch.amin),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(torch.sum),
    "ReduceSumSquare": _reduction(_sum_of_squares, lambda x: x * x),
}
