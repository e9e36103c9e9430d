"""Where a population gives the ANN's activations, the errors up to it are gone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from icsnn_deploy.conversion.calibration.agreement import AgreementScorer
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.layer_errors import divergence_without
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.graph.encoder import InputEncoder
from icsnn_deploy.graph.nodes import IF
from icsnn_deploy.report.layer_errors import errors_of_layers
from tests.support.graphs import random_images, residual_ann, spiking_network
from tests.support.traced import small_model


def test_the_last_population_holds_all_of_a_chains_error() -> None:
    images = np.random.default_rng(0).normal(size=(64, 3, 6, 6)).astype(np.float32)
    found = convert(small_model(), images, Recipe(name="robust-norm", time_steps=4))
    context = CalibrationContext.of(images, batch_size=64)
    left = divergence_without(found.network, found.ann, context, (4,))
    whole = AgreementScorer(found.ann, context).score(found.network).divergence
    names = [found.network.input.name, *(node.name for node in found.network.nodes_of(IF))]
    assert list(left) == names
    assert whole > 1e-4
    assert left[names[0]] == pytest.approx(whole)
    assert left[names[-1]] == pytest.approx(0, abs=1e-9)


def test_the_first_population_may_cause_the_largest_error() -> None:
    """Initial potentials far below zero keep it silent; the others are as before."""
    images = np.random.default_rng(0).normal(size=(64, 3, 6, 6)).astype(np.float32)
    found = convert(small_model(), images, Recipe(name="robust-norm", time_steps=8))
    first = found.network.nodes_of(IF)[0]
    network = found.network.replace(replace(first, v_init=first.v_init - 1000 * first.v_threshold))
    context = CalibrationContext.of(images, batch_size=64)
    errors = errors_of_layers(divergence_without(network, found.ann, context, (8,)))
    assert max(errors, key=lambda name: errors[name]) == first.name


def test_a_residual_network_is_measured_at_every_readout() -> None:
    context = CalibrationContext.of(random_images(8), batch_size=8)
    network, ann = spiking_network(residual_ann()), residual_ann()
    each = [divergence_without(network, ann, context, (t,)) for t in (3, 6)]
    both = divergence_without(network, ann, context, (3, 6))
    for name, value in both.items():
        assert value == pytest.approx(sum(one[name] for one in each) / 2)


def test_spike_input_is_measured() -> None:
    images = np.random.default_rng(0).random((16, 3, 6, 6)).astype(np.float32)
    recipe = Recipe(name="robust-norm", time_steps=4)
    found = convert(small_model(), images, recipe, encoding="rate")
    encoder = InputEncoder(encoding="rate", time_steps=4)
    context = CalibrationContext.of(images, batch_size=8, encoder=encoder)
    left = divergence_without(found.network, found.ann, context, (4,))
    assert min(left.values()) == pytest.approx(0, abs=1e-9)
