"""Build an architecture with random weights and random batch-norm statistics, and inputs for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass

import torch
from coverage_zoo import Architecture
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_BATCH = 4
_BATCHES = 2
_TRACED = 2


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model in eval mode and two sets of inputs.

    Attributes:
        model: with random weights and statistics.
        example: inputs that it is traced with, [2, *shape] each.
        check: other inputs, which the result is compared on.
    """

    model: nn.Module
    example: list[Tensor]
    check: list[Tensor]


def build(architecture: Architecture) -> Subject:
    """The same model and inputs every time: the seed is made from the name."""
    digest = hashlib.sha256(architecture.name.encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:4], "little"))
    model = architecture.build().eval()
    randomize_norms(model, [inputs(architecture) for _ in range(_BATCHES)])
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    example, check = inputs(architecture, _TRACED), inputs(architecture, _TRACED)
    return Subject(model=model, example=example, check=check)


def inputs(architecture: Architecture, count: int = _BATCH) -> list[Tensor]:
    """Random inputs, [count, *shape] each."""
    if architecture.classes:
        return [torch.randint(architecture.classes, (count, *s)) for s in architecture.inputs]
    return [torch.randn(count, *shape) for shape in architecture.inputs]


@torch.no_grad()
def randomize_norms(model: nn.Module, batches: Sequence[Sequence[Tensor]]) -> None:
    """Give batch norms random parameters, and statistics of random batches, then perturbed.

    Measured statistics keep the activations in a usual range; perturbed, they are not those at
    which a fault in a mean or a variance cancels out.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        if norm.weight is not None:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.2)
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    if norms:
        for batch in batches:
            model(*batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum
        mean, var = norm.running_mean, norm.running_var
        if mean is not None and var is not None:
            var.clamp_(min=1e-3)
            mean.add_(0.1 * var.sqrt() * torch.randn_like(mean))
            var.mul_(torch.exp(0.2 * torch.randn_like(var)))


def leaves(result: object) -> Iterator[Tensor]:
    """The tensors of a model's output in order: tuples, lists, mappings, dataclasses, nested."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from leaves(value)
    elif isinstance(result, (tuple, list)):
        for value in result:
            yield from leaves(value)
    elif is_dataclass(result):
        for field in fields(result):
            yield from leaves(getattr(result, field.name))
