"""Concatenation along the channels, taken apart again by what comes behind it.

    conv(cat(a, b)) = conv_a(a) + conv_b(b)          the weights split
    relu(cat(a, b)) = cat(relu(a), relu(b))          likewise pooling, batch norm, flatten

What can't be taken apart gets the concatenation as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from icsnn_deploy.conversion.frontend.builder import CallContext, Lowering, Storage, Traced
from icsnn_deploy.conversion.frontend.concatenation import Concatenation
from icsnn_deploy.graph.nodes import Add

Arguments = Mapping[str, Any]


def cat(site: CallContext, tensors: Any, dim: int = 0) -> str:
    """torch.cat of tensors that agree in space."""
    if not all(isinstance(one, Traced) for one in tensors):
        raise site.unsupported("a constant among the parts", "parts that depend on the input")
    sources = [site.source(one) for one in tensors]
    if dim % len(site.shape) != 1:
        raise site.unsupported(f"dim={dim}", "dim=1, the channels", "Concatenate along dim=1.")
    if len(site.shape) > 4:
        raise site.unsupported(f"{len(site.shape) - 2} spatial axes", "two at most")
    return _joined(site, [part for source in sources for part in _parts(site, source)])


def _parts(site: CallContext, name: str) -> tuple[str, ...]:
    """What a node puts side by side: itself, if it is no concatenation."""
    node = site.builder.nodes.get(name)
    return node.inputs if isinstance(node, Concatenation) else (name,)


def _joined(site: CallContext, parts: list[str]) -> str:
    """A node for the parts side by side, left out in the end if nobody takes it as a whole."""
    if len(parts) == 1:
        return parts[0]
    return site.add(Concatenation(name=site.name(), inputs=tuple(parts)))


def by_parts(site: CallContext, operator: str, rule: Lowering, arguments: Arguments) -> str | None:
    """The call on each part of a concatenation, or None if its operand isn't one or is kept whole.

    Args:
        site: the call.
        operator: its name.
        rule: how it is lowered.
        arguments: of the call, by name.
    """
    x, split = arguments.get("x"), _SPLITS.get(operator)
    if split is None or not isinstance(x, Traced):
        return None
    parts = _parts(site, x.node)
    if len(parts) == 1 or x.shape[1:] != site.builder.shapes[x.node]:
        return None
    return split(site, rule, parts, arguments)


def _channelwise(
    site: CallContext, rule: Lowering, parts: tuple[str, ...], arguments: Arguments
) -> str:
    """f(cat(a, b)) = cat(f(a), f(b)), parameters per channel split."""
    results, begin = [], 0
    for part in parts:
        shape = site.builder.shapes[part]
        end = begin + shape[0]
        own = {
            name: value[begin:end] if isinstance(value, torch.Tensor) and value.ndim else value
            for name, value in arguments.items()
        }
        own["x"] = _traced(site, part, arguments["x"])
        size = (site.shape[0], shape[0], *site.shape[2:])
        inner = CallContext(
            site.builder, site.path, site.got, size, site.dtype, rectified=site.rectified
        )
        results.append(rule(inner, **own))
        begin = end
    return _joined(site, results)


def _flat(
    site: CallContext, rule: Lowering, parts: tuple[str, ...], arguments: Arguments
) -> str | None:
    """Flattened to vectors: the channels run slowest, so the parts stay side by side."""
    shapes = [site.builder.shapes[part] for part in parts]
    if len(site.shape) != 2 or site.shape[1] != sum(math.prod(shape) for shape in shapes):
        return None
    results = []
    for part, shape in zip(parts, shapes, strict=True):
        size = (site.shape[0], math.prod(shape))
        inner = CallContext(site.builder, site.path, site.got, size, site.dtype)
        results.append(inner.flattened(part))
    return _joined(site, results)


def _affine(
    site: CallContext, rule: Lowering, parts: tuple[str, ...], arguments: Arguments
) -> str | None:
    """Convolution or linear: the weights split by input channel, the bias once."""
    weight = arguments["weight"]
    if not isinstance(weight, torch.Tensor) or arguments.get("groups", 1) != 1:
        return None
    results, begin = [], 0
    for part in parts:
        end = begin + site.builder.shapes[part][0]
        own = {**arguments, "weight": weight[:, begin:end]}
        own["x"] = _traced(site, part, arguments["x"])
        if begin:
            own["bias"] = None
        results.append(rule(site, **own))
        begin = end
    return site.add(Add(name=site.name("sum"), inputs=tuple(results)))


def _traced(site: CallContext, part: str, whole: Traced) -> Traced:
    shape = (whole.shape[0], *site.builder.shapes[part])
    return Traced(part, shape, whole.dtype, whole.origin, Storage())


_Split = Callable[[CallContext, Lowering, "tuple[str, ...]", Arguments], "str | None"]

_SPLITS: dict[str, _Split] = {
    **dict.fromkeys(("conv", "convolution", "linear"), _affine),
    "reshape": _flat,
    **dict.fromkeys(
        ("relu", "clip", "clamp", "clamp_min", "clamp_max", "hardtanh", "relu6", "threshold"),
        _channelwise,
    ),
    **dict.fromkeys(
        (
            "batch_norm",
            "native_batch_norm",
            "avg_pool1d",
            "avg_pool2d",
            "adaptive_avg_pool1d",
            "adaptive_avg_pool2d",
            "max_pool1d",
            "max_pool2d",
            "max_pool2d_with_indices",
            "adaptive_max_pool1d",
            "adaptive_max_pool2d",
            "mean",
        ),
        _channelwise,
    ),
}

LOWERINGS: dict[str, Lowering] = {"cat": cat}
