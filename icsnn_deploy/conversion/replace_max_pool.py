"""The lossy alternative to exact max pooling: average pooling over the same windows.

Another network than the trained one. Only on request, and what was replaced is reported.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import fx, nn
from torch.nn import functional

from icsnn_deploy.conversion.calls import call_path, normalize
from icsnn_deploy.errors import ConversionError

Replacement = Literal["average"]
REPLACEMENTS: tuple[Replacement, ...] = ("average",)

_FIELDS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_MODULES: dict[type[nn.Module], type[nn.Module]] = {
    nn.MaxPool1d: nn.AvgPool1d,
    nn.MaxPool2d: nn.AvgPool2d,
    nn.AdaptiveMaxPool1d: nn.AdaptiveAvgPool1d,
    nn.AdaptiveMaxPool2d: nn.AdaptiveAvgPool2d,
}
_FUNCTIONS: dict[str, Any] = {
    "max_pool1d": functional.avg_pool1d,
    "max_pool2d": functional.avg_pool2d,
}


def replace_max_pools(module: fx.GraphModule) -> tuple[str, ...]:
    """Put average pooling in the place of every max pooling; returns their paths.

    Raises:
        ConversionError: a max pooling with dilation or indices, which has no average in its place.
    """
    replaced: list[str] = []
    modules = dict(module.named_modules())
    for node in module.graph.nodes:
        if node.op == "call_module":
            pool = modules.get(str(node.target))
            kind = _MODULES.get(type(pool)) if pool is not None else None
            if pool is None or kind is None:
                continue
            path = str(node.target)
            module.add_submodule(path, _averaging(path, pool, kind))
        elif node.op.startswith("call"):
            call = normalize(node, node.args, node.kwargs, modules)
            if call.operator not in _FUNCTIONS:
                continue
            path = call_path(node, call.operator)
            _average_call(node, path, _FUNCTIONS[call.operator], call.args, call.kwargs)
        else:
            continue
        replaced.append(path)
    module.recompile()
    return tuple(dict.fromkeys(replaced))


def _averaging(path: str, pool: Any, kind: type[Any]) -> nn.Module:
    """The averaging module that pools as this one does."""
    if getattr(pool, "return_indices", False) or getattr(pool, "dilation", 1) not in (1, (1, 1)):
        raise _refused(path)
    if kind in (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d):
        adaptive: nn.Module = kind(pool.output_size)
        return adaptive
    averaging: nn.Module = kind(
        pool.kernel_size, pool.stride, pool.padding, ceil_mode=pool.ceil_mode
    )
    return averaging


def _average_call(
    node: fx.Node, path: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Make an fx call of max pooling one of average pooling."""
    options = {**dict(zip(("input", *_FIELDS), args, strict=False)), **kwargs}
    if options.pop("return_indices", False) or options.pop("dilation", 1) not in (1, [1, 1], [1]):
        raise _refused(path)
    source = options.pop("input")
    if options.get("stride") == []:
        options["stride"] = None
    node.op, node.target = "call_function", target
    node.args, node.kwargs = (source,), options


def _refused(path: str) -> ConversionError:
    return ConversionError(
        f"{path}: max pooling with dilation or indices has no average in its place; convert it "
        "exactly, without replacing"
    )
