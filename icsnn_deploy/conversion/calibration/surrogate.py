"""An IF population with a gradient: all T steps forward, and back through them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from icsnn_deploy.backends.torch.population import empty_over_time
from icsnn_deploy.conversion.calibration.surrogate_native import fits, native_if


class SurrogateIF(torch.autograd.Function):
    """Spikes of one population with a gradient for its current, v_init and amplitude.

        u[t] = v[t-1] + I[t];   s[t] = u[t] >= 1;   v[t] = u[t] - s[t]
        y[t] = rho * s[t],   v[0] = iota

    All in units of the threshold. In the backward pass the step has the slope max(0, 1 - |u - 1|)
    (a triangular surrogate gradient, Bellec et al. 2018; Neftci et al. 2019), and the gradient
    passes through the reset.

    Args of apply:
        current: [T B, *shape], or [B, *shape] if it is the same at every step.
        iota, rho: one value per channel, (C, 1, 1).
        steps: T.
        constant: whether the current is the same at every step and has no time axis.
    """

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, iota: Tensor, rho: Tensor, steps: int, constant: bool
    ) -> Tensor:
        ctx.steps, ctx.constant = steps, constant
        ctx.native = native_if() if fits(current) else None
        if ctx.native is not None:
            potentials, result = ctx.native.forward(current, iota, rho, steps, constant)
            ctx.save_for_backward(potentials, rho)
            return result  # type: ignore[no-any-return]
        batch = len(current) if constant else len(current) // steps
        potentials = empty_over_time(current[:batch], steps).flatten(0, 1)
        result = torch.empty_like(potentials)
        v = torch.empty_like(current[:batch]).copy_(iota.expand(current.shape[1:]))
        spikes = torch.empty_like(v)
        for step in range(steps):
            part = slice(step * batch, (step + 1) * batch)
            u = potentials[part]
            torch.add(v, current if constant else current[part], out=u)
            torch.ge(u, 1.0, out=spikes)
            torch.sub(u, spikes, out=v)
            torch.mul(spikes, rho, out=result[part])
        ctx.save_for_backward(potentials, rho)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        (outer,) = gradients
        potentials, rho = ctx.saved_tensors
        steps, constant = ctx.steps, ctx.constant
        if ctx.native is not None:
            found = ctx.native.backward(potentials, outer, rho, steps, constant)
            return found[0], found[1].reshape(rho.shape), found[2].reshape(rho.shape), None, None
        batch = len(potentials) // steps
        first = potentials[:batch]
        of_current = torch.zeros_like(first) if constant else torch.empty_like(potentials)
        of_v, by_spike = torch.zeros_like(first), torch.zeros_like(first)
        for step in reversed(range(steps)):
            part = slice(step * batch, (step + 1) * batch)
            u = potentials[part]
            slope = (u - 1.0).abs_().neg_().add_(1.0).clamp_(min=0)
            by_spike.addcmul_(outer[part], (u >= 1.0).to(u.dtype))
            of_v += slope.mul_(torch.mul(outer[part], rho).sub_(of_v))
            if constant:
                of_current += of_v
            else:
                of_current[part] = of_v

        def summed(values: Tensor) -> Tensor:
            axes = (0, *range(2, values.ndim))
            return values.sum(dim=axes).reshape(rho.shape)

        return of_current, summed(of_v), summed(by_spike), None, None
