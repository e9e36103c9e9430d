"""Normalize modules, functions, methods and aten operators to one name and set of arguments."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from icsnn_deploy.conversion.frontend.approximate.fitted import Overwritten, PiecewiseLinearFit

Arguments = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of the model, with the names of torch.nn.functional."""

    operator: str
    args: tuple[Any, ...]
    kwargs: Arguments
    path: str  # the module's path, or the enclosing module's path and the operator
    got: str  # the operator as the user wrote it


def _conv(module: Any) -> tuple[str, Arguments]:
    fields = ("weight", "bias", "stride", "padding", "dilation", "groups", "padding_mode")
    return "conv", {field: getattr(module, field) for field in fields}


def _linear(module: nn.Linear) -> tuple[str, Arguments]:
    return "linear", {"weight": module.weight, "bias": module.bias}


def _batch_norm(module: Any) -> tuple[str, Arguments]:
    fields = ("running_mean", "running_var", "weight", "bias", "eps")
    return "batch_norm", {field: getattr(module, field) for field in fields}


def _hardtanh(module: nn.Hardtanh) -> tuple[str, Arguments]:
    return "hardtanh", {"min_val": module.min_val, "max_val": module.max_val}


def _threshold(module: nn.Threshold) -> tuple[str, Arguments]:
    return "threshold", {"threshold": module.threshold, "value": module.value}


def _leaky_relu(module: nn.LeakyReLU) -> tuple[str, Arguments]:
    return "leaky_relu", {"negative_slope": module.negative_slope}


def _rrelu(module: nn.RReLU) -> tuple[str, Arguments]:
    fields = ("lower", "upper", "training")
    return "rrelu", {field: getattr(module, field) for field in fields}


def _prelu(module: nn.PReLU) -> tuple[str, Arguments]:
    return "prelu", {"weight": module.weight}


def _shrink(module: Any) -> tuple[str, Arguments]:
    name = "softshrink" if isinstance(module, nn.Softshrink) else "hardshrink"
    return name, {"lambd": module.lambd}


def _avg_pool(module: Any) -> tuple[str, Arguments]:
    fields = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    arguments = {field: getattr(module, field) for field in fields}
    if isinstance(module, (nn.AvgPool2d, nn.AvgPool3d)):
        axes = 2 if isinstance(module, nn.AvgPool2d) else 3
        return f"avg_pool{axes}d", {**arguments, "divisor_override": module.divisor_override}
    return "avg_pool1d", arguments


def _max_pool(module: Any) -> tuple[str, Arguments]:
    axes = 1 if isinstance(module, nn.MaxPool1d) else 2
    fields = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    return f"max_pool{axes}d", {field: getattr(module, field) for field in fields}


def _adaptive_max(module: Any) -> tuple[str, Arguments]:
    axes = 1 if isinstance(module, nn.AdaptiveMaxPool1d) else 2
    fields = ("output_size", "return_indices")
    return f"adaptive_max_pool{axes}d", {field: getattr(module, field) for field in fields}


def _adaptive(module: Any) -> tuple[str, Arguments]:
    axes = 1 if isinstance(module, nn.AdaptiveAvgPool1d) else 2
    return f"adaptive_avg_pool{axes}d", {"output_size": module.output_size}


def _pad(module: Any) -> tuple[str, Arguments]:
    return "pad", {"pad": module.padding, "value": getattr(module, "value", 0.0)}


def _pad_as(mode: str) -> Callable[[Any], tuple[str, Arguments]]:
    return lambda module: ("pad", {"pad": module.padding, "mode": mode})


