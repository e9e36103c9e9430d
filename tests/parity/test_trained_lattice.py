"""A network that was trained on the lattice is exact on every backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.conversion.calibration.training_cost import TrainingBudget
from icsnn_deploy.exporters import export_into
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.lattice.train import BUDGETS
from icsnn_deploy.parity.verify import verify
from tests.support.graphs import residual_ann, spiking_network


@pytest.mark.parametrize("per_layer", [False, True])
def test_it_gives_the_same_spikes_on_every_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, per_layer: bool
) -> None:
    budget = TrainingBudget(operations=1.4e13, iterations=100)
    monkeypatch.setitem(BUDGETS, "standard", budget)
    images = np.random.default_rng(1).normal(size=(128, 2, 5, 5)).astype(np.float32)
    options = LatticeOptions(bits=4, effort="standard", per_layer=per_layer)
    result = quantize(spiking_network(residual_ann()), images, residual_ann(), options)
    assert result.kept == "trained"
    bundle = export_into(result.save(tmp_path / "bundle"), "nir", "onnx")
    report = verify(bundle, ["torch", "nir", "onnxruntime"])
    assert report.verdict == "pass"
    for comparison in report.comparisons:
        assert comparison.spikes_compared > 0
        assert comparison.spike_mismatches == 0
        assert comparison.max_abs_logit_difference == 0
