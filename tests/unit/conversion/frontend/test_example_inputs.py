"""The example of a model of one or several inputs, by the names of forward's arguments."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from icsnn_deploy.conversion.frontend.example_inputs import bind_example
from icsnn_deploy.errors import ConversionError

X, Y, Z = (torch.full((3, n), float(n)) for n in (1, 2, 3))


class Two(nn.Module):
    def forward(self, image: torch.Tensor, state: torch.Tensor, scale: Any = None) -> Any:
        return image, state, scale


class Optional(nn.Module):
    def forward(self, x: torch.Tensor, y: Any = None, z: Any = None, *, w: Any = None) -> Any:
        return x, y, z, w


class Rest(nn.Module):
    def forward(self, x: torch.Tensor, *more: torch.Tensor, **named: torch.Tensor) -> Any:
        return (x, *more, *named.values())


CASES: dict[str, tuple[nn.Module, Any, list[str], tuple[Any, ...]]] = {
    "one": (Optional(), X, ["x"], (X, None, None, None)),
    "tuple": (Two(), (X, Y), ["image", "state"], (X, Y, None)),
    "list": (Two(), [X, Y], ["image", "state"], (X, Y, None)),
    "mapping": (Two(), {"state": Y, "image": X}, ["image", "state"], (X, Y, None)),
    "skipped": (Optional(), {"z": Z, "x": X}, ["x", "z"], (X, None, Z, None)),
    "keyword": (Optional(), {"w": Z, "x": X}, ["x", "w"], (X, None, None, Z)),
    "rest": (Rest(), (X, Y, Z), ["x", "more_0", "more_1"], (X, Y, Z)),
    "named rest": (Rest(), {"x": X, "a": Y}, ["x", "a"], (X, Y)),
}


@pytest.mark.parametrize("name", CASES)
def test_inputs_have_the_names_of_arguments_and_reach_them(name: str) -> None:
    model, example, names, expected = CASES[name]
    inputs = bind_example(model, example)
    assert list(inputs.tensors) == names
    for got, wanted in zip(inputs.call(model), expected, strict=True):
        assert (got is None) == (wanted is None)
        assert wanted is None or torch.equal(got, wanted)


def test_samples_are_repeated_or_cut() -> None:
    inputs = bind_example(Two(), (torch.arange(3.0)[:, None], Y))
    assert inputs.taking(5).tensors["image"].flatten().tolist() == [0, 1, 2, 0, 1]
    assert len(inputs.taking(2)) == 2


MISFITS: dict[str, tuple[nn.Module, Any, str]] = {
    "too few": (Two(), X, r"Two.forward takes the inputs image, state, scale=None.*'state'"),
    "too many": (Two(), (X, X, X, X), "too many positional arguments"),
    "unknown": (Two(), {"image": X, "mask": Y}, "missing a required argument: 'state'"),
    "none": (Rest(), {}, "missing a required argument: 'x'"),
    "no batch": (Two(), (X, torch.zeros(3)), r"shape \(3,\) for the input state: a batch"),
    "no samples": (Two(), (X, Y[:0]), "for the input state: a batch"),
    "no values": (Two(), (X, Y[:, :0]), "for the input state: a batch .* of values"),
    "no tensor": (Two(), (X, [1.0]), "example of type list for the input state"),
    "sizes": (Two(), (X, Y[:2]), "different batch sizes, {'image': 3, 'state': 2}"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_an_example_that_does_not_fit_forward_is_refused(name: str) -> None:
    model, example, message = MISFITS[name]
    with pytest.raises(ConversionError, match=message):
        bind_example(model, example)
