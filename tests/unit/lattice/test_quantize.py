"""quantize: what ends up on the lattice, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.spiking import PopulationParameters, to_spiking
from icsnn_deploy.errors import LatticeError, TargetError
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units, to_real_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Relu,
)
from icsnn_deploy.lattice.input_moments import input_moments
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.prepare import is_exact, prepare
from icsnn_deploy.lattice.quantization import Quantization
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.lattice.round_network import round_to_lattice
from icsnn_deploy.lattice.rounding import best_scales, round_weights
from icsnn_deploy.passes.edit import insert_after
from icsnn_deploy.passes.pooling import is_window_sum
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.profile import TargetProfile
from tests.support.graphs import residual_network, samples


def ann_of(network: Graph) -> Graph:
    """An ANN with the network's wiring: rectifiers for populations."""
    nodes = [
        Relu(name=node.name, inputs=node.inputs) if isinstance(node, IF) else node
        for node in network.nodes
    ]
    return Graph(nodes=tuple(nodes))


def quantized(network: Graph, **options: Any) -> Quantization:
    chosen = LatticeOptions(batch_size=8, **options)
    return quantize(network, samples(network, 16), ann_of(network), chosen)


def rounded(network: Graph, x: Array, *, bits: int = 8, per_layer: bool = False) -> Graph:
    """The network rounded, without the correction towards an ANN that these have none of."""
    prepared = prepare(network, x, per_layer=per_layer, input_bits=8)
    context = CalibrationContext.of(to_input_units(prepared, x), batch_size=8)
    moments = input_moments(prepared, context)
    widths = {n.name: bits for n in prepared.nodes_of(Conv, Linear) if not is_exact(n)}
    return round_to_lattice(prepared, moments, widths, per_layer=per_layer).graph


def agreement(network: Graph, integer: Graph) -> float:
    """Share of equal spikes of a float network and its integer one."""
    x = samples(network, 8, seed=5)
    before = ReferenceSimulator(network).run(x).spikes
    after = ReferenceSimulator(integer).run(to_input_units(integer, x)).spikes
    return float(np.mean([np.mean(before[name] == after[name]) for name in before]))


@pytest.mark.parametrize("bits", [2, 4, 8, 12])
def test_weights_keep_their_width_and_the_network_its_spikes(bits: int) -> None:
    network = residual_network()
    result = quantized(network, bits=bits)
    assert result.network.is_integer
    assert result.certificate.float32
    layers: list[Conv | Linear] = [*result.network.nodes_of(Conv), *result.network.nodes_of(Linear)]
    for node in layers:
        if not is_window_sum(node):
            assert np.abs(node.weight).max() <= 2 ** (bits - 1) - 1
    if bits >= 8:
        integer = rounded(network, samples(network, 16), bits=bits)
        assert agreement(network, integer) > 0.96


def test_two_runs_give_the_same_network() -> None:
    network = residual_network()
    assert quantized(network).network.hash() == quantized(network).network.hash()


def test_one_threshold_a_layer() -> None:
    result = quantized(residual_network(), per_layer=True)
    for node in result.network.nodes_of(IF):
        assert len(np.unique(node.v_threshold)) == 1
    network = residual_network()
    integer = rounded(network, samples(network, 16), per_layer=True)
    assert agreement(network, integer) > 0.95


@pytest.mark.slow
def test_widths_give_way_where_the_network_would_not_certify() -> None:
    network = replace(residual_network(), time_steps=1000)
    result = quantized(network, bits=16)
    assert result.certificate.float32
    assert min(result.bits.values()) < 16


def test_pooling_becomes_a_sum_and_every_sum_has_affine_sources() -> None:
    network = residual_network()
    prepared = prepare(network, samples(network, 4), per_layer=False, input_bits=8)
    assert not prepared.nodes_of(AvgPool)
    assert is_exact(prepared.node("pool"))
    for add in prepared.nodes_of(Add):
        for source in add.inputs:
            assert isinstance(prepared.node(source), (Conv, Linear, ChannelAffine))


def test_float_input_is_put_in_steps_of_a_unit() -> None:
    network = residual_network()
    signed = quantized(network).network
    assert signed.input.dtype == "int8"
    assert quantized(network, input_bits=16).network.input.dtype == "int16"
    x = samples(network, 4)
    back = to_real_units(signed, to_input_units(signed, x))
    np.testing.assert_allclose(back, x, atol=signed.input.unit / 2 + 1e-6)
    positive = quantize(
        network, np.abs(samples(network, 16)), ann_of(network), LatticeOptions(batch_size=8)
    )
    assert positive.network.input.dtype == "uint8"


def pixels(seed: int) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (16, 2, 6, 6)).astype(np.uint8)


