"""Thresholds and initial potentials of particular recipes, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.threshold_rules import (
    LearnedBound,
)
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.frontend.trace import DeclaredActivation
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF
from tests.support.converting import images, model_logits
from tests.support.traced import small_model


def thresholds(graph: Graph) -> list[list[float]]:
    return [node.v_threshold.ravel().tolist() for node in graph.nodes_of(IF)]


def test_a_bounded_rectifier_gives_its_bound() -> None:
    x = images() * 30
    graph = convert(small_model(nn.ReLU6), x, Recipe(name="opi", time_steps=4)).network
    assert thresholds(graph) == [[6.0], [6.0]]
    assert all((node.v_init == 3.0).all() for node in graph.nodes_of(IF))


class Clip(nn.Module):
    """A user's trained clip."""

    def __init__(self) -> None:
        super().__init__()
        self.bound = nn.Parameter(torch.tensor(0.75))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.minimum(x.clamp(min=0), self.bound)


def test_a_declared_clip_gives_its_trained_bound() -> None:
    declared = DeclaredActivation(class_name="Clip", bound="bound")
    recipe = Recipe(name="opi", time_steps=4)
    result = convert(small_model(Clip), images(), recipe, activations=[declared])
    assert thresholds(result.network) == [[0.75], [0.75]]
    wanted = model_logits(small_model(Clip), images())
    np.testing.assert_allclose(run_ann(result.ann, images()), wanted, atol=1e-5)


def test_a_learned_bound_that_is_not_there_names_the_layer() -> None:
    method = Method(threshold=LearnedBound(), v_init=Half())
    with pytest.raises(ConversionError, match=r"^2: no learned bound; declare the activation"):
        convert(small_model(), images(), Recipe(methods=(method,)))


def exact_model() -> nn.Module:
    """Dyadic weights; the largest activations of relu1 on `exact_samples` are 2 and 1."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.tensor([[1.0, 0.5], [-0.25, 1.0]]))
                layer.bias.copy_(torch.tensor([0.25, -0.5]))
    return model.eval()


EXACT_SAMPLES = np.array([[1.5, 0.5], [0.5, 1.5], [-1.0, 1.0], [0.25, 0.0]], np.float32)


def test_opt_shifts_each_bias_by_half_a_threshold_over_the_steps() -> None:
    opt, diehl = (
        convert(exact_model(), EXACT_SAMPLES, Recipe(name=name, time_steps=4)).network
        for name in ("opt", "diehl")
    )
    assert thresholds(opt) == thresholds(diehl)
    assert all((node.v_init == 0).all() for node in opt.nodes_of(IF))
    for linear, (v_threshold,) in zip(("0", "2"), thresholds(diehl), strict=True):
        before, after = (graph.node(linear).arrays()["bias"] for graph in (diehl, opt))
        np.testing.assert_array_equal(after - before, [v_threshold / 8] * 2)
    head, shifted_head = (graph.node("4").arrays() for graph in (diehl, opt))
    for field, value in head.items():
        np.testing.assert_array_equal(shifted_head[field], value)


def test_diehl_takes_the_largest_activation_of_the_samples_that_fit() -> None:
    graph = convert(exact_model(), EXACT_SAMPLES, Recipe(name="diehl", time_steps=4)).network
    first = np.maximum(EXACT_SAMPLES[:3] @ [[1, -0.25], [0.5, 1]] + [0.25, -0.5], 0)
    second = np.maximum(first @ [[1, -0.25], [0.5, 1]] + [0.25, -0.5], 0)
    assert thresholds(graph) == [[first.max()], [second.max()]]


@pytest.mark.parametrize(("name", "expected"), [("spike-norm", 1.25), ("rmp", 2.25)])
def test_spike_norm_measures_with_hard_reset_and_rmp_with_soft(name: str, expected: float) -> None:
    first, second, head = nn.Linear(3, 3), nn.Linear(3, 1), nn.Linear(1, 2)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), head)
    with torch.no_grad():
        for layer in (first, second, head):
            layer.bias.zero_()
        first.weight.copy_(torch.eye(3))
        second.weight.copy_(torch.tensor([[1.0, -0.5, 0.0]]))
        second.bias.fill_(0.25)
    # Threshold 2, currents 1.5, 1, 2: neuron 1 fires alone at step 3, but only with soft reset.
    x = np.array([[1.5, 1.0, 2.0]], np.float32)
    graph = convert(model.eval(), x, Recipe(name=name, time_steps=4)).network
    assert thresholds(graph) == [[2.0], [expected]]


@pytest.mark.parametrize("name", ["spike-norm", "rmp"])
def test_spike_norm_keeps_a_clip(name: str) -> None:
    first = nn.Linear(1, 1)
    model = nn.Sequential(first, nn.ReLU6(), nn.Linear(1, 2))
    with torch.no_grad():
        first.weight.fill_(1.0)
        first.bias.zero_()
    x = np.array([[20.0], [3.0]], np.float32)
    assert thresholds(convert(model.eval(), x, Recipe(name=name, time_steps=4)).network) == [[6.0]]


def test_candidates_for_a_single_logit_are_told_apart() -> None:
    model = nn.Sequential(*small_model()[:-1], nn.Linear(6, 1)).eval()
    candidates = convert(
        model.eval(), images(), Recipe(name="fast", time_steps=4)
    ).report.candidates
    assert min(one.divergence for one in candidates) > 0


@pytest.mark.parametrize("name", ["opi", "c-snn"])
def test_the_initial_potential_of_the_recipe_is_set(name: str) -> None:
    share = {"opi": 0.5, "c-snn": 0.5 / 4}[name]
    for node in convert(small_model(), images(), Recipe(name=name, time_steps=4)).network.nodes_of(
        IF
    ):
        np.testing.assert_array_equal(node.v_init, node.v_threshold * np.float32(share))


def test_algorithm_3_does_not_give_what_its_parts_give() -> None:
    hashes = {
        convert(small_model(), images(), Recipe(name=name, time_steps=4)).network.hash()
        for name in ("i-snn", "c-snn", "ic-snn", "robust-norm")
    }
    assert len(hashes) == 4