def _conv_transpose(module: Any) -> tuple[str, Arguments]:
    fields = ("weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    return "conv_transpose", {field: getattr(module, field) for field in fields}


def _instance_norm(module: Any) -> tuple[str, Arguments]:
    fields = ("running_mean", "running_var", "weight", "bias", "eps")
    arguments = {field: getattr(module, field) for field in fields}
    return "instance_norm", {**arguments, "use_input_stats": not module.track_running_stats}


def _upsample(module: Any) -> tuple[str, Arguments]:
    return "interpolate", {"mode": module.mode}


def _piecewise_linear(module: PiecewiseLinearFit) -> tuple[str, Arguments]:
    per_channel = "_per_channel" if module.slopes.dim() > 1 else ""
    return f"piecewise_linear{per_channel}", {"function": module.function()}


def _over_axis(name: str) -> Callable[[Any], tuple[str, Arguments]]:
    return lambda module: (name, {"dim": module.dim})


def _without_arguments(name: str) -> Callable[[Any], tuple[str, Arguments]]:
    return lambda module: (name, {})


_MODULES: dict[type[nn.Module], Callable[[Any], tuple[str, Arguments]]] = {
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.Conv3d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.SyncBatchNorm: _batch_norm,
    nn.ReLU: _without_arguments("relu"),
    nn.Hardtanh: _hardtanh,
    nn.ReLU6: _hardtanh,
    nn.Threshold: _threshold,
    nn.LeakyReLU: _leaky_relu,
    nn.RReLU: _rrelu,
    nn.PReLU: _prelu,
    nn.Hardsigmoid: _without_arguments("hardsigmoid"),
    nn.Softshrink: _shrink,
    nn.Hardshrink: _shrink,
    nn.AvgPool1d: _avg_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AvgPool3d: _avg_pool,
    nn.AdaptiveAvgPool3d: lambda module: (
        "adaptive_avg_pool3d",
        {"output_size": module.output_size},
    ),
    nn.AdaptiveAvgPool1d: _adaptive,
    nn.AdaptiveAvgPool2d: _adaptive,
    nn.MaxPool1d: _max_pool,
    nn.MaxPool2d: _max_pool,
    nn.AdaptiveMaxPool1d: _adaptive_max,
    nn.AdaptiveMaxPool2d: _adaptive_max,
    nn.ConvTranspose1d: _conv_transpose,
    nn.ConvTranspose2d: _conv_transpose,
    nn.InstanceNorm1d: _instance_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.Upsample: _upsample,
    nn.UpsamplingNearest2d: _upsample,
    nn.UpsamplingBilinear2d: _upsample,
    nn.PixelShuffle: _without_arguments("pixel_shuffle"),
    nn.PixelUnshuffle: _without_arguments("pixel_unshuffle"),
    nn.ChannelShuffle: _without_arguments("channel_shuffle"),
    nn.Unflatten: _without_arguments("reshape"),
    nn.Unfold: _without_arguments("unfold"),
    nn.ReflectionPad1d: _pad_as("reflect"),
    nn.ReflectionPad2d: _pad_as("reflect"),
    nn.ReplicationPad1d: _pad_as("replicate"),
    nn.ReplicationPad2d: _pad_as("replicate"),
    nn.CircularPad1d: _pad_as("circular"),
    nn.CircularPad2d: _pad_as("circular"),
    nn.ZeroPad1d: _pad,
    nn.ZeroPad2d: _pad,
    nn.ConstantPad1d: _pad,
    nn.ConstantPad2d: _pad,
    nn.Softmax: _over_axis("softmax"),
    nn.LogSoftmax: _over_axis("log_softmax"),
    nn.Softmin: _over_axis("softmin"),
    nn.Flatten: _without_arguments("reshape"),
    Overwritten: _without_arguments("overwritten"),
    PiecewiseLinearFit: _piecewise_linear,
    nn.Identity: _without_arguments("identity"),
    # Dropout in eval mode; a module in training mode was rejected before.
    **dict.fromkeys(
        (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout),
        _without_arguments("identity"),
    ),
}

_SYNONYMS = {
    **dict.fromkeys(("iadd", "__add__", "__radd__"), "add"),
    **dict.fromkeys(("isub", "subtract"), "sub"),
    **dict.fromkeys(("imul", "multiply"), "mul"),
    **dict.fromkeys(("truediv", "itruediv", "divide", "true_divide"), "div"),
    "negative": "neg",
    "clip": "clamp",
    "_threshold": "threshold",
    "_prelu_kernel": "prelu",
    **dict.fromkeys(("absolute", "__abs__"), "abs"),
    **dict.fromkeys(("invert", "bitwise_not", "__invert__"), "logical_not"),
    **dict.fromkeys(("and", "bitwise_and", "__and__", "__rand__"), "logical_and"),
    **dict.fromkeys(("or", "bitwise_or", "__or__", "__ror__"), "logical_or"),
    "sgn": "sign",
    **{f"__{name}__": name for name in ("gt", "ge", "lt", "le")},
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), "conv"),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d"), "conv_transpose"),
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "_adaptive_avg_pool3d": "adaptive_avg_pool3d",
    **dict.fromkeys(
        ("view", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "unflatten", "view_copy"),
        "reshape",
    ),
    **dict.fromkeys(
        (
            "contiguous",
            "detach",
            "clone",
            "alias",
            "lift_fresh",
            "lift_fresh_copy",
        ),
        "identity",
    ),
    **dict.fromkeys(
        ("dropout1d", "dropout2d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout"),
        "dropout",
    ),
    **dict.fromkeys(("float", "type", "type_as", "_to_copy", "cpu"), "to"),
    "constant_pad_nd": "pad",
    **dict.fromkeys(("concat", "concatenate"), "cat"),
    "mm": "matmul",
    "_native_batch_norm_legit_no_training": "native_batch_norm",
}