def test_pixels_lose_an_integer_zero_point() -> None:
    """normalization -> padded conv: the padded zeros stay zero, the rest goes into the bias."""
    network = residual_network()
    normalization = ChannelAffine(
        name="normalization",
        inputs=("input",),
        scale=np.full((2, 1, 1), 1 / 64),
        shift=np.array([-1.3, -2.1]).reshape(2, 1, 1),
    )
    network = network.replace(replace(network.input, dtype="uint8"))
    network = insert_after(network, "input", normalization)
    integer = rounded(network, pixels(0))
    (zero,) = [n for n in integer.nodes_of(ChannelAffine) if n.inputs == ("input",)]
    assert zero.shift.ravel().tolist() == [-83, -134]  # -round(1.3 * 64), -round(2.1 * 64)
    before = ReferenceSimulator(network).run(pixels(1)).spikes
    after = ReferenceSimulator(integer).run(pixels(1)).spikes
    assert np.mean([np.mean(before[n] == after[n]) for n in before]) > 0.97


def depthwise(padding: int) -> Conv:
    return Conv(
        name="first",
        inputs=("normalization",),
        weight=np.random.default_rng(1).normal(0, 0.4, (4, 1, 3, 3)),
        bias=np.full(4, 0.2),
        stride=(1, 1),
        padding=((padding, padding),) * 2,
        dilation=(1, 1),
        groups=2,
    )


def population(name: str, source: str) -> IF:
    one = np.ones((1, 1, 1))
    return IF(name=name, inputs=(source,), v_threshold=one, v_init=one / 2)


POOL = AvgPool(
    name="first",
    inputs=("normalization",),
    kernel=(2, 2),
    stride=(2, 2),
    padding=((1, 1), (1, 1)),
)


def normalized(*nodes: Node, factor: list[float], shift: list[float]) -> Graph:
    """Pixels [2, 6, 6], factor x + shift, the nodes, all of the last one's features to one."""
    normalization = ChannelAffine(
        name="normalization",
        inputs=("input",),
        scale=np.array(factor).reshape(2, 1, 1),
        shift=np.array(shift).reshape(2, 1, 1),
    )
    start = (Input(name="input", shape=(2, 6, 6), dtype="uint8"), normalization, *nodes)
    flat = Flatten(name="flat", inputs=(nodes[-1].name,))
    end = Output(name="output", inputs=("head",))
    shapes = Graph(nodes=(*start, flat, replace(end, inputs=("flat",))), time_steps=6)
    ones = np.ones((1, *shapes.shape("flat")))
    head = Linear(name="head", inputs=("flat",), weight=ones, bias=np.zeros(1))
    return Graph(nodes=(*start, flat, head, end), time_steps=6)


@pytest.mark.parametrize(
    "nodes",
    [
        (depthwise(0), population("if", "first")),
        (depthwise(1), population("if", "first")),
        (POOL, population("if", "first")),
        (population("if", "normalization"),),
        (
            replace(depthwise(1), weight=np.full((2, 1, 3, 3), 0.1), bias=np.zeros(2)),
            Add(name="sum", inputs=("first", "normalization")),
            population("if", "sum"),
        ),
    ],
    ids=["depthwise", "padded depthwise", "padded pooling", "rectifier", "sum"],
)
def test_a_normalization_may_be_followed_by_anything(nodes: tuple[Node, ...]) -> None:
    """Pixels minus an integer zero point; factor and rest go where they can."""
    network = normalized(*nodes, factor=[0.0157, 0.0193], shift=[-1.313, -2.117])
    integer = rounded(network, pixels(0))
    assert integer.is_integer
    before = ReferenceSimulator(network).run(pixels(1)).spikes
    after = ReferenceSimulator(integer).run(pixels(1)).spikes
    assert np.mean([np.mean(before[n] == after[n]) for n in before]) > 0.97


def test_a_shortcut_beside_tiny_weights_is_not_cut_off() -> None:
    """A batch normalization near zero leaves little of a block; its shortcut still counts."""
    one = np.ones((1, 1, 1))
    weight = np.full((2, 1, 3, 3), 1e-4)
    block = replace(depthwise(1), name="block", inputs=("a",), weight=weight, bias=np.zeros(2))
    network = normalized(
        population("a", "normalization"),
        block,
        ChannelAffine(name="shortcut", inputs=("a",), scale=one, shift=0 * one),
        Add(name="sum", inputs=("block", "shortcut")),
        population("b", "sum"),
        factor=[0.0157, 0.0193],
        shift=[-1.313, -2.117],
    )
    integer = rounded(network, pixels(0))
    after = integer.node("b")
    assert isinstance(after, IF)
    np.testing.assert_allclose(
        integer.node("shortcut").arrays()["scale"] / after.v_threshold, 1, rtol=0.01
    )


