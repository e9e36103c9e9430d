"""Capture the calls of a model: with torch.fx, and with torch.export what torch.fx can't trace."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import TraceError

from icsnn_deploy.conversion.frontend.called_hooks import Hooks, call_with_hooks, take_hooks
from icsnn_deploy.conversion.frontend.capture_exported import NotExported, export_graph, inline
from icsnn_deploy.conversion.frontend.example_inputs import ExampleInputs
from icsnn_deploy.conversion.frontend.operators import lowered_whole
from icsnn_deploy.conversion.frontend.outputs import SINGLE_OUTPUT, named_leaves
from icsnn_deploy.conversion.frontend.remedies import unsupported, untraceable
from icsnn_deploy.conversion.frontend.shape_aware_proxy import (
    ExampleValue,
    ShapeAwareProxy,
    evaluate,
    fixed_value,
    iterate,
)
from icsnn_deploy.errors import Rejection, UnsupportedOperatorError

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent)
IsDeclared = Callable[[nn.Module], bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Untraced:
    """A call of a module that torch.fx can't trace, and its arguments on the example."""

    path: str
    reason: str
    arguments: tuple[tuple[Any, ...], dict[str, Any]] | None


class _Tracer(fx.Tracer):
    """Traces down to modules with a lowering rule; a module that can't be traced stays a call."""

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
        self._hooks: dict[nn.Module, Hooks] = {}
        self.untraced: dict[fx.Node, _Untraced] = {}
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

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(fixed_value(obj))

    def iter(self, obj: fx.Proxy) -> Any:
        return iterate(obj)

    def keys(self, obj: fx.Proxy) -> Any:
        return iterate(obj)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._evaluating:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any) -> Any:
        """The proxy of a call, with its value on the example."""
        proxy = super().create_proxy(kind, target, args, kwargs, *more)
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
            return _plain(call_with_hooks(root, hooks, root.forward, values, kwargs))

        return forward, list(args)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if self._evaluating:
            return forward(*args, **kwargs)
        before = set(self.graph.nodes)
        stack = self.module_stack.copy()
        hooks = self._hooks.get(m)
        try:
            if hooks is None:
                return super().call_module(m, forward, args, kwargs)

            def called(*values: Any, **options: Any) -> Any:
                return super(_Tracer, self).call_module(m, forward, values, options)

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
        proxy = self.create_proxy("call_module", path, args, kwargs)
        self.untraced[proxy.node] = _Untraced(
            path=path,
            reason=f"{type(m).__name__}, which can't be traced: {reason_of(error)}",
            arguments=_values((args, kwargs)),
        )
        return proxy


def capture(
    model: nn.Module, inputs: ExampleInputs, is_declared: IsDeclared, *, runs: bool = True
) -> tuple[fx.GraphModule, dict[str, str]]:
    """The model's calls, and the paths of the modules that can't be traced with the reasons.

    torch.fx keeps the paths of the modules and is tried first. A module, or the whole model, that
    it can't trace is exported by torch.export and put in the place of its call.

    Args:
        model: a copy to work on: its hooks are moved into the calls.
        inputs: the example; the placeholders have the names of its tensors. Sizes that forward
            looks at are those of the example.
        is_declared: classes that stay one call.
        runs: the model itself runs on the example.

    Returns:
        A module whose output is one value, or a dict of the model's outputs by name.

    Raises:
        UnsupportedOperatorError: the model's own forward can't be traced, by neither.
    """
    tracer = _Tracer(model, inputs, is_declared, runs=runs)
    try:
        graph = tracer.trace(model)
    except Exception as error:  # a user's forward may raise anything under proxies
        tracer.give_back_hooks(model)
        reason = f"{type(model).__name__}.forward, which can't be traced: {reason_of(error)}"
        return _captured_by_export(model, inputs, is_declared, reason, error)
    failed = _export_untraced(model, graph, tracer.untraced, is_declared)
    return fx.GraphModule(model, graph), failed


