"""Rounding in blocks of columns is rounding column by column."""

from __future__ import annotations

import numpy as np
import pytest

from icsnn_deploy.conversion.ann_graph import to_ann_graph
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.spiking import PopulationParameters, to_spiking
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Relu
from icsnn_deploy.lattice import input_moments as moments
from icsnn_deploy.lattice import rounding
from icsnn_deploy.lattice.input_moments import input_moments
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from icsnn_deploy.lattice.rounding import best_scales, round_weights
from tests.support.traced import small_model


def column_by_column(target: Array, moment: Array, largest: int) -> Array:
    """GPTQ as its paper has it, with the inverse written out."""
    order = np.argsort(-np.diag(moment), kind="stable")
    damped = moment[np.ix_(order, order)].copy()
    damped[np.diag_indices_from(damped)] += 0.01 * np.mean(np.diag(moment))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    left = target[:, order].copy()
    result = np.empty(left.shape, np.int64)
    for k, column in enumerate(order):
        result[:, column] = np.clip(np.round(left[:, k]), -largest, largest)
        error = (left[:, k] - result[:, column]) / upper[k, k]
        left[:, k + 1 :] -= error[:, None] * upper[k, k + 1 :]
    return result


@pytest.mark.parametrize("inputs", [5, 128, 300])
def test_blocks_of_columns(inputs: int) -> None:
    rng = np.random.default_rng(inputs)
    x = np.maximum(
        rng.standard_normal((2 * inputs, inputs)) @ rng.standard_normal((inputs, inputs)), 0
    )
    moment = x.T @ x / len(x)
    weight = rng.standard_normal((7, inputs))
    scale = np.abs(weight).max(axis=1) / 15
    found = round_weights(weight, scale, moment, 15)
    np.testing.assert_array_equal(found, column_by_column(weight / scale[:, None], moment, 15))


def test_rows_choose_their_scales_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    weight, energy = rng.standard_normal((5, 40)), rng.random((5, 40))
    whole = best_scales(weight, energy, 127), best_scales(weight, energy[:1], 127)
    monkeypatch.setattr(rounding, "_CHUNK", 80)
    np.testing.assert_array_equal(best_scales(weight, energy, 127), whole[0])
    np.testing.assert_array_equal(best_scales(weight, energy[:1], 127), whole[1])


def test_long_rows_are_rounded_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of the moment are its own diagonal blocks, and each rounds its own columns."""
    model, x = small_model(), np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
    ann = to_ann_graph(model, x)
    one = np.ones((1, 1, 1), np.float32)
    populations = {
        node.name: PopulationParameters(v_threshold=one, v_init=one / 2)
        for node in ann.nodes_of(Relu)
    }
    prepared = prepare(to_spiking(ann, populations, 4), x, per_layer=False, input_bits=8)
    context = CalibrationContext.of(np.round(x * 255).astype(np.uint8), batch_size=2)
    whole = input_moments(prepared, context)
    monkeypatch.setattr(moments, "WHOLE", 16)
    parts = input_moments(prepared, context)
    name, moment = next((n, m) for n, m in whole.items() if m.shape[1:] == (36, 36))
    blocks = parts[name]
    assert len(blocks) * blocks.shape[1] == 36
    assert len(blocks) > 1
    for number, block in enumerate(blocks):
        part = slice(number * len(block), (number + 1) * len(block))
        np.testing.assert_allclose(block, moment[0][part, part])
    lattice = round_to_lattice(prepared, parts, even_widths(prepared, 8), per_layer=False)
    assert lattice.graph.is_integer
