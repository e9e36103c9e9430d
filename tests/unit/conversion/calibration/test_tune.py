"""Tuning: the gradient is that of the T steps, and what is learned is what the network gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.conversion.calibration.agreement import AgreementScorer
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.surrogate import SurrogateIF
from icsnn_deploy.conversion.calibration.tune import TuneOptions, _Order, _Teacher, _Tunable, tune
from icsnn_deploy.errors import ConversionError
from tests.support.graphs import random_images, residual_ann, spiking_network

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


def step_by_step(
    current: Tensor, kappa: Tensor, sigma: Tensor, iota: Tensor, rho: Tensor, steady: bool
) -> Tensor:
    v, found = iota, []
    for step in range(STEPS):
        u = v + kappa * (current if steady else current[step * BATCH : (step + 1) * BATCH]) + sigma
        s = Step.apply(u)
        v = u - s
        found.append(rho * s)
    return torch.cat(found)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 7), (3,)])
@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_gradient_is_that_of_the_steps(
    shape: tuple[int, ...], steady: bool, channels_last: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = BATCH if steady else STEPS * BATCH
    current = torch.randn((rows, *shape), generator=generator, dtype=torch.float64) * 0.7 + 0.3
    if channels_last and len(shape) == 3:
        current = current.contiguous(memory_format=torch.channels_last)
    column = (3, *(1,) * (len(shape) - 1))
    drawn = [torch.rand(column, generator=generator, dtype=torch.float64) + 0.2 for _ in range(4)]
    outer = torch.randn((STEPS * BATCH, *shape), generator=generator, dtype=torch.float64)
    results = []
    for ours in (True, False):
        leaves = [tensor.clone().requires_grad_() for tensor in (current, *drawn)]
        run: Callable[..., Tensor] = SurrogateIF.apply if ours else step_by_step
        found = run(*leaves, *((STEPS, steady) if ours else (steady,)))
        torch.autograd.backward((found * outer).sum())
        results.append([found.detach(), *(leaf.grad for leaf in leaves)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_untrained_it_is_the_network() -> None:
    network = spiking_network(residual_ann())
    _, activations = _Teacher(residual_ann(), "cpu").run(random_images())
    logits, errors = _Tunable(network, "cpu", train_weights=False).run(random_images(), activations)
    expected = ReferenceSimulator(network).run(random_images()).logits
    np.testing.assert_allclose(logits.mean(dim=0).detach().numpy(), expected, atol=1e-5)
    assert len(errors) == 3


@pytest.mark.parametrize("weights", [False, True])
def test_the_result_is_what_was_trained(weights: bool) -> None:
    network = spiking_network(residual_ann())
    tunable = _Tunable(network, "cpu", train_weights=weights)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in (*tunable.potentials, *tunable.weights):
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        _, activations = _Teacher(residual_ann(), "cpu").run(random_images())
        logits, _ = tunable.run(random_images(), activations)
    found = ReferenceSimulator(tunable.result()).run(random_images()).logits
    np.testing.assert_allclose(found, logits.mean(dim=0).numpy(), atol=1e-4)


def test_tuning_brings_the_logits_nearer_and_can_be_repeated() -> None:
    ann = residual_ann()
    calibration = CalibrationContext.of(random_images(64), batch_size=64)
    network = spiking_network(ann)
    judge = AgreementScorer(ann, calibration)
    options = TuneOptions(iterations=20, batch_size=16, rate=2e-2)
    objective = judge.objective
    first, second = (
        tune(network, ann, calibration, (3, 6), options, objective=objective) for _ in range(2)
    )
    assert first.hash() == second.hash()
    assert judge.score(first).divergence < 0.7 * judge.score(network).divergence
    few = TuneOptions(iterations=2, seed=1)
    other = tune(network, ann, calibration, (6,), few, objective=objective)
    assert other.hash() != first.hash()


def test_every_sample_comes_once_before_any_comes_again() -> None:
    order = _Order(12, 4, 0)
    for _ in range(2):
        assert sorted(np.concatenate([order.next() for _ in range(3)])) == list(range(12))
    assert len(_Order(3, 8, 0).next()) == 3


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConversionError, match="iterations 0"):
        TuneOptions(iterations=0)