def _export_untraced(
    model: nn.Module,
    graph: fx.Graph,
    untraced: dict[fx.Node, _Untraced],
    is_declared: IsDeclared,
) -> dict[str, str]:
    """Put exported graphs in the place of calls; the paths of those that stay, with reasons."""
    failed: dict[str, str] = {}
    hopeless: dict[type[nn.Module], str] = {}
    for number, (node, call) in enumerate(untraced.items()):
        module = model.get_submodule(call.path)
        try:
            if type(module) in hopeless:
                raise NotExported(hopeless[type(module)])
            if call.arguments is None:
                raise NotExported("its arguments on the example are not known")
            exported = export_graph(module, *call.arguments, is_declared=is_declared)
        except NotExported as error:
            hopeless[type(module)] = str(error)
            failed[call.path] = f"{call.reason}; by torch.export: {error}"
            continue
        holder = f"_exported_{number}"
        model.add_module(holder, exported)
        with graph.inserting_before(node):
            result = inline(graph, exported, (node.args, node.kwargs), holder, call.path)
        for user in list(node.users):
            user.args = fx.node.map_arg(user.args, lambda n: result if n is node else n)
            user.kwargs = fx.node.map_arg(user.kwargs, lambda n: result if n is node else n)
        graph.erase_node(node)
    return failed


def _captured_by_export(
    model: nn.Module,
    inputs: ExampleInputs,
    is_declared: IsDeclared,
    reason: str,
    error: Exception,
) -> tuple[fx.GraphModule, dict[str, str]]:
    """The calls of a model that torch.fx can't trace."""
    args, kwargs = inputs.arguments(inputs.tensors)
    try:
        exported = export_graph(
            model, args, kwargs, is_declared=is_declared, convert_result=named_leaves
        )
    except NotExported as second:
        raise UnsupportedOperatorError(
            [
                _rejection(type(model).__name__, f"{reason}; by torch.export: {second}"),
                *_without_rules(model, inputs, is_declared),
            ]
        ) from error
    root, graph = nn.Module(), fx.Graph()
    root.add_module("_exported", exported)
    placeholders = {name: graph.placeholder(name) for name in inputs.tensors}
    result = inline(graph, exported, inputs.arguments(placeholders), "_exported", "")
    graph.output(_plain(result))
    return fx.GraphModule(root, graph), {}


def from_program(program: fx.GraphModule) -> fx.GraphModule:
    """The calls of an exported program, its inputs and outputs by name as `capture` gives them."""
    root, graph = nn.Module(), fx.Graph()
    root.add_module("_exported", program)
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    placeholders = []
    for node in inputs:
        placeholders.append(graph.placeholder(str(node.target)))
        placeholders[-1].meta.update(node.meta)
    graph.output(_plain(inline(graph, program, placeholders, "_exported", "")))
    return fx.GraphModule(root, graph)


def _plain(result: Any) -> Any:
    """The result of forward as one value, or a dict of its values by name."""
    leaves = named_leaves(result, (fx.Proxy, fx.Node, torch.Tensor))
    return next(iter(leaves.values())) if len(leaves) == 1 else leaves


def _values(arguments: Any) -> Any:
    """Arguments with the values of their proxies; None if one is not known."""
    missing: list[fx.Proxy] = []

    def value_of(argument: Any) -> Any:
        if not isinstance(argument, ShapeAwareProxy):
            return argument
        if argument.known is None:
            missing.append(argument)
            return None
        return argument.known.value

    values = fx.node.map_aggregate(arguments, value_of)
    return None if missing else values


def _without_rules(
    model: nn.Module, inputs: ExampleInputs, is_declared: IsDeclared
) -> list[Rejection]:
    """Rejections of torch's own layers without a rule that the model calls, in order."""
    called: dict[str, nn.Module] = {}
    handles = [
        module.register_forward_pre_hook(
            lambda m, _, path=path: called.setdefault(path, m)  # type: ignore[misc]
        )
        for path, module in model.named_modules()
        if path and type(module).__module__.startswith("torch.nn.modules.")
    ]
    try:
        inputs.call(model)
    except Exception:  # the reason of that failure is reported already
        pass
    finally:
        for handle in handles:
            handle.remove()
    return [
        Rejection(node=path, got=text.got, allowed=text.allowed, remedy=text.remedy)
        for path, module in called.items()
        if not (lowered_whole(module) or is_declared(module) or any(module.children()))
        for text in [unsupported(f"nn.{type(module).__name__}", type(module).__name__)]
    ]


def _rejection(path: str, got: str) -> Rejection:
    text = untraceable(got)
    return Rejection(node=path, got=got, allowed=text.allowed, remedy=text.remedy)


def reason_of(error: BaseException) -> str:
    """The first line of an error and the line of the user's code that caused it."""
    text = str(error).splitlines()
    message = text[0] if text else type(error).__name__
    ours = (_TORCH, _OURS)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(ours):
            return f"{message} ({frame.filename}:{frame.lineno})"
    return message
