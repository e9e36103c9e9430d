"""Apply the rules of elementwise and per-channel operators to rearranged tensors."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils import _pytree as pytree

from icsnn_deploy.conversion.frontend.builder import Result, Storage, Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.conversion.frontend.images import on_nodes
from icsnn_deploy.conversion.frontend.pushed import push, push_alike
from icsnn_deploy.graph.neuron import Array

Kind = TypeVar("Kind")


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
    tensors = tuple(dict.fromkeys(_leaves(bound, Traced)))
    if len(tensors) > 1 and any(isinstance(one.value, Elements) for one in tensors):
        found = _alike(context, rule, bound, tensors)
        if found is not None:
            return found
    traced = {name: value for name, value in bound.arguments.items() if isinstance(value, Traced)}
    if len(traced) != 1 or isinstance(next(iter(traced.values())).value, str):
        return rule(*bound.args, **bound.kwargs)  # type: ignore[no-any-return]
    ((name, x),) = traced.items()
    tensor_arguments = {
        key: value for key, value in bound.arguments.items() if isinstance(value, torch.Tensor)
    }
    parameters = {key: value for key, value in tensor_arguments.items() if value.numel() > 1}
    ones = [] if operator == "prelu" else [key for key in tensor_arguments if key not in parameters]

    def make(source: str, *values: Array) -> str:
        shape = context.builder.shapes[source]
        whole = Traced(source, (x.shape[0], *shape), x.dtype, x.origin, Storage())
        inner = inspect.BoundArguments(bound.signature, bound.arguments.copy())
        inner.arguments[next(iter(inner.arguments))] = context.on((x.shape[0], *shape))
        inner.arguments[name] = whole
        for key in ones:
            inner.arguments[key] = bound.arguments[key].reshape(())
        for key, value in zip(parameters, values, strict=True):
            tensor = torch.from_numpy(np.array(value))
            inner.arguments[key] = tensor[None]
        return rule(*inner.args, **inner.kwargs)  # type: ignore[no-any-return]

    every = [_broadcastable(operator, value, x) for value in parameters.values()]
    return push(context, x, make, *every, constant=partial(_on_constants, context, (x,)))


def _alike(
    context: CallContext,
    rule: Lowering,
    bound: inspect.BoundArguments,
    tensors: tuple[Traced, ...],
) -> Elements | None:
    """The rule on the nodes of different tensors that are arranged alike."""
    if any(one.numel() > 1 for one in _leaves(bound, torch.Tensor)):
        return None

    def make(*sources: str) -> str:
        size = (tensors[0].shape[0], *context.builder.shapes[sources[0]])
        wholes = {
            one: Traced(name, size, one.dtype, one.origin, Storage())
            for one, name in zip(tensors, sources, strict=True)
        }
        inner = inspect.BoundArguments(bound.signature, bound.arguments.copy())
        for name, value in inner.arguments.items():
            inner.arguments[name] = _replaced(value, wholes)
        inner.arguments[next(iter(inner.arguments))] = context.on(size)
        return str(rule(*inner.args, **inner.kwargs))

    return push_alike(context, tensors, make, partial(_on_constants, context, tensors))


def _leaves(bound: inspect.BoundArguments, kind: type[Kind]) -> list[Kind]:
    """The arguments of a class, also those in a tuple of any number of arguments."""
    return [one for one in pytree.tree_leaves(bound.arguments) if isinstance(one, kind)]


def _replaced(value: Any, wholes: dict[Traced, Traced]) -> Any:
    """An argument, or a tuple of those of a rule with any number, with tensors replaced."""
    if isinstance(value, tuple):
        return tuple(_replaced(one, wholes) for one in value)
    return wholes.get(value, value) if isinstance(value, Traced) else value


def _on_constants(context: CallContext, tensors: tuple[Traced, ...], *constants: Array) -> Array:
    """The call in PyTorch on constants in the place of the tensors, [*shape] without the batch."""
    given = {
        one: torch.from_numpy(np.array(values)).to(_exact(one.dtype)).expand(one.shape)
        for one, values in zip(tensors, constants, strict=True)
    }
    computed: Array = context.run(
        lambda one: given[one].clone() if one in given else one.double() if _is_float(one) else one
    )[0].numpy()
    return computed


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The type in which constants of the model's type are computed."""
    return torch.float64 if dtype.is_floating_point else dtype


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
