"""Modules that smooth calls are replaced by: a function that is linear between knots."""

from __future__ import annotations

import torch
from torch import nn

from icsnn_deploy.conversion.frontend.approximate.knots import Knots
from icsnn_deploy.conversion.frontend.piecewise_linear import PiecewiseLinear


class PiecewiseLinearFit(nn.Module):
    """p(x) = value + s[0] min(x - b[0], 0) + sum_k s[k] clip(x - b[k-1], 0, b[k] - b[k-1]) + ...

    The front end has an exact rule for it.

    Args:
        knots: rounded to float32, as the model's own parameters.
        inplace: write the result into the argument, as the call that it replaces.
    """

    places: torch.Tensor
    slopes: torch.Tensor
    value: torch.Tensor

    def __init__(self, knots: Knots, *, inplace: bool = False) -> None:
        super().__init__()
        self.register_buffer("places", torch.tensor(knots.places, dtype=torch.float32))
        self.register_buffer("slopes", torch.tensor(knots.slopes, dtype=torch.float32))
        self.register_buffer("value", torch.tensor(knots.value, dtype=torch.float32))
        self.inplace = inplace
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """p(x), elementwise."""
        first, last = self.places[0], self.places[-1]
        result = self.value + self.slopes[0] * torch.clamp(x - first, max=0)
        for k in range(1, len(self.places)):
            width = self.places[k] - self.places[k - 1]
            rise = torch.minimum(torch.clamp(x - self.places[k - 1], min=0), width)
            result = result + self.slopes[k] * rise
        result = result + self.slopes[-1] * torch.clamp(x - last, min=0)
        return x.copy_(result) if self.inplace else result

    def function(self) -> PiecewiseLinear:
        """The function, exactly; with parameters [C, 1, ...] where they are per channel."""
        places = self.places.double().numpy()
        slopes = self.slopes.double().numpy()
        intercepts = [self.value.double().numpy() - slopes[0] * places[0]]
        for k, place in enumerate(places):
            intercepts.append(intercepts[-1] + (slopes[k] - slopes[k + 1]) * place)
        return PiecewiseLinear.of(list(places), list(slopes), intercepts)


class Overwritten(nn.Module):
    """x.copy_(y): what an in-place call does with its result."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """x, which holds y."""
        return x.copy_(y)
