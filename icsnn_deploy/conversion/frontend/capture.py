"""Capture the calls of a model with torch.fx, in order, in-place calls included."""

from __future__ import annotations

import inspect
import operator
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from icsnn_deploy.conversion.frontend.remedies import untraceable
from icsnn_deploy.errors import ConversionError, Rejection, UnsupportedOperatorError

_TORCH = str(Path(torch.__file__).parent)


class _InPlaceProxy(fx.Proxy):
    """torch.fx reads `x += y` as `x = x + y`; other names of x would then keep the old value."""

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


class _Tracer(fx.Tracer):
    """Traces down to modules with a lowering rule; a module that can't be traced stays a call."""

    def __init__(self, is_leaf: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self._is_leaf = is_leaf
        self.untraceable: dict[str, str] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return self._is_leaf(m) or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _InPlaceProxy(node, self)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        # Optional arguments of forward keep their defaults: a placeholder each, as torch.fx makes
        # them, would turn `if mask is not None` into control flow that depends on data.
        return root_fn, [self.root, self.create_proxy("placeholder", "input", (), {})]

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        before = set(self.graph.nodes)
        stack = self.module_stack.copy()
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:  # a user's forward may raise anything under proxies
            self.module_stack = stack
            for node in reversed(self.graph.nodes):
                if node not in before:
                    self.graph.erase_node(node)
            path = self.path_of_module(m)
            self.untraceable[path] = f"{type(m).__name__}, which can't be traced: {_reason(error)}"
            return self.create_proxy("call_module", path, args, kwargs)


def capture(
    model: nn.Module, is_leaf: Callable[[nn.Module], bool]
) -> tuple[fx.GraphModule, dict[str, str]]:
    """The model's calls, and the paths of the modules that can't be traced with the reasons.

    Raises:
        ConversionError: forward needs more than one argument.
        UnsupportedOperatorError: the model's own forward can't be traced.
    """
    _check_signature(model)
    tracer = _Tracer(is_leaf)
    try:
        graph = tracer.trace(model)
    except Exception as error:  # a user's forward may raise anything under proxies
        name = type(model).__name__
        failed = {
            **tracer.untraceable,
            name: f"{name}.forward, which can't be traced: {_reason(error)}",
        }
        rejections = []
        for path, got in failed.items():
            text = untraceable(got)
            rejections.append(
                Rejection(node=path, got=got, allowed=text.allowed, remedy=text.remedy)
            )
        raise UnsupportedOperatorError(rejections) from error
    return fx.GraphModule(model, graph), tracer.untraceable


def _check_signature(model: nn.Module) -> None:
    """One required positional argument, the rest optional."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(required) > 1 or not (positional or any(p.kind == p.VAR_POSITIONAL for p in parameters)):
        raise ConversionError(
            f"{type(model).__name__}.forward takes the inputs {', '.join(required) or 'none'}: "
            "exactly one input tensor is allowed. Wrap the model in a module that takes one"
        )


def _reason(error: BaseException) -> str:
    """The first line of an error and the line of the user's code that caused it."""
    text = str(error).splitlines()
    message = text[0] if text else type(error).__name__
    ours = (_TORCH, __file__)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(ours):
            return f"{message} ({frame.filename}:{frame.lineno})"
    return message
