"""Trace a model with torch.fx, its in-place calls and hooks included, beside its example."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError

from icsnn_deploy.conversion.frontend.called_hooks import Hooks, call_with_hooks, take_hooks
from icsnn_deploy.conversion.frontend.example_inputs import ExampleInputs
from icsnn_deploy.conversion.frontend.operators import lowered_whole
from icsnn_deploy.conversion.frontend.outputs import named_leaves
from icsnn_deploy.conversion.frontend.shape_aware_proxy import (
    ExampleValue,
    ShapeAwareProxy,
    evaluate,
    example_values,
    fixed_value,
    iterate,
)

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent)
IsDeclared = Callable[[nn.Module], bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class UntracedCall:
    """A call of a module that torch.fx can't trace, and its arguments on the example."""

    path: str
    reason: str
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None


class Tracer(fx.Tracer):
    """Traces down to modules with a lowering rule; a module that can't be traced stays a call.

    torch.fx replaces the call of nn.Module for the whole process. Modules that other threads run
    meanwhile are called as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: ExampleInputs,
        is_declared: IsDeclared,
        *,
        runs: bool,
    ) -> None:
        super().__init__()
        self._inputs = inputs
        self._is_declared = is_declared
        self._runs = runs  # the model runs on the example, so that every call of it does
        self._evaluating = False
        self._thread = threading.get_ident()
        self._hooks: dict[nn.Module, Hooks] = {}
        self.untraced: dict[fx.Node, UntracedCall] = {}
        for path, module in model.named_modules():
            if not path or self.is_leaf_module(module, path):
                self._hooks[module] = take_hooks(module)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if type(m).__module__.startswith(("torch.ao.nn.qat", "torch.ao.nn.intrinsic.qat")):
            return False
        whole = lowered_whole(m) or self._is_declared(m)
        return whole or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return ShapeAwareProxy(node, self, None)

    def create_arg(self, a: Any) -> Any:
        return a.node if issubclass(type(a), fx.Proxy) else super().create_arg(a)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(fixed_value(obj))

    def iter(self, obj: fx.Proxy) -> Any:
        return iterate(obj)

    def keys(self, obj: fx.Proxy) -> Any:
        return iterate(obj)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._evaluating or threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **options: Any
    ) -> Any:
        """The proxy of a call, with its value on the example."""
        proxy: Any = super().create_proxy(kind, target, args, kwargs, *more, **options)
        if kind == "placeholder":
            proxy.known = ExampleValue(self._inputs.tensors[target].clone(), True)
            return proxy
        self._evaluating = True
        try:
            proxy.known = evaluate(kind, target, args, kwargs, self.root)
        except Exception as error:  # the call may raise anything
            if self._runs:  # then tracing led it to a call that the model itself does not make
                raise TraceError(f"{error}") from error
        finally:
            self._evaluating = False
        return proxy

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        # Optional arguments of forward keep their defaults: a placeholder each, as torch.fx makes
        # them, would turn `if mask is not None` into control flow that depends on data.
        placeholders = {
            name: self.create_proxy("placeholder", name, (), {}) for name in self._inputs.tensors
        }
        args, kwargs = self._inputs.arguments(placeholders)
        hooks, root = self._hooks[self.root], self.root

        def forward(*values: Any) -> Any:
            return plain_result(call_with_hooks(root, hooks, root.forward, values, kwargs))

        return forward, list(args)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if self._evaluating or threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        before = set(self.graph.nodes)
        stack = self.module_stack.copy()
        hooks = self._hooks.get(m)
        try:
            if hooks is None:
                return super().call_module(m, forward, args, kwargs)

            def called(*values: Any, **options: Any) -> Any:
                return super(Tracer, self).call_module(m, forward, values, options)

            return call_with_hooks(m, hooks, called, args, kwargs)
        except Exception as error:  # a user's forward, or hook, may raise anything under proxies
            self.give_back_hooks(m)
            return self._untraceable(m, args, kwargs, error, before, stack)

    def give_back_hooks(self, module: nn.Module) -> None:
        """Register the hooks of the module and of those in it again: it is called as it is."""
        for inner in module.modules():
            if inner in self._hooks:
                self._hooks[inner].give_back(inner)

    def _untraceable(
        self,
        m: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        error: Exception,
        before: set[fx.Node],
        stack: Any,
    ) -> Any:
        """Take back what was traced of the module, and keep it as one call."""
        self.module_stack = stack
        for node in reversed(self.graph.nodes):
            if node not in before:
                self.graph.erase_node(node)
                self.untraced.pop(node, None)
        path = self.path_of_module(m)
        known = example_values((args, kwargs))
        proxy = self.create_proxy("call_module", path, args, kwargs)
        self.untraced[proxy.node] = UntracedCall(
            path=path,
            reason=f"{type(m).__name__}, which can't be traced: {reason_of(error)}",
            arguments=None if known is None else known.value,
        )
        return proxy


def plain_result(result: Any) -> Any:
    """The result of forward as one value, or a dict of its values by name."""
    leaves = named_leaves(result, (fx.Proxy, fx.Node, torch.Tensor))
    return next(iter(leaves.values())) if len(leaves) == 1 else leaves


def reason_of(error: BaseException) -> str:
    """The first line of an error and the line of the user's code that caused it."""
    text = str(error).splitlines()
    message = text[0] if text else type(error).__name__
    ours = (_TORCH, _OURS)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(ours):
            return f"{message} ({frame.filename}:{frame.lineno})"
    return message
