"""Products added to constants, and networks of tokens that linear layers mix (ResMLP)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.conversion.frontend.approximate.loss import APPROXIMATED
from icsnn_deploy.conversion.frontend.approximate.options import Approximation
from icsnn_deploy.conversion.frontend.rules import linear
from icsnn_deploy.conversion.frontend.selecting import coordinates_of
from icsnn_deploy.conversion.frontend.trace import trace, trace_exported
from icsnn_deploy.errors import UnsupportedOperatorError
from tests.support.traced import Body, check, images, kinds

CONSTANT_FACTOR: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "tensor by constant": lambda m, x: torch.addcmul(m.mean, m.conv(x), m.scale),
    "constant by tensor": lambda m, x: torch.addcmul(m.mean, m.scale, m.conv(x), value=-2),
    "to a tensor": lambda m, x: torch.addcmul(m.conv2(x), m.scale, m.conv(x), value=0.5),
    "to itself": lambda m, x: (lambda y: torch.addcmul(y, y, m.scale))(m.conv(x)),
    "of constants": lambda m, x: torch.addcmul(m.conv(x), m.scale, m.mean, value=3),
    "method in place": lambda m, x: m.conv(x).addcmul_(m.scale, m.mean),
    "in place, of data": lambda m, x: m.conv(x).addcmul_(m.scale, x),
    "to a narrower constant": lambda m, x: torch.addcmul(m.scale, m.conv(x), m.mean),
    "a factor that is repeated": lambda m, x: torch.addcmul(m.conv(x), x[:, :1], m.scale),
    "of moved values": lambda m, x: torch.addcmul(
        m.mean[:, None, :, 0, 0], m.scale[:, 0, 0], m.conv(x).flatten(2).transpose(1, 2)
    ),
    "quotient": lambda m, x: torch.addcdiv(m.mean, m.conv(x), m.scale),
    "quotient of constants": lambda m, x: torch.addcdiv(m.conv(x), m.mean, m.scale, value=2),
}


@pytest.mark.parametrize("name", CONSTANT_FACTOR)
def test_addcmul_with_a_constant_factor(name: str) -> None:
    check(Body(CONSTANT_FACTOR[name]).eval(), images(3, 3, 5, 6))


def test_an_affine_is_one_node() -> None:
    model = Body(lambda m, x: torch.addcmul(m.mean, m.scale, m.conv(x))).eval()
    assert kinds(check(model, images(3, 3, 5, 6))) == ["conv", "scale"]


def test_addcmul_of_an_exported_program() -> None:
    model = Body(lambda m, x: torch.addcmul(m.mean, m.scale, m.conv(x), value=2)).eval()
    x = images(3, 3, 5, 6)
    program = torch.export.export(model, (x,))
    check(model, x, trace_exported(program, x))
    decomposed = program.run_decompositions()
    check(model, x, trace_exported(decomposed, x))


def two_factors(m: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(m.conv2(x), m.conv(x), torch.relu(m.conv2(x)), value=0.5)


def test_addcmul_of_two_tensors_is_a_product() -> None:
    model, x = Body(two_factors).eval(), images(64, 3, 6, 6)
    with pytest.raises(UnsupportedOperatorError, match=r"addcmul.*a product of two tensors"):
        trace(model, x[:2])
    graph = trace(model, x[:2], approximate=Approximation(knots=8, samples=x))
    record: Any = graph.provenance[APPROXIMATED]
    assert [fit["operator"] for fit in record["fits"]] == ["product"]
    (errors,) = record["outputs"].values()
    assert errors["rms"] < 0.02


def test_a_division_by_data_is_refused() -> None:
    model = Body(lambda m, x: torch.addcdiv(m.mean, m.scale, m.conv(x))).eval()
    with pytest.raises(UnsupportedOperatorError, match="addcdiv: a division by data"):
        trace(model, images(2, 3, 5, 6))


class Affine(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.rand(1, 1, width) + 0.5)
        self.beta = nn.Parameter(torch.randn(1, 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.beta, self.alpha, x)


class Block(nn.Module):
    """A residual block that mixes tokens, then channels, each scaled."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = Affine(width), Affine(width)
        self.linear_tokens = nn.Linear(tokens, tokens)
        self.mlp = nn.Sequential(nn.Linear(width, 12), nn.ReLU(), nn.Linear(12, width))
        self.scale1 = nn.Parameter(torch.rand(width))
        self.scale2 = nn.Parameter(torch.rand(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = self.linear_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.scale1 * mixed
        result: torch.Tensor = x + self.scale2 * self.mlp(self.norm2(x))
        return result


class ResMlp(nn.Module):
    def __init__(self, width: int = 5, grid: tuple[int, int] = (2, 3)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, width, 4, 4)
        tokens = grid[0] * grid[1]
        self.blocks = nn.Sequential(Block(width, tokens), Block(width, tokens))
        self.norm = Affine(width)
        self.head = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)  # [B, tokens, width]
        x = self.norm(self.blocks(x))
        scores: torch.Tensor = self.head(x.mean(1))
        return scores


def test_a_network_that_mixes_tokens_and_channels() -> None:
    check(ResMlp().eval(), images(3, 3, 8, 12))


def test_too_many_tokens_are_refused_by_what_a_matrix_of_them_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linear, "_MOST_DENSE", 100)
    message = r"(?s)a\s+matrix\s+of\s+[0-9,]+\s+weights.*smaller"
    with pytest.raises(UnsupportedOperatorError, match=message):
        trace(ResMlp().eval(), images(2, 3, 8, 12))


def test_more_than_8192_elements_are_found_at_their_places() -> None:
    positions = np.arange(9216).reshape(144, 64, 1)
    for shape in ((9216, 1, 1), (64, 12, 12)):
        found = coordinates_of(positions, shape)
        assert np.array_equal(np.ravel_multi_index(found, shape), positions)
