"""Random models over all operators equal their graphs; `make sweep-front-end` runs more."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.conversion.frontend.rules import activation
from icsnn_deploy.errors import ConversionError
from tests.support.random_layers import OPERATORS
from tests.support.random_models import LIMITS, TOLERANCE, difference, problem_of, random_model

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")


@pytest.mark.parametrize("seed", range(60))
def test_a_random_model_equals_its_graph(seed: int) -> None:
    model, inputs = random_model(seed)
    kind, message, _ = problem_of(model, inputs)
    assert kind in ("", *LIMITS), (message, model)


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_has_its_turn(operator: str) -> None:
    model, inputs = random_model(0, only=operator)
    kind, message, _ = problem_of(model, inputs)
    assert kind in ("", *LIMITS), (message, model)


def test_few_random_models_are_beyond_a_limit() -> None:
    kinds = [problem_of(*random_model(seed))[0] for seed in range(100, 130)]
    assert sum(kind in LIMITS for kind in kinds) <= 3


def test_the_same_seed_gives_the_same_model() -> None:
    (first, (x, *_)), (second, (y, *_)) = random_model(7), random_model(7)
    assert str(first) == str(second)
    assert torch.equal(x, y)
    assert difference(first, (x,)) == difference(second, (y,))


def leaky_model() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.LeakyReLU(0.5)).eval(), torch.randn(3, 2, 6, 6)


@pytest.mark.parametrize("fault", [1e-4, 0.5])
def test_a_wrong_rule_is_found(fault: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = activation._leaky
    monkeypatch.setattr(
        activation, "_leaky", lambda context, x, slope: rule(context, x, slope * (1 + fault))
    )
    model, x = leaky_model()
    try:
        found = difference(model, (x,))
    except ConversionError:
        found = np.inf
    assert found > TOLERANCE
