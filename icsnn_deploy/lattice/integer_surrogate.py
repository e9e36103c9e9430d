"""An IF population in lattice units with a gradient, and rounding that passes the gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from icsnn_deploy.backends.torch.population import empty_over_time


class IntegerIF(torch.autograd.Function):
    """Spikes of one population of integers, exact, with gradients as in SurrogateIF.

        u[t] = v[t-1] + I[t];   s[t] = u[t] >= v_threshold;   v[t] = u[t] - v_threshold * s[t]

    No value is divided by the threshold, so that the spikes are those of the integer network. In
    the backward pass the step has the slope max(0, 1 - |u / v_threshold - 1|) / v_threshold.

    Args of apply:
        current: [T B, *shape], or [B, *shape] if it is the same at every step.
        v_threshold, v_init: broadcastable to [*shape].
        steps: T.
        constant: whether the current is the same at every step and has no time axis.
    """

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, v_threshold: Tensor, v_init: Tensor, steps: int, constant: bool
    ) -> Tensor:
        batch = len(current) if constant else len(current) // steps
        potentials = empty_over_time(current[:batch], steps).flatten(0, 1)
        result = torch.empty_like(potentials)
        v = torch.empty_like(current[:batch]).copy_(v_init.expand(current.shape[1:]))
        for step in range(steps):
            part = slice(step * batch, (step + 1) * batch)
            u, spikes = potentials[part], result[part]
            torch.add(v, current if constant else current[part], out=u)
            torch.ge(u, v_threshold, out=spikes)
            torch.addcmul(u, spikes, v_threshold, value=-1, out=v)
        ctx.save_for_backward(potentials, v_threshold)
        ctx.steps, ctx.constant, ctx.v_init_shape = steps, constant, v_init.shape
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        (outer,) = gradients
        potentials, v_threshold = ctx.saved_tensors
        steps, constant = ctx.steps, ctx.constant
        batch = len(potentials) // steps
        first = potentials[:batch]
        of_current = torch.zeros_like(first) if constant else torch.empty_like(potentials)
        of_v, of_threshold = torch.zeros_like(first), torch.zeros_like(first)
        for step in reversed(range(steps)):
            part = slice(step * batch, (step + 1) * batch)
            relative = potentials[part] / v_threshold
            slope = (relative - 1.0).abs_().neg_().add_(1.0).clamp_(min=0)
            of_threshold.addcmul_(of_v, (relative >= 1.0).to(of_v.dtype), value=-1)
            # dL / ds[t], with the reset, times ds[t] / du[t]
            by_spike = torch.addcmul(outer[part], of_v, v_threshold, value=-1)
            by_spike.mul_(slope).div_(v_threshold)
            of_threshold.addcmul_(by_spike, relative, value=-1)
            of_v += by_spike
            if constant:
                of_current += of_v
            else:
                of_current[part] = of_v
        return (
            of_current,
            of_threshold.sum(dim=0).sum_to_size(v_threshold.shape),
            of_v.sum(dim=0).sum_to_size(ctx.v_init_shape),
            None,
            None,
        )


class _Straight(torch.autograd.Function):
    """The second value, with the gradient of the first (straight-through, Bengio et al. 2013)."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, replaced: Tensor) -> Tensor:
        return replaced

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return gradients[0], None


def rounded(value: Tensor) -> Tensor:
    """The nearest integers; the gradient passes as if nothing were rounded."""
    result: Tensor = _Straight.apply(value, value.detach().round())
    return result


def half_integers(value: Tensor) -> Tensor:
    """floor(value) + 1/2; the gradient passes as if nothing were rounded."""
    result: Tensor = _Straight.apply(value, value.detach().floor() + 0.5)
    return result
