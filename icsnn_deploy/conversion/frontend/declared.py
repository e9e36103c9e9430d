"""Activation classes of the user, whose function is declared and never guessed."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from icsnn_deploy.conversion.frontend.builder import Unsupported
from icsnn_deploy.errors import ConversionError


@dataclass(frozen=True, kw_only=True)
class DeclaredActivation:
    """A clip or QCFS class of the user, and the attributes of its trained bound and level count.

        y = clip(x, 0, bound)
        y = bound / L * clip(floor(x * L / bound + 1/2), 0, L)      with levels L (QCFS)

    Args:
        class_name: the class, plain ("Clip") or qualified ("models.layers.Clip").
        bound: attribute that holds the bound: a number or a tensor of one value.
        levels: attribute that holds L, for QCFS.
    """

    class_name: str
    bound: str
    levels: str | None = None

    def names(self, module: nn.Module) -> bool:
        """Whether the module is of this class."""
        kind = type(module)
        return self.class_name in (kind.__name__, f"{kind.__module__}.{kind.__qualname__}")

    def parameters_of(self, module: nn.Module) -> dict[str, Any]:
        """`upper` and `levels` of the Relu that the module is; raises Unsupported."""
        upper = _number(module, self.bound)
        if not 0 < upper < math.inf:
            raise _unusable(module, f"{self.bound} = {upper}", "a finite bound > 0")
        if self.levels is None:
            return {"upper": upper, "levels": None}
        levels = _number(module, self.levels)
        if levels < 1 or levels != round(levels):
            raise _unusable(module, f"{self.levels} = {levels}", "an integer level count >= 1")
        return {"upper": upper, "levels": int(levels)}


def check_declared(model: nn.Module, activations: Sequence[DeclaredActivation]) -> None:
    """Check that every declared class occurs in the model; a misspelled one would go unnoticed.

    Raises:
        ConversionError: names the declared class and the classes of the model.
    """
    modules = list(model.modules())
    for declared in activations:
        if not any(declared.names(module) for module in modules):
            present = sorted({type(module).__name__ for module in modules})
            raise ConversionError(
                f"declared activation {declared.class_name!r}: the model has no module of this "
                f"class; it has {', '.join(present)}. Correct class_name, or drop the declaration"
            )


def _number(module: nn.Module, attribute: str) -> float:
    try:
        value = operator.attrgetter(attribute)(module)
    except AttributeError:
        raise _unusable(module, f"no attribute {attribute!r}", "an attribute it has") from None
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise _unusable(module, f"{attribute} of {value.numel()} values", "one value per layer")
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _unusable(module, f"{attribute} = {value!r}", "a real number")
    return float(value)


def _unusable(module: nn.Module, got: str, allowed: str) -> Unsupported:
    return Unsupported(
        got=f"{type(module).__name__} with {got}",
        allowed=allowed,
        remedy="Correct the attribute names of its DeclaredActivation, or its value.",
    )
