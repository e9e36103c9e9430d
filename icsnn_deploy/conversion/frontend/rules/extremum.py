"""The larger and the smaller of two tensors.

    max(a, b) = b + relu(a - b)                         where b is a sum of rectifiers
    max(a, b) = relu(b) - relu(-b) + relu(a - b)        elsewhere

In the second form no layer reads b itself, which would be sums of weights instead of spikes. Of two
functions of one tensor, as in max(x, 0.1 * x), the result is one function of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from icsnn_deploy.conversion.frontend.builder import Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.nonnegative import is_nonnegative
from icsnn_deploy.conversion.frontend.piecewise_linear import combined, larger
from icsnn_deploy.conversion.frontend.rules.affine import broadcast
from icsnn_deploy.conversion.frontend.rules.piecewise_linear import result
from icsnn_deploy.conversion.frontend.rules.same_source import common
from icsnn_deploy.graph.nodes import Add, AvgPool, ChannelAffine, Flatten, Node, Relu, Shape
from icsnn_deploy.passes.affine import pure_scale


def maximum(context: CallContext, x: Any, other: Any) -> str:
    """y = max(x, other), of two tensors, or of one and a constant."""
    return _extremum(context, x, other, 1)


def minimum(context: CallContext, x: Any, other: Any) -> str:
    """y = min(x, other)"""
    return _extremum(context, x, other, -1)


def difference(context: CallContext, x: Any, other: Any) -> str:
    """x - other, for two tensors of one shape."""
    first, second = context.source(x), context.source(other)
    _check_shapes(context, x, other)
    return context.add(
        Add(
            name=context.name("difference"),
            inputs=(first, _times(context, "negative", second, -1)),
        )
    )


def _extremum(context: CallContext, x: Any, other: Any, sign: int) -> str:
    """sign * max(sign * x, sign * other)"""
    if isinstance(x, Traced) and isinstance(other, Traced) and x.shape != other.shape:
        shape = _common_shape(context, x, other)
        x, other = broadcast(context, x, shape), broadcast(context, other, shape)
    found = common(context, x, other)
    if found is not None:
        f, g = (combined(lambda a: (sign * a[0], sign * a[1]), one) for one in found.functions)
        largest = larger(f, g)
        signed = combined(lambda a: (sign * a[0], sign * a[1]), largest)
        return result(context, found.source, signed)
    _check_shapes(context, x, other)
    nodes = context.builder.nodes
    if not is_sum_of_rectifiers(nodes, context.source(other)):
        x, other = other, x
    base = context.source(other)
    name = context.name()
    gap = difference(context, x, other) if sign > 0 else difference(context, other, x)
    excess = context.add(Relu(name=context.name("excess"), inputs=(gap,)))
    if sign < 0:
        excess = _times(context, "excess.negative", excess, -1)
    if is_sum_of_rectifiers(nodes, base):
        parts = [base]
    else:
        parts = [context.add(Relu(name=context.name("positive"), inputs=(base,)))]
        if not is_nonnegative(nodes, base, context.builder.functions):
            negative = _times(context, "negative", base, -1)
            below = context.add(Relu(name=context.name("below"), inputs=(negative,)))
            parts.append(_times(context, "below.negative", below, -1))
    return context.add(Add(name=name, inputs=(*parts, excess)))


def _common_shape(context: CallContext, x: Traced, other: Traced) -> Shape:
    """The shape to which two tensors broadcast, without the batch."""
    try:
        return tuple(np.broadcast_shapes(x.shape[1:], other.shape[1:]))
    except ValueError:
        raise context.unsupported(
            f"shapes {list(x.shape)} and {list(other.shape)}",
            "tensors that broadcast to one shape, the batch first",
        ) from None


def is_sum_of_rectifiers(nodes: Mapping[str, Node], name: str) -> bool:
    """Whether a result is made of rectifiers by sums, means and factors alone.

    The next layer reads the spikes of their populations. A rejected operator's placeholder counts.
    """
    waiting = [name]
    seen = {name}
    while waiting:
        node = nodes.get(waiting.pop())
        if node is None or isinstance(node, Relu):
            continue
        kept = isinstance(node, ChannelAffine) and not node.shift.any()
        if not kept and not isinstance(node, (Add, AvgPool, Flatten)):
            return False
        waiting += [source for source in node.inputs if source not in seen]
        seen.update(node.inputs)
    return True


def _check_shapes(context: CallContext, x: Any, other: Any) -> None:
    shapes = [one.shape[1:] if isinstance(one, Traced) else None for one in (x, other)]
    if shapes[0] != shapes[1]:
        raise context.unsupported(f"shapes {shapes[0]} and {shapes[1]}", "two tensors of one shape")


def _times(context: CallContext, suffix: str, source: str, factor: float) -> str:
    ones = np.full((1,) * len(context.builder.shapes[source]), factor, np.float32)
    return context.add(pure_scale(context.name(suffix), source, ones))


LOWERINGS: dict[str, Lowering] = {
    **dict.fromkeys(("maximum", "fmax"), maximum),
    **dict.fromkeys(("minimum", "fmin"), minimum),
}
