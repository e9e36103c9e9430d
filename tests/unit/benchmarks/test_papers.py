"""The small benchmarks of papers' methods: what they compute, on networks of a few neurons."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.statistics import Statistics, collect_statistics
from icsnn_deploy.conversion.calibration.threshold_rules import MaxThreshold, MSEThreshold
from icsnn_deploy.conversion.spiking import PopulationParameters, to_spiking
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population, Relu
from icsnn_deploy.targets.connectivity import fan_out
from tests.support.graphs import random_images, residual_ann, spiking_network

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _benchmarks_importable() -> Iterator[None]:
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def residual_network() -> tuple[Graph, Array, Statistics]:
    """An ANN, images for it, and its activations on them."""
    ann, images = residual_ann(), random_images(16)
    return ann, images, collect_statistics(ann, CalibrationContext.of(images, batch_size=16))


def test_two_spikes_hold_a_value_to_a_step() -> None:
    from temporal_switch import SwitchedNetwork

    ann, images, statistics = residual_network()
    wanted = TorchANN(ann).run(images)
    errors = []
    for time_steps in (4, 64, 4096):
        network = SwitchedNetwork(ann, statistics, MaxThreshold(), time_steps, start=0.5)
        errors.append(float(np.abs(network.run(images) - wanted).max()))
        neurons = sum(int(np.prod(ann.shape(name))) for name in statistics.layers)
        assert 0 < network.spikes <= 2 * neurons * len(images)
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-2 * np.abs(wanted).max()


def test_a_rectifier_gives_the_nearest_level_of_its_channel() -> None:
    from temporal_switch import SwitchedNetwork

    ann, _, statistics = residual_network()
    network = SwitchedNetwork(ann, statistics, MSEThreshold(), 3, start=0.5)
    for name, layer in statistics.layers.items():
        threshold = MSEThreshold().threshold(name, layer, 3)
        assert len(threshold) == ann.shape(name)[0] > 1
        a = np.linspace(-0.1, 1.4, 40)[:, None] * threshold  # [B, C]
        places = (*a.shape, *(1,) * (len(ann.shape(name)) - 1))
        found = network.switched(name, torch.tensor(a.reshape(places), dtype=torch.float32))
        nearest = np.abs(a[..., None] - threshold[:, None] * np.arange(4) / 3).argmin(axis=-1)
        np.testing.assert_allclose(found.numpy().reshape(a.shape), nearest * threshold / 3, 1e-6)


def test_constant_currents_give_the_levels() -> None:
    """The first rectifier of a network with direct input, as spikes and as levels."""
    from temporal_switch import SwitchedNetwork

    ann, images, statistics = residual_network()
    first, rule, steps = ann.nodes_of(Relu)[0], MSEThreshold(), 5
    populations = {}
    for name, layer in statistics.layers.items():
        column = rule.threshold(name, layer, steps).reshape(-1, 1, 1).astype(np.float32)
        populations[name] = PopulationParameters(v_threshold=column, v_init=column / 2)
    counts = TorchSimulator(to_spiking(ann, populations, steps)).run(images).spike_counts()
    _, activations = TorchANN(ann).run_with_activations(images)
    network = SwitchedNetwork(ann, statistics, rule, steps, start=0.5)
    levels = network.switched(first.name, activations[first.name])  # as of the value before it
    unit = populations[first.name].v_threshold / steps
    np.testing.assert_allclose(counts[first.name] * unit, levels.numpy(), atol=1e-5)
    assert len(np.unique(counts[first.name])) == steps + 1


def test_the_levels_of_a_model_are_tabled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import levels

    (tmp_path / "model.py").write_text(
        "from torch import nn\n\n\ndef tiny():\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))\n"
    )
    pixels = np.random.default_rng(2).integers(0, 256, (30, 6, 6, 1), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=pixels, labels=np.zeros(30, np.int64))
    files = [
        f"--{name}={tmp_path}/data.npz:{array}"
        for name, array in (("calibration", "images"), ("images", "images"), ("labels", "labels"))
    ]
    options = ["--mean=0.5", "--std=0.5", "--time-steps=1,4096"]
    levels.main([f"--model={tmp_path}/model.py:tiny", *files, *options])
    lines = capsys.readouterr().out.splitlines()
    one, many = ([float(v.split()[0]) for v in line.split("|")[1:5]] for line in lines[3:])
    assert lines[0].endswith("% of 30 images")
    assert (one[0], many[0]) == (1, 4096)
    assert one[1] > many[1] >= 0  # divergence
    assert many[2:] == [0, 0]  # other classes, loss


def test_early_exit_costs_what_the_spikes_up_to_the_exit_cost() -> None:
    from early_exit import full_run, measure

    network, images = spiking_network(residual_ann()), random_images(30)
    full = full_run(network, images)
    counts = TorchSimulator(network).run(images).spike_counts()
    outgoing = fan_out(network)
    total = sum(
        float((counts[node.name] * outgoing[node.name]).sum())
        for node in network.nodes_of(Population)
    )
    assert full.accumulations[-1].sum() == pytest.approx(total)
    right = np.ones(len(images), bool)
    labels = full.logits_t[-1].argmax(axis=1)
    all_steps = measure(network, full, images, labels, right, 1.1, 0)
    one_step = measure(network, full, images, labels, right, 1e-6, 0)
    assert (all_steps.steps, all_steps.loss) == (network.steps, 0.0)
    assert one_step.steps == 1
    expected = full.accumulations[0].mean() + full.multiply_accumulates
    assert one_step.operations == pytest.approx(float(expected))
    assert one_step.operations < all_steps.operations
