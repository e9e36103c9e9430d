"""Replace max pooling by average pooling over the same windows, which is lossy.

The result is another network than the trained one: it is done only on request, and reported.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional

from icsnn_deploy.conversion.frontend.builder import Unsupported
from icsnn_deploy.conversion.frontend.operators import call_path, normalize
from icsnn_deploy.passes.edit import unique_name

Replacement = Literal["average"]
REPLACEMENTS: tuple[Replacement, ...] = ("average",)

_WINDOW = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_ADAPTIVE = ("output_size", "return_indices")
_MODULES: dict[type[nn.Module], type[nn.Module]] = {
    nn.MaxPool1d: nn.AvgPool1d,
    nn.MaxPool2d: nn.AvgPool2d,
    nn.AdaptiveMaxPool1d: nn.AdaptiveAvgPool1d,
    nn.AdaptiveMaxPool2d: nn.AdaptiveAvgPool2d,
}
_FUNCTIONS: dict[str, tuple[Any, tuple[str, ...]]] = {
    f"{kind}max_pool{axes}d{indices}": (getattr(functional, f"{kind}avg_pool{axes}d"), fields)
    for kind, fields in (("", _WINDOW), ("adaptive_", _ADAPTIVE))
    for axes in (1, 2)
    for indices in ("", "_with_indices")
}


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """Max pooling calls that were replaced, with unique names, and those that could not be."""

    names: Mapping[fx.Node, str] = field(default_factory=dict)
    refused: Mapping[fx.Node, Unsupported] = field(default_factory=dict)


def replace_max_pools(module: fx.GraphModule) -> Replaced:
    """Replace every max pooling that has an average pooling of the same windows."""
    names: dict[fx.Node, str] = {}
    refused: dict[fx.Node, Unsupported] = {}
    modules = dict(module.named_modules())
    for node in list(module.graph.nodes):
        try:
            path = _replace(module, node, modules)
        except Unsupported as error:
            refused[node] = error
            continue
        if path is not None:
            names[node] = unique_name(path, names.values())
    module.recompile()
    return Replaced(names=names, refused=refused)


def _replace(module: fx.GraphModule, node: fx.Node, modules: dict[str, nn.Module]) -> str | None:
    """Replace one call; its path, or None where it is no max pooling."""
    if node.op == "call_module":
        path = str(node.target)
        pool = modules.get(path)
        kind = None if pool is None else _MODULES.get(type(pool))
        if kind is None:
            return None
        module.add_submodule(path, _averaging(pool, kind))
        return path
    if not node.op.startswith("call"):
        return None
    call = normalize(node, node.args, node.kwargs, modules)
    if call.operator not in _FUNCTIONS:
        return None
    target, fields = _FUNCTIONS[call.operator]
    given = dict(zip(("input", *fields), call.args, strict=False))
    _average_call(node, call.got, target, {**given, **call.kwargs})
    return call_path(node, call.operator)


def _averaging(pool: Any, kind: type[Any]) -> nn.Module:
    """The average pooling with the windows of this max pooling."""
    _check(
        type(pool).__name__, getattr(pool, "dilation", 1), getattr(pool, "return_indices", False)
    )
    if kind in (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d):
        adaptive: nn.Module = kind(pool.output_size)
        return adaptive
    averaging: nn.Module = kind(
        pool.kernel_size, pool.stride, pool.padding, ceil_mode=pool.ceil_mode
    )
    return averaging


def _average_call(node: fx.Node, got: str, target: Any, options: dict[str, Any]) -> None:
    """Turn an fx call of max pooling into one of average pooling."""
    pair = isinstance(node.target, torch._ops.OpOverload) and len(node.target._schema.returns) > 1
    indices = options.pop("return_indices", False) or (pair and not _takes_values_alone(node))
    _check(got, options.pop("dilation", 1), indices)
    source = options.pop("input")
    if options.get("stride") == []:
        options["stride"] = None
    node.op, node.target = "call_function", target
    node.args, node.kwargs = (source,), options
    if pair:
        for user in list(node.users):
            user.replace_all_uses_with(node)
            node.graph.erase_node(user)


def _takes_values_alone(node: fx.Node) -> bool:
    return all(
        user.target is operator.getitem and (user.args[1] == 0 or not user.users)
        for user in node.users
    )


def _check(got: str, dilation: Any, indices: bool) -> None:
    if indices or dilation not in (1, (1, 1), (1,), [1, 1], [1]):
        raise Unsupported(
            got=f"{got}: {'indices' if indices else f'dilation {dilation}'}, with average pooling "
            "in its place",
            allowed="windows without dilation, and values alone",
            remedy="Convert it exactly, without --replace-maxpool average, or pool otherwise.",
        )
