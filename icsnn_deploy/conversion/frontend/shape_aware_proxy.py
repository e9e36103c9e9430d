"""Proxies of torch.fx that know the sizes of the example, so that forward may look at them.

A plain proxy refuses `if x.shape[2] != 32`, `len(x)`, `range(x.size(1))`. Here the example runs
beside the trace; where Python needs a size or a parameter as a value, it gets that of the
example. What depends on the values of the data is still refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.fx.proxy import TraceError

from icsnn_deploy.conversion.frontend.operators import METADATA

_SELECT_BY_VALUE = {"nonzero", "argwhere", "unique", "unique_consecutive", "masked_select"}
_METADATA_ATTRIBUTES = {"shape", "dtype", "device", "ndim", "layout", "is_cuda", "requires_grad"}


@dataclass(frozen=True, eq=False)
class ExampleValue:
    """The value of a proxy on the example.

    Args:
        value: what the call returned.
        from_data: it depends on the values of the model's inputs, not on their shapes alone.
        sized_by_data: so does its shape, as that of x[x > 0].
    """

    value: Any
    from_data: bool
    sized_by_data: bool = False


class ShapeAwareProxy(fx.Proxy):
    """A proxy with the value on the example; in-place operators stay in-place.

    torch.fx reads `x += y` as `x = x + y`; other names of x would then keep the old value.
    """

    def __init__(self, node: fx.Node | None, tracer: Any, known: ExampleValue | None) -> None:
        self.known = known
        self.tracer = tracer
        if node is not None:
            self.node = node

    def __getattr__(self, k: str) -> _Attribute:  # type: ignore[override]
        known = self.known
        if known is not None and not hasattr(known.value, k):
            raise AttributeError(f"{type(known.value).__name__} has no attribute {k!r}")
        return _Attribute(self, k)

    def __len__(self) -> int:
        known = _known(self)
        if known.sized_by_data:
            raise TraceError("a size that depends on values of the data")
        return len(known.value)

    def __index__(self) -> int:
        return operator.index(fixed_value(self))

    def __int__(self) -> int:
        return int(fixed_value(self))

    def __float__(self) -> float:
        return float(fixed_value(self))

    def _in_place(self, target: Callable[..., Any], other: Any) -> Any:
        return self.tracer.create_proxy("call_function", target, (self, other), {})

    def __iadd__(self, other: Any) -> Any:
        return self._in_place(operator.iadd, other)

    def __isub__(self, other: Any) -> Any:
        return self._in_place(operator.isub, other)

    def __imul__(self, other: Any) -> Any:
        return self._in_place(operator.imul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._in_place(operator.itruediv, other)


class _Attribute(ShapeAwareProxy):
    """An attribute of a proxy; it becomes a node unless it is called at once."""

    def __init__(self, root: ShapeAwareProxy, attribute: str) -> None:
        super().__init__(None, root.tracer, None)
        self.root = root
        self.attribute = attribute
        self._read: Any = None

    def _proxy(self) -> Any:
        if self._read is None:
            self._read = self.tracer.create_proxy(
                "call_function", getattr, (self.root, self.attribute), {}
            )
        return self._read

    @property
    def node(self) -> fx.Node:  # type: ignore[override]
        node: fx.Node = self._proxy().node
        return node

    @property
    def known(self) -> ExampleValue | None:
        known: ExampleValue | None = self._proxy().known
        return known

    @known.setter
    def known(self, value: ExampleValue | None) -> None:
        """The value is that of the node."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.tracer.create_proxy("call_method", self.attribute, (self.root, *args), kwargs)


def fixed_value(proxy: fx.Proxy) -> Any:
    """The value of a proxy that does not depend on the data; raises TraceError if it does."""
    known = _known(proxy)
    if known.from_data:
        raise TraceError("control flow, or a number, that depends on values of the data")
    return known.value


def iterate(proxy: fx.Proxy) -> Iterator[Any]:
    """The entries of a proxy, as proxies; the keys of a mapping."""
    value = _known(proxy).value
    if isinstance(value, Mapping):
        return iter(list(value))
    if isinstance(value, (torch.Tensor, tuple, list)):
        return iter([proxy[i] for i in range(len(value))])  # type: ignore[index]
    raise TraceError(f"iteration over {type(value).__name__}")


def example_values(arguments: Any) -> ExampleValue | None:
    """Arguments with the values of their proxies; None if one is not known."""
    known: list[ExampleValue | None] = []

    def value_of(argument: Any) -> Any:
        if not isinstance(argument, ShapeAwareProxy):
            return argument
        known.append(argument.known)
        return None if argument.known is None else argument.known.value

    values = fx.node.map_aggregate(arguments, value_of)
    if any(one is None for one in known):
        return None
    return ExampleValue(
        values,
        any(one is not None and one.from_data for one in known),
        any(one is not None and one.sized_by_data for one in known),
    )


def evaluate(
    kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], root: torch.nn.Module
) -> ExampleValue | None:
    """What a call gives on the example; None where one of its operands is not known."""
    operands = example_values((args, kwargs))
    if operands is None:
        return None
    with torch.no_grad():
        result = _run(kind, target, operands.value[0], operands.value[1], root)
    sized = operands.from_data and (
        operands.sized_by_data or _selects_by_value(kind, target, operands.value[0])
    )
    fixed = _reads_metadata(kind, target, args) and not sized
    return ExampleValue(result, operands.from_data and not fixed, sized)


def _selects_by_value(kind: str, target: Any, args: tuple[Any, ...]) -> bool:
    """Whether how many values a call returns depends on the values themselves."""
    name = target if kind == "call_method" else getattr(target, "__name__", "")
    if name == "where":
        return len(args) == 1
    if name in ("getitem", "__getitem__"):
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(one, torch.Tensor) and one.dtype == torch.bool for one in index)
    return name in _SELECT_BY_VALUE


def _run(kind: str, target: Any, args: Any, kwargs: Any, root: torch.nn.Module) -> Any:
    if kind == "call_function":
        return target(*args, **kwargs)
    if kind == "call_method":
        return getattr(args[0], target)(*args[1:], **kwargs)
    found = operator.attrgetter(target)(root) if target else root
    return found(*args, **kwargs) if kind == "call_module" else found


def _reads_metadata(kind: str, target: Any, args: tuple[Any, ...]) -> bool:
    if kind == "call_function" and target is getattr:
        return args[1] in _METADATA_ATTRIBUTES
    if kind == "call_module":
        return False
    name = target if kind == "call_method" else getattr(target, "__name__", "")
    return name in METADATA


def _known(proxy: Any) -> ExampleValue:
    if proxy.known is None:
        raise TraceError("control flow on a tensor that is not known while tracing")
    known: ExampleValue = proxy.known
    return known
