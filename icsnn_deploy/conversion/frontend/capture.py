"""Capture the calls of a model: with torch.fx, and with torch.export what torch.fx can't trace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from torch import fx, nn

from icsnn_deploy.conversion.frontend.capture_exported import (
    NotExported,
    export_graph,
    inline,
    takes,
)
from icsnn_deploy.conversion.frontend.example_inputs import ExampleInputs
from icsnn_deploy.conversion.frontend.instance_checks import proxies_are_tensors
from icsnn_deploy.conversion.frontend.operators import lowered_whole
from icsnn_deploy.conversion.frontend.outputs import named_leaves
from icsnn_deploy.conversion.frontend.remedies import unsupported, untraceable
from icsnn_deploy.conversion.frontend.tracer import (
    IsDeclared,
    Tracer,
    UntracedCall,
    plain_result,
    reason_of,
)
from icsnn_deploy.errors import Rejection, UnsupportedOperatorError

_ONE_AT_A_TIME = threading.Lock()
"""Tracing patches torch and builtins for the whole process."""


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
    with _ONE_AT_A_TIME:
        tracer = Tracer(model, inputs, is_declared, runs=runs)
        try:
            with proxies_are_tensors():
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
    untraced: dict[fx.Node, UntracedCall],
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
            if not takes(exported, (node.args, node.kwargs)):
                raise NotExported("it is exported with other inputs than it is called with")
        except NotExported as error:
            hopeless[type(module)] = str(error)
            failed[call.path] = f"{call.reason}; by torch.export: {error}"
            continue
        holder = f"_exported_{number}"
        model.add_module(holder, exported)
        with graph.inserting_before(node):
            result = inline(graph, exported, (node.args, node.kwargs), holder, call.path)
        _replace(node, result)
    return failed


def _replace(node: fx.Node, result: Any) -> None:
    """Use a result, in whatever containers, in the place of a call."""

    def replaced(operand: fx.Node) -> Any:
        return result if operand is node else operand

    for user in list(node.users):
        user.args = fx.node.map_arg(user.args, replaced)
        user.kwargs = fx.node.map_arg(user.kwargs, replaced)
    node.graph.erase_node(node)


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
                *without_rules(model, inputs, is_declared, [""]),
            ]
        ) from error
    root, graph = nn.Module(), fx.Graph()
    root.add_module("_exported", exported)
    placeholders = {name: graph.placeholder(name) for name in inputs.tensors}
    result = inline(graph, exported, inputs.arguments(placeholders), "_exported", "")
    graph.output(plain_result(result))
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
    graph.output(plain_result(inline(graph, program, placeholders, "_exported", "")))
    return fx.GraphModule(root, graph)


def without_rules(
    model: nn.Module, inputs: ExampleInputs, is_declared: IsDeclared, within: Sequence[str]
) -> list[Rejection]:
    """Rejections of torch's own layers without a rule that the model calls, in order.

    Args:
        model: runs on the example.
        inputs: the example.
        is_declared: classes with a rule.
        within: paths of modules that can't be traced; layers elsewhere are left out.
    """
    called: dict[str, nn.Module] = {}

    def note(path: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, _: called.update({path: module})

    handles = [
        module.register_forward_pre_hook(note(path))
        for path, module in model.named_modules()
        if any(path.startswith(f"{outer}." if outer else "") for outer in within)
        and type(module).__module__.startswith("torch.nn.modules.")
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
        if not (lowered_whole(module) or is_declared(module) or [*module.children()])
        and ".container" not in type(module).__module__
        for text in [unsupported(f"nn.{type(module).__name__}", type(module).__name__)]
    ]


def _rejection(path: str, got: str) -> Rejection:
    text = untraceable(got)
    return Rejection(node=path, got=got, allowed=text.allowed, remedy=text.remedy)
