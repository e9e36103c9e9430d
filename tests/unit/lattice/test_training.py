"""Training on the lattice: what is trained is what results, spike for spike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.surrogate import SurrogateIF
from icsnn_deploy.conversion.calibration.training_cost import TrainingBudget
from icsnn_deploy.errors import LatticeError
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.nodes import IF, ChannelAffine, Conv, Linear
from icsnn_deploy.lattice.input_moments import input_moments
from icsnn_deploy.lattice.integer_surrogate import IntegerIF, half_integers, rounded
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.quantization import Quantization
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from icsnn_deploy.lattice.train import BUDGETS
from icsnn_deploy.lattice.trainable import TrainableLattice
from tests.support.graphs import (
    residual_ann,
    residual_network,
    samples,
    sequential_network,
    spiking_network,
    with_hard_reset,
)

NETWORKS = {"residual": residual_network, "sequential": sequential_network}


def on_lattice(network: Graph, *, per_layer: bool, bits: int = 4) -> tuple[Graph, Graph]:
    """(prepared network, integer network)."""
    x = samples(network, 16)
    prepared = prepare(network, x, per_layer=per_layer, input_bits=8)
    context = CalibrationContext.of(to_input_units(prepared, x), batch_size=8)
    widths = even_widths(prepared, bits)
    moments = input_moments(prepared, context)
    return prepared, round_to_lattice(prepared, moments, widths, per_layer=per_layer).graph


def trainable(network: Graph, *, per_layer: bool = False) -> TrainableLattice:
    prepared, integer = on_lattice(network, per_layer=per_layer)
    widths = even_widths(prepared, 4)
    return TrainableLattice(integer, prepared, widths, 0.5, "cpu", one_threshold=per_layer)


def disturb(network: TrainableLattice) -> None:
    """Change every parameter, as training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in [*network.potentials, *network.weights]:
            value += 0.3 * torch.randn(value.shape, generator=generator)


def spikes_and_currents(network: TrainableLattice, x: Any) -> tuple[dict[str, Any], Any]:
    found: dict[str, Any] = {}
    fire = network._spikes

    def record(node: IF, current: Any, values: Any) -> Any:
        spikes = fire(node, current, values)
        found[node.name] = spikes.detach().numpy().reshape(network.network.steps, len(x), -1)
        return spikes

    network._spikes = record  # type: ignore[method-assign]
    currents, _ = network.run(x, by_batch=False)
    return found, currents.detach().numpy()


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_network_that_results_gives_the_same_spikes(name: str, per_layer: bool) -> None:
    network = trainable(NETWORKS[name](), per_layer=per_layer)
    x = samples(network.network, 8, seed=3)
    network.measure([x])
    disturb(network)
    spikes, currents = spikes_and_currents(network, x)
    result = network.result()
    wanted = ReferenceSimulator(result).run(to_input_units(result, x))
    assert result.is_integer
    for population, found in spikes.items():
        assert found.any()
        np.testing.assert_array_equal(found, wanted.spikes[population].reshape(found.shape))
    mean = currents[result.readout_start :].mean(axis=0) / 0.5
    np.testing.assert_allclose(mean, wanted.logits, rtol=1e-6)


def test_by_its_running_statistics_it_is_the_network_that_results() -> None:
    network = trainable(residual_network())
    x = samples(network.network, 8, seed=3)
    network.measure([x])
    shifted = samples(network.network, 8, seed=4) / 4 + 0.25
    before = [value.clone() for value in network.state()]
    network.run(shifted, by_batch=True)
    moved = [value.clone() for value in network.state()]
    assert not all(map(torch.equal, before, moved))
    network.run(shifted, by_batch=True)
    network.restore(moved)
    currents = network.run(shifted, by_batch=False)[0].mean(dim=0).detach().numpy()
    assert all(map(torch.equal, moved, network.state()))
    result = network.result()
    wanted = ReferenceSimulator(result).run(to_input_units(result, shifted)).logits
    np.testing.assert_allclose(currents / 0.5, wanted, rtol=1e-6)


def test_weights_keep_their_width_and_those_of_pruned_and_copying_connections_stay() -> None:
    network = residual_network()
    pruned = network.node("block.conv1")
    assert isinstance(pruned, Conv)
    weight = pruned.weight.copy()
    weight[:, 1] = 0
    network = network.replace(replace(pruned, weight=weight))
    learner = trainable(network)
    x = samples(network, 8)
    optimizer = torch.optim.SGD(learner.weights, 1e3)
    logits, _ = learner.run(x, by_batch=False)
    logits.square().mean().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    before, after = learner.network, learner.result()
    changed = {
        node.name
        for node in after.nodes_of(Conv, Linear)
        if (node.weight != before.node(node.name).arrays()["weight"]).any()
    }
    assert changed == {"stem.conv", "block.conv1", "block.conv2", "head"}
    for node in after.nodes_of(Conv, Linear):
        if node.name in changed:
            assert np.abs(node.weight).max() <= 7
    kept, start = (g.node("block.conv1").arrays()["weight"][:, 1] for g in (after, before))
    np.testing.assert_array_equal(kept, start)  # zero in the float network: not trained
    scale = after.node("block.shortcut")
    assert isinstance(scale, ChannelAffine)
    assert (scale.scale != before.node("block.shortcut").arrays()["scale"]).any()


