"""The gradient of a population is that of its T steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from icsnn_deploy.conversion.calibration.surrogate import SurrogateIF

STEPS, BATCH = 5, 2


class Step(torch.autograd.Function):
    """One threshold with the triangular slope, for autograd to go through the steps itself."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 1).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> Tensor:
        u: Tensor = ctx.saved_tensors[0]
        return outer * torch.clamp(1 - (u - 1).abs(), min=0)


def step_by_step(current: Tensor, iota: Tensor, rho: Tensor, constant: bool) -> Tensor:
    v, found = iota, []
    for step in range(STEPS):
        u = v + (current if constant else current[step * BATCH : (step + 1) * BATCH])
        s = Step.apply(u)
        v = u - s
        found.append(rho * s)
    return torch.cat(found)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 7), (3,)])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_gradient_is_that_of_the_steps(
    shape: tuple[int, ...], constant: bool, channels_last: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = BATCH if constant else STEPS * BATCH
    current = torch.randn((rows, *shape), generator=generator, dtype=torch.float64) * 0.7 + 0.3
    if channels_last and len(shape) == 3:
        current = current.contiguous(memory_format=torch.channels_last)
    column = (3, *(1,) * (len(shape) - 1))
    drawn = [torch.rand(column, generator=generator, dtype=torch.float64) + 0.2 for _ in range(2)]
    outer = torch.randn((STEPS * BATCH, *shape), generator=generator, dtype=torch.float64)
    results = []
    for ours in (True, False):
        leaves = [tensor.clone().requires_grad_() for tensor in (current, *drawn)]
        run: Callable[..., Tensor] = SurrogateIF.apply if ours else step_by_step
        found = run(*leaves, *((STEPS, constant) if ours else (constant,)))
        torch.autograd.backward((found * outer).sum())
        results.append([found.detach(), *(leaf.grad for leaf in leaves)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
