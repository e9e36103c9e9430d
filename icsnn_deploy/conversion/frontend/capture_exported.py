"""Export a module by torch.export, and put the exported calls into a graph of torch.fx."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from icsnn_deploy.errors import first_line

logger = logging.getLogger(__name__)

_INNER = "model"
_NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"  # torch's path of a call in no module
_LONGEST_REASON = 160  # characters; torch.export lists symbols without end


class NotExported(Exception):  # noqa: N818 - becomes a part of a Rejection
    """A module that torch.export can't export; the message is the reason."""


class _Wrapped(nn.Module):
    """A module with arguments of any name, and its result in containers that torch.export knows."""

    def __init__(self, model: nn.Module, convert: Callable[[Any], Any]) -> None:
        super().__init__()
        self.model = model
        self.convert = convert

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.convert(self.model(*args, **kwargs))


def export_graph(
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    is_declared: Callable[[nn.Module], bool],
    convert_result: Callable[[Any], Any] = lambda result: result,
) -> fx.GraphModule:
    """The operators of a module; of any batch size where that is possible, else of the example's.

    Args:
        module: in eval mode.
        args: positional arguments on the example.
        kwargs: keyword arguments on the example.
        is_declared: classes that would have to stay one call, which exporting can't do.
        convert_result: applied to what the module returns.

    Raises:
        NotExported: with the reason.
    """
    declared = [path or type(m).__name__ for path, m in module.named_modules() if is_declared(m)]
    if declared:
        raise NotExported(f"not tried, since it would take the declared {declared[0]} apart")
    exporter = _Wrapped(module, convert_result).eval()
    failure: Exception | None = None
    for shapes in _batch_shapes(args, kwargs):
        try:
            exported = _export(exporter, args, kwargs, shapes)
        except Exception as error:  # torch.export raises nearly any type
            failure = error
            logger.info("torch.export with shapes %s: %s", shapes, first_line(error))
            if "data-dependent" in str(error):
                break
            continue
        _drop_outer_path(exported)
        return exported
    raise NotExported(_reason(failure)) from failure


def inline(
    graph: fx.Graph, exported: fx.GraphModule, arguments: Any, holder: str, path: str
) -> Any:
    """Copy the calls of an exported module into a graph.

    Args:
        graph: the calls are added at its insertion point.
        exported: as `export_graph` gives it.
        arguments: nodes and constants, in the containers that the module takes.
        holder: the path at which the graph's owner holds `exported`.
        path: of the module in the model; the paths of the calls begin with it.

    Returns:
        The result of the module: nodes in the containers that it returns.
    """
    leaves = iter(pytree.tree_leaves(arguments))
    copies: dict[fx.Node, Any] = {}
    result: Any = None
    for node in exported.graph.nodes:
        if node.op == "placeholder":
            copies[node] = next(leaves)
        elif node.op == "output":
            result = fx.node.map_arg(node.args[0], lambda n: copies[n])
        elif node.op != "call_module" or node.target != "_guards_fn":
            copies[node] = copied = graph.node_copy(node, lambda n: copies[n])
            if node.op in ("get_attr", "call_module"):
                copied.target = f"{holder}.{node.target}"
            copied.meta["nn_module_stack"] = _inside(node.meta.get("nn_module_stack"), path)
    codegen: Any = exported.graph._codegen
    return pytree.tree_unflatten(pytree.tree_leaves(result), codegen.pytree_info.out_spec)


def takes(exported: fx.GraphModule, arguments: Any) -> bool:
    """Whether the exported module takes as many inputs as a call gives."""
    inputs = [node for node in exported.graph.nodes if node.op == "placeholder"]
    return len(inputs) <= len(pytree.tree_leaves(arguments))


def _export(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], shapes: Any
) -> fx.GraphModule:
    with torch.no_grad(), _quiet():
        program = torch.export.export(module, args, kwargs, dynamic_shapes=shapes, strict=False)
    exported = program.module()
    if not isinstance(exported, fx.GraphModule):
        raise NotExported(f"it gives {type(exported).__name__}")
    return exported


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.export logs and prints: a failure is reported once, by the caller."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _batch_shapes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Dynamic shapes to try in turn: the first axis of every tensor free, then none."""
    free = getattr(torch.export.Dim, "AUTO", None)
    if free is None:
        return [None]

    def first_axis(value: Any) -> Any:
        return {0: free} if isinstance(value, torch.Tensor) and value.dim() else None

    shapes = {"args": args, "kwargs": kwargs} if kwargs else {"args": args}
    return [pytree.tree_map(first_axis, shapes), None]


def _drop_outer_path(exported: fx.GraphModule) -> None:
    """Take the wrapping module out of the paths of the calls."""
    for node in exported.graph.nodes:
        stack = dict(node.meta.get("nn_module_stack") or {})
        node.meta["nn_module_stack"] = {
            key: (str(path).removeprefix(_INNER).removeprefix("."), kind)
            for key, (path, kind) in stack.items()
        }


def _inside(stack: Any, path: str) -> dict[str, Any]:
    """The modules around a call, with paths in the whole model."""
    return {
        key: (".".join(part for part in (path, str(inner)) if part), kind)
        for key, (inner, kind) in (stack or {}).items()
        if inner != _NO_MODULE
    }


def _reason(error: Exception | None) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0].removesuffix(".") if lines else type(error).__name__
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}..."
