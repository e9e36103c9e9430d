"""Average pooling in its four forms: windows, adaptive, mean over axes, global."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

from icsnn_deploy.conversion.frontend.builder import CallContext, Lowering, Traced
from icsnn_deploy.conversion.frontend.rules.affine import spread
from icsnn_deploy.graph.nodes import AvgPool, Shape


def avg_pool(
    context: CallContext,
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    axes: int,
) -> str:
    """avg_pool1d and avg_pool2d."""
    shape = _image(context, x, axes)
    kernel, pads = spread(kernel_size, axes), spread(padding, axes)
    stride = kernel if stride is None or stride == [] else spread(stride, axes)
    if any(pads) and not count_include_pad:
        raise context.unsupported(
            f"count_include_pad=False with padding {pads}",
            "count_include_pad=True, or no padding",
            "Pool without padding and retrain.",
        )
    if divisor_override not in (None, math.prod(kernel)):
        raise context.unsupported(
            f"divisor_override={divisor_override}", f"the window's {math.prod(kernel)}"
        )
    node = AvgPool(
        name="pool",
        inputs=(context.source(x),),
        kernel=kernel,
        stride=stride,
        padding=tuple((p, p) for p in pads),
    )
    if node.output_shape(shape) != context.shape[1:]:
        raise context.unsupported(
            "ceil_mode=True where the last window sticks out",
            "windows inside the padded input",
            "Use ceil_mode=False, or an input size that the stride divides.",
        )
    return context.add(replace(node, name=context.name()))


def adaptive_avg_pool(context: CallContext, x: Any, output_size: Any, *, axes: int) -> str:
    """adaptive_avg_pool1d and 2d, where all windows have one size."""
    shape = _image(context, x, axes)
    wanted = context.shape[2:]
    if any(length % out for length, out in zip(shape[1:], wanted, strict=True)):
        raise context.unsupported(
            f"{shape[1:]} to {wanted}",
            "an output size that divides the input's",
            "Choose another output size, or the input size that the model was trained with.",
        )
    kernel = tuple(length // out for length, out in zip(shape[1:], wanted, strict=True))
    return _pool(context, context.source(x), kernel)


def mean(
    context: CallContext, x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None
) -> str:
    """Mean over spatial axes; the result is flattened if it is a vector."""
    if not isinstance(x, Traced):
        raise context.unsupported("a constant", "data")
    shape = context.builder.shapes[x.node]
    rank = len(x.shape)
    given = range(rank) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    dims = {int(d) % rank for d in given}
    axes = _graph_axes(x.shape[1:], shape, {d - 1 for d in dims if d > 0})
    if 0 in dims or axes is None or 0 in axes:
        raise context.unsupported(
            f"axes {sorted(dims)} of {len(x.shape)}",
            "spatial axes (2, or 2 and 3)",
            "Average over space only, not over samples or channels.",
        )
    kernel = tuple(length if axis in axes else 1 for axis, length in enumerate(shape))[1:]
    return context.flattened(_pool(context, x.node, kernel))


def _graph_axes(seen: Shape, shape: Shape, dims: set[int]) -> set[int] | None:
    """Axes of the node's shape that correspond to axes of the shape in PyTorch.

    Where the two shapes differ, such as (C, H * W) for (C, H, W), trailing axes still correspond.
    """
    if seen == shape:
        return dims
    kept = len(seen) - len(dims)
    if dims != set(range(kept, len(seen))):
        return None
    for axis in range(1, len(shape) + 1):
        if math.prod(shape[:axis]) == math.prod(seen[:kept]):
            return set(range(axis, len(shape)))
    return None


def _pool(context: CallContext, source: str, kernel: Shape) -> str:
    if math.prod(kernel) == 1:
        return source
    none = ((0, 0),) * len(kernel)
    node = AvgPool(
        name=context.name(), inputs=(source,), kernel=kernel, stride=kernel, padding=none
    )
    return context.add(node)


def _image(context: CallContext, x: Any, axes: int) -> Shape:
    shape = context.source_shape(x)
    if len(shape) != axes + 1:
        raise context.unsupported(f"an input of shape {shape}", f"channels and {axes} spatial axes")
    return shape


LOWERINGS: dict[str, Lowering] = {
    "avg_pool1d": partial(avg_pool, axes=1),
    "avg_pool2d": partial(avg_pool, axes=2),
    "adaptive_avg_pool1d": partial(adaptive_avg_pool, axes=1),
    "adaptive_avg_pool2d": partial(adaptive_avg_pool, axes=2),
    "mean": mean,
}
