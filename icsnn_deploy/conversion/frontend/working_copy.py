"""The copy of a model that is traced: without wrappers, with its weights computed."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from icsnn_deploy.errors import ConversionError, lines

_QUANTIZED = ("torch.ao.nn.quantized", "torch.nn.quantized", "torch.ao.nn.intrinsic.quantized")


def working_copy(model: nn.Module) -> nn.Module:
    """A copy in eval mode and float32 on the CPU, without DataParallel and torch.compile wrappers.

    Raises:
        ConversionError: a model in training mode; one that was scripted, has no values yet, is
            quantized or complex; or one that can't be copied. All reasons at once.
    """
    model = unwrapped(model)
    _check_overrides(model)
    problems = [*_problems(model)]
    if problems:
        raise ConversionError(lines(problems[0], problems[1:]))
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            # A weight that a hook computes; only tensors without a history can be copied.
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        work = copy.deepcopy(model, memo)
    except Exception as error:  # deepcopy runs the attributes' own code
        raise ConversionError(
            f"{type(model).__name__} can't be copied ({error}); conversion works on a copy. Load "
            "the state dict into a fresh model"
        ) from error
    if not isinstance(work, nn.Module):
        raise ConversionError(
            f"{type(model).__name__}: copy.deepcopy gives a {type(work).__name__}; conversion "
            "works on a copy. Remove __deepcopy__ from the class, or let it return a module"
        )
    for module in work.modules():
        for name, child in list(module.named_children()):
            # Fake quantization that is on was refused; what is off gives its input.
            kept = nn.Identity() if _fake_quantizes(child) else unwrapped(child)
            setattr(module, name, kept)
    work.eval()
    work.to("cpu", torch.float32)
    return work


_LISTS: dict[str, tuple[type, ...]] = {
    "named_modules": (str, nn.Module),
    "named_children": (str, nn.Module),
    "modules": (nn.Module,),
    "named_parameters": (str, torch.Tensor),
    "named_buffers": (str, torch.Tensor),
    "parameters": (torch.Tensor,),
    "buffers": (torch.Tensor,),
}
"""Methods of nn.Module that list its contents, and what each entry is."""
_CALLED = ("eval", "train", "to", "children", "forward")


def _check_overrides(model: nn.Module) -> None:
    """Check that the methods of nn.Module are there, and list what those of nn.Module do.

    Raises:
        ConversionError: names the class and the method.
    """
    waiting, seen = [model], {id(model)}
    while waiting:
        module = waiting.pop()
        for _, child in nn.Module.named_children(module):
            if id(child) not in seen:
                waiting.append(child)
                seen.add(id(child))
        for name in (*_LISTS, *_CALLED):
            if not callable(getattr(module, name, None)):
                raise ConversionError(
                    f"{type(module).__name__}.{name} is no method but a "
                    f"{type(getattr(module, name, None)).__name__}, which hides that of "
                    "nn.Module. Rename the attribute"
                )
        for name, kinds in _LISTS.items():
            own = name in vars(module) or getattr(type(module), name) is not getattr(
                nn.Module, name
            )
            if own and not _lists(module, name, kinds):
                wanted = " and ".join(kind.__name__ for kind in kinds)
                raise ConversionError(
                    f"{type(module).__name__}.{name}() does not list entries of {wanted}, as "
                    f"nn.Module.{name}() does. Remove it from the class, or rename it"
                )


def _lists(module: nn.Module, name: str, kinds: tuple[type, ...]) -> bool:
    """Whether each entry of a list of the module's contents is of these kinds."""
    found = getattr(module, name)()
    if not isinstance(found, Iterable):
        return False
    for entry in found:
        values = entry if len(kinds) > 1 else (entry,)
        if not isinstance(values, tuple) or len(values) != len(kinds):
            return False
        if not all(map(isinstance, values, kinds)):
            return False
    return True


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = model.module
        elif type(model).__name__ != "OptimizedModule":
            return model
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def compute_weights(model: nn.Module) -> None:
    """Replace weights that are computed in each call by their values, in place.

    Weight norm, spectral norm (as hooks and as parametrizations) and pruning.
    """
    for module in model.modules():
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                nn.utils.remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                nn.utils.remove_spectral_norm(module, hook.name)
            elif isinstance(hook, prune.BasePruningMethod):
                prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
        if parametrize.is_parametrized(module):
            for name in list(cast(nn.ModuleDict, module.parametrizations)):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def _problems(model: nn.Module) -> list[str]:
    """Why the model can't be copied and traced, one sentence or two each."""
    modules = {path or "the model": module for path, module in model.named_modules()}

    def those(kind: Any) -> str:
        found = [f"{path} ({type(m).__name__})" for path, m in modules.items() if kind(m)]
        return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")

    scripted = those(lambda m: isinstance(m, torch.jit.ScriptModule))
    if scripted:
        return [
            f"{scripted}: TorchScript, of which the Python code is not kept. Convert the nn.Module "
            "that it was made from, with its state dict, or torch.export it to a .pt2 file"
        ]
    checks = (
        (
            _is_uninitialized,
            "weights without a shape yet. Call the model once on a batch, then load its weights",
        ),
        (
            _is_meta,
            "on the meta device, which holds no values. Call model.to_empty(device='cpu') and "
            "load its state dict, or make it on the CPU",
        ),
        (
            _is_fake_quantized,
            "fake quantization of quantization-aware training (torch.ao), with levels of its own. "
            "Switch it off with model.apply(torch.ao.quantization.disable_fake_quant) and "
            "model.apply(torch.ao.quantization.disable_observer), or convert the float model; "
            "quantize rounds the converted network",
        ),
        (
            lambda m: type(m).__module__.startswith(_QUANTIZED),
            "a quantized layer of torch.ao with integer weights. Convert the float model; quantize "
            "rounds the converted network",
        ),
        (
            lambda m: m.training and isinstance(m, (_NormBase, _DropoutNd)),
            "in training mode. Call model.eval() before conversion",
        ),
    )
    problems = []
    for kind, text in checks:
        found = those(kind)
        if found:
            problems.append(f"{found}: {text}")
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if not is_lazy(value) and value.is_complex():
            problems.append(f"{name}: type {value.dtype}; real numbers are needed")
    return problems


def _own_tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(recurse=False), *module.buffers(recurse=False)]


def _is_uninitialized(module: nn.Module) -> bool:
    return isinstance(module, LazyModuleMixin) and module.has_uninitialized_params()


def _is_meta(module: nn.Module) -> bool:
    return not _is_uninitialized(module) and any(t.is_meta for t in _own_tensors(module))


def _fake_quantizes(module: nn.Module) -> bool:
    return any(base.__name__ == "FakeQuantizeBase" for base in type(module).__mro__)


def _is_fake_quantized(module: nn.Module) -> bool:
    if not _fake_quantizes(module):
        return False
    enabled = [
        getattr(module, "fake_quant_enabled", None),
        getattr(module, "observer_enabled", None),
    ]
    return any(flag is None or bool(torch.as_tensor(flag).any()) for flag in enabled)
