"""Apply the rules of elementwise and per-channel operators to rearranged tensors."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.builder import Result, Storage, Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.images import on_nodes
from icsnn_deploy.conversion.frontend.pushed import push, push_pair
from icsnn_deploy.graph.neuron import Array


def apply(
    context: CallContext, operator: str, rule: Lowering, bound: inspect.BoundArguments
) -> Result:
    """A rule of single values, on each node that its operand comes from.

    Args:
        context: the call.
        operator: its name.
        rule: takes whole nodes.
        bound: the arguments of the rule; tensors among them have one value per channel or
            broadcast.
    """
    traced = {name: value for name, value in bound.arguments.items() if isinstance(value, Traced)}
    if len(traced) > 1 and any(isinstance(one.value, Elements) for one in traced.values()):
        found = _alike(context, rule, bound, traced)
        if found is not None:
            return found
    if len(traced) != 1 or isinstance(next(iter(traced.values())).value, str):
        return rule(*bound.args, **bound.kwargs)  # type: ignore[no-any-return]
    ((name, x),) = traced.items()
    parameters = {
        key: value
        for key, value in bound.arguments.items()
        if isinstance(value, torch.Tensor) and value.numel() > 1
    }

    def make(source: str, *values: Array) -> str:
        shape = context.builder.shapes[source]
        whole = Traced(source, (x.shape[0], *shape), x.dtype, x.origin, Storage())
        inner = inspect.BoundArguments(bound.signature, bound.arguments.copy())
        inner.arguments[next(iter(inner.arguments))] = context.on((x.shape[0], *shape))
        inner.arguments[name] = whole
        for key, value in zip(parameters, values, strict=True):
            tensor = torch.from_numpy(np.array(value))
            inner.arguments[key] = tensor.reshape(-1) if operator == "prelu" else tensor[None]
        return rule(*inner.args, **inner.kwargs)  # type: ignore[no-any-return]

    def constant(values: Array) -> Array:
        tensor = torch.from_numpy(np.array(values)).expand(x.shape[0], *values.shape)
        result = context.run(
            lambda one: tensor.clone() if one is x else one.double() if _is_float(one) else one
        )
        computed: Array = result[0].numpy()
        return computed

    every = [_broadcastable(operator, value, x) for value in parameters.values()]
    return push(context, x, make, *every, constant=constant)


def _alike(
    context: CallContext,
    rule: Lowering,
    bound: inspect.BoundArguments,
    traced: dict[str, Traced],
) -> Elements | None:
    """The rule on the nodes of two different tensors that are arranged alike."""
    first, *others = dict.fromkeys(traced.values())
    if len(others) > 1 or any(isinstance(v, torch.Tensor) and v.numel() > 1 for v in bound.args):
        return None
    second = others[0] if others else first

    def make(source: str, partner: str) -> str:
        shape = context.builder.shapes[source]
        size = (first.shape[0], *shape)
        wholes = {
            id(one): Traced(name, size, one.dtype, one.origin, Storage())
            for one, name in ((second, partner), (first, source))
        }
        inner = inspect.BoundArguments(bound.signature, bound.arguments.copy())
        inner.arguments[next(iter(inner.arguments))] = context.on(size)
        for name, value in traced.items():
            inner.arguments[name] = wholes[id(value)]
        result = rule(*inner.args, **inner.kwargs)
        return str(result)

    return push_pair(context, first, second, make)


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _broadcastable(operator: str, value: torch.Tensor, x: Traced) -> Array:
    """A parameter that broadcasts against x without the batch."""
    array: Array = value.detach().double().numpy()
    if operator == "prelu":
        return array.reshape(-1, *(1,) * (len(x.shape) - 2))
    return array[0] if array.ndim == len(x.shape) else array


def apply_per_channel(
    context: CallContext, rule: Lowering, bound: inspect.BoundArguments
) -> Result:
    """A rule of single channels, on each node that has whole channels of its operand."""
    x = bound.arguments.get("x")
    if not isinstance(x, Traced) or not isinstance(x.value, Elements):
        return rule(*bound.args, **bound.kwargs)  # type: ignore[no-any-return]

    def make(source: str) -> Result:
        shape = context.builder.shapes[source]
        size = (x.shape[0], *shape)
        inner = inspect.BoundArguments(bound.signature, bound.arguments.copy())
        own = (context.shape[0], shape[0], *context.shape[2:])
        inner.arguments[next(iter(inner.arguments))] = context.on(own)
        inner.arguments["x"] = Traced(source, size, x.dtype, x.origin, Storage())
        return rule(*inner.args, **inner.kwargs)  # type: ignore[no-any-return]

    if len(x.shape) == len(context.shape):
        found = on_nodes(context.builder, x.value, make)
        if found is not None:
            return found
    return rule(*bound.args, **bound.kwargs)  # type: ignore[no-any-return]