def test_a_channel_that_the_normalization_takes_away_has_no_zero_point_beyond_its_type() -> None:
    """shift / factor would be infinite, or wrap round in 16 bits."""
    nodes = (depthwise(0), population("if", "first"))
    for factor in (0.0, 1e-6):
        network = normalized(*nodes, factor=[1 / 64, factor], shift=[-1.3, -0.9])
        integer = rounded(network, pixels(0))
        before = ReferenceSimulator(network).run(pixels(1)).spikes["if"]
        after = ReferenceSimulator(integer).run(pixels(1)).spikes["if"]
        assert np.mean(before == after) > 0.97


def test_thresholds_are_real_ones_in_whole_units() -> None:
    """Amplitudes follow the rounded threshold: rates times amplitude stay what they were."""
    rng = np.random.default_rng(3)
    network = residual_network()
    ann = ann_of(network)
    one = {
        relu.name: PopulationParameters(
            v_threshold=rng.uniform(0.7, 2.0, (4, 1, 1)), v_init=np.full((4, 1, 1), 0.4)
        )
        for relu in ann.nodes_of(Relu)
    }
    calibrated = to_spiking(ann, one, 8)
    assert agreement(calibrated, rounded(calibrated, samples(network, 16))) > 0.97


def test_the_certificate_is_kept_with_the_network() -> None:
    result = quantized(residual_network())
    kept = result.network.provenance["certificate"]
    assert kept == certify(result.network).to_json()
    assert result.network.provenance["float_hash"] == residual_network().hash()


def test_a_network_on_the_lattice_is_refused() -> None:
    result = quantized(residual_network())
    with pytest.raises(LatticeError, match="on the lattice already; give the float network"):
        prepare(result.network, pixels(0), per_layer=False, input_bits=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1}, "2 to 16"),
        ({"bits": 17}, "2 to 16"),
        ({"input_bits": 12}, "8 or 16"),
        ({"held_out": 1.0}, "held_out"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LatticeError, match=message):
        LatticeOptions(**options)


def test_a_target_limits_width_and_granularity() -> None:
    narrow = TargetProfile(name="narrow", about="", weight_bits=4, threshold_granularity="layer")
    options = LatticeOptions.for_target(narrow, bits=None, per_layer=False, input_bits=8)
    assert options.bits == 4
    assert options.per_layer
    with pytest.raises(TargetError, match="narrow: weights of 8 bits; it takes 4"):
        LatticeOptions.for_target(narrow, bits=8, per_layer=False, input_bits=8)
    free = find_target("generic")
    assert LatticeOptions.for_target(free, bits=None, per_layer=False, input_bits=8).bits == 8


def test_moments_are_those_of_the_patches() -> None:
    network = residual_network(time_steps=4)
    context = CalibrationContext.of(samples(network, 4), batch_size=3)
    moments = input_moments(network, context)
    head = network.node("head")
    spikes = ReferenceSimulator(network).run(samples(network, 4)).spikes["block.if2"]
    rate = spikes.mean(axis=0)  # [B, 4, 6, 6]
    pooled = rate.reshape(4, 4, 3, 2, 3, 2).mean(axis=(3, 5)).reshape(4, -1)
    np.testing.assert_allclose(moments[head.name][0], pooled.T @ pooled / 4, atol=1e-6)
    stem = moments["stem.conv"]
    assert stem.shape == (1, 2 * 9, 2 * 9)


def test_correlated_rounding_beats_plain_rounding() -> None:
    rng = np.random.default_rng(0)
    inputs = np.maximum(rng.normal(size=(500, 24)) @ rng.normal(size=(24, 24)) + 1, 0)
    weight = rng.normal(size=(10, 24))
    moment = inputs.T @ inputs / len(inputs)
    energy = np.tile(np.diag(moment), (10, 1))
    for largest in (7, 127):
        scale = best_scales(weight, energy, largest)
        errors = []
        for known in (None, moment):
            rounded = round_weights(weight, scale, known, largest)
            assert np.abs(rounded).max() <= largest
            errors.append(float(((inputs @ (rounded * scale[:, None] - weight).T) ** 2).mean()))
        assert errors[1] < 0.8 * errors[0]


def test_inputs_that_never_come_are_rounded_plainly() -> None:
    weight = np.array([[0.24, 0.9, -0.6]])
    moment = np.diag([1.0, 0.0, 2.0])
    rounded = round_weights(weight, np.array([0.1]), moment, 7)
    assert rounded.tolist() == [[2, 7, -6]]


def test_input_must_be_checked_against_its_type() -> None:
    graph = quantized(residual_network()).network
    assert isinstance(graph.input, Input)
    far = np.full((1, *graph.input.shape), 1e6, np.float32)
    assert to_input_units(graph, far).max() == np.iinfo(graph.input.dtype).max