def test_gradients_are_those_of_the_surrogate_in_units_of_the_threshold() -> None:
    generator = torch.Generator().manual_seed(1)
    steps, batch = 5, 3
    current = torch.randn(steps * batch, 4, 2, generator=generator, dtype=torch.float64)
    threshold = torch.tensor([0.7, 1.0, 1.6, 2.0], dtype=torch.float64).reshape(4, 1)
    v_init = threshold * 0.4
    outer = torch.randn(steps * batch, 4, 2, generator=generator, dtype=torch.float64)

    def gradients(normalized: bool) -> list[torch.Tensor]:
        leaves = [v.clone().requires_grad_() for v in (current, threshold, v_init)]
        c, theta, v = leaves
        if normalized:
            one = torch.ones_like(theta)
            spikes = SurrogateIF.apply(c / theta, v / theta, one, steps, False)
        else:
            spikes = IntegerIF.apply(c, theta, v, steps, False)
        (spikes * outer).sum().backward()
        return [leaf.grad for leaf in leaves if leaf.grad is not None]

    for found, wanted in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(found, wanted)


def test_rounding_is_exact_and_passes_the_gradient() -> None:
    value = torch.tensor([0.001, -0.4, 2.5, 1e6 + 0.3], requires_grad=True)
    assert rounded(value).tolist() == [0, 0, 2, 1e6]
    assert half_integers(value).tolist() == [0.5, -0.5, 2.5, 1e6 + 0.5]
    (rounded(value).sum() + half_integers(value).sum()).backward()  # type: ignore[no-untyped-call]
    assert value.grad is not None
    assert value.grad.tolist() == [2] * 4


def quantized(bits: int = 3, **options: Any) -> Quantization:
    ann = residual_ann()
    chosen = LatticeOptions(bits=bits, batch_size=16, **options)
    images = np.random.default_rng(1).normal(size=(128, 2, 5, 5)).astype(np.float32)
    return quantize(spiking_network(ann), images, ann, chosen)


@pytest.fixture(autouse=True, scope="module")
def short_training() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGETS, "standard", TrainingBudget(operations=4e12, iterations=100))
        yield


@pytest.fixture(scope="module")
def trained(short_training: None) -> Quantization:
    return quantized(effort="standard")


def test_it_brings_the_outputs_nearer_to_those_of_the_ann(trained: Quantization) -> None:
    untrained = quantized()
    assert trained.kept == "trained"
    before, after = untrained.divergence[untrained.kept], trained.divergence["trained"]
    assert after < 0.7 * before
    assert {n: v for n, v in trained.divergence.items() if n != "trained"} == untrained.divergence


def test_what_results_is_certified(trained: Quantization) -> None:
    assert trained.network.is_integer
    assert certify(trained.network).float32
    assert max(trained.certificate.weight_bits[name] for name in trained.bits) <= 3


def test_the_same_seed_gives_the_same_network(trained: Quantization) -> None:
    assert quantized(effort="standard").network.hash() == trained.network.hash()
    assert quantized(effort="standard", seed=1).network.hash() != trained.network.hash()


def test_one_threshold_a_layer_stays_one() -> None:
    found = quantized(per_layer=True, effort="standard")
    assert found.kept == "trained"
    for node in found.network.nodes_of(IF):
        assert len(np.unique(node.v_threshold)) == 1


def test_a_network_that_does_not_certify_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(network: Graph, *args: Any, **kwargs: Any) -> Graph:
        head = network.node("linear")
        assert isinstance(head, Linear)
        return network.replace(replace(head, bias=head.bias + 2**26))  # the same classes

    monkeypatch.setattr("icsnn_deploy.lattice.quantize.train_on_lattice", spoiled)
    found = quantized(effort="standard")
    assert "trained" in found.divergence
    assert found.kept != "trained"


def test_networks_that_cannot_be_trained_are_refused() -> None:
    ann = residual_ann()
    images = np.random.default_rng(1).normal(size=(8, 2, 5, 5)).astype(np.float32)
    with pytest.raises(LatticeError, match=r"effort 'standard'.*has none; choose quick"):
        quantize(spiking_network(ann), images, options=LatticeOptions(effort="standard"))
    hard = with_hard_reset(residual_network())
    with pytest.raises(LatticeError, match="only networks with soft reset"):
        quantize(hard, samples(hard, 8), ann, LatticeOptions(effort="standard"))
    with pytest.raises(LatticeError, match="effort 'long'"):
        LatticeOptions(effort="long")  # type: ignore[arg-type]