_DISPLAY_NAMES = {
    "getitem": "slice",
    "iadd": "add",
    "isub": "sub",
    "imul": "mul",
    "truediv": "div",
    "itruediv": "div",
    "constant_pad_nd": "pad",
}
"""Names for nodes where the name in Python or aten is not the usual one."""

_ATTRIBUTES = {
    "data": "identity",
    **dict.fromkeys(("shape", "dtype", "device", "ndim", "layout", "is_cuda"), "size"),
}
METADATA = {"size", "dim", "ndimension", "numel", "nelement", "sym_size", "sym_numel", "stride"}
METADATA |= {"is_contiguous", "is_floating_point", "element_size", "sym_stride", "len"}
"""Operators whose result does not depend on the values of the tensor."""

_SPACES = (torch, functional, operator)
_ATEN_NAMES = {"self": "input", "train": "training"}


def lowered_whole(module: nn.Module) -> bool:
    """Whether the module is one operator: its class has a rule, or inherits forward from one."""
    return _rule(module) is not None


def _rule(module: nn.Module) -> Callable[[Any], tuple[str, Arguments]] | None:
    kind = type(module)
    for base in kind.__mro__:
        if base in _MODULES:
            methods = [name for name in ("forward", "_conv_forward") if hasattr(base, name)]
            own = any(getattr(kind, name) is not getattr(base, name) for name in methods)
            return None if own or "forward" in vars(module) else _MODULES[base]
    return None


def normalize(
    node: fx.Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], modules: dict[str, nn.Module]
) -> Call:
    """The call that an fx node makes, with the values of its operands."""
    if node.op == "call_module":
        return _module_call(modules[str(node.target)], str(node.target), args, kwargs)
    options = dict(kwargs)
    if isinstance(node.target, torch._ops.OpOverload):
        got, options = _aten(node.target, args, kwargs)
        args = ()
    elif node.op == "call_method":
        got = str(node.target)
    else:
        got = _function_name(node.target)
    if got == "getattr":
        attribute = str(args[1])
        return Call(
            operator=_ATTRIBUTES.get(attribute, f"attribute.{attribute}"),
            args=args[:1],
            kwargs={},
            path=call_path(node, attribute),
            got=f"attribute {attribute}",
        )
    plain = got if got.endswith("__") else got.rstrip("_")
    name = _SYNONYMS.get(plain, plain)
    return Call(operator=name, args=args, kwargs=options, path=call_path(node, plain), got=got)


def _module_call(
    module: nn.Module, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Call:
    rule = _rule(module)
    kind = type(module).__name__
    name, arguments = rule(module) if rule is not None else (f"nn.{kind}", {})
    return Call(operator=name, args=args, kwargs={**arguments, **kwargs}, path=path, got=kind)


def _aten(
    target: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, Arguments]:
    """Name and named arguments of an aten operator; others keep their namespace in the name."""
    schema = target._schema
    names = [argument.name for argument in schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    space, _, name = schema.name.partition("::")
    options = {_ATEN_NAMES.get(key, key): value for key, value in given.items()}
    return (name if space == "aten" else f"{space}.{name}"), options


def _function_name(target: Any) -> str:
    """The function's name; with its module unless it is PyTorch's own."""
    name = str(getattr(target, "__name__", target))
    if target is getattr or any(getattr(space, name, None) is target for space in _SPACES):
        return name
    return f"{getattr(target, '__module__', '')}.{name}"


def call_path(node: fx.Node, plain: str) -> str:
    """Path of a call: the path of the enclosing module and the operator.

    An exported program has only operators; an operator that is a whole torch.nn module gets the
    path of that module. So do the operators of an ONNX model.
    """
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    full = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    if path and full.startswith("torch.nn.modules.") and ".container." not in full:
        return str(path)
    if path and getattr(kind, "is_one_operator", False):
        return str(path)
    short = plain.split(".")[-1]
    short = _DISPLAY_NAMES.get(short, short)
    return f"{path}.{short}" if path else short
