"""The C code of populations gives the bits of the PyTorch code; without it PyTorch takes over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch import population
from icsnn_deploy.backends.torch.early_exit import run_until_sure
from icsnn_deploy.backends.torch.fusion import schedule
from icsnn_deploy.backends.torch.ops import integrate_and_fire
from icsnn_deploy.backends.torch.population import Term, fire_native, native_library
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Add, AvgPool
from tests.support.building import node_of
from tests.support.graphs import residual_network, samples, with_hard_reset

SHAPES = [(3, 6, 7), (16, 5, 5), (700, 3, 2), (1500, 1, 1), (1, 40, 40), (5,), (1100,), (4, 300)]
STEPS, BATCH = 5, 3

needs_compiler = pytest.mark.skipif(
    native_library() is None, reason="no C compiler: PyTorch computes populations"
)


def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(population, "native_library", lambda: None)


def without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the PyTorch code of populations raise."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("PyTorch computes a population")

    monkeypatch.setattr(torch, "ge", fail)


def laid_out(values: Tensor, channels_last: bool) -> Tensor:
    """[T, B, *shape] in the memory format that a convolution gives."""
    folded = values.flatten(0, 1)
    if channels_last and folded.ndim == 4:
        folded = folded.contiguous(memory_format=torch.channels_last)
    return folded.reshape(values.shape) if folded.ndim < 4 else folded.view(values.shape)


def currents(shape: tuple[int, ...], seed: int, *, channels_last: bool) -> Tensor:
    """Random currents with ties, signed zeros, and what is not a number."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn((STEPS, BATCH, *shape), generator=generator) * 2
    flat = found.view(-1)
    flat[::5] = 0.5
    flat[1::17] = -0.0
    flat[2::97] = float("nan")
    flat[3::89] = float("inf")
    flat[4::83] = -float("inf")
    flat[5::79] = 1e-42
    return laid_out(found, channels_last)


def parameter(shape: tuple[int, ...], per: str, low: float, seed: int) -> Tensor:
    """Of one layer, channel or neuron."""
    sizes = {"layer": (1,) * len(shape), "channel": (shape[0], *(1,) * (len(shape) - 1))}
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(sizes.get(per, shape), generator=generator).mul(8).round().div(8) + low


def assert_same_bits(got: Any, expected: Any) -> None:
    for one, other in zip(got, expected, strict=True):
        if other is None:
            assert one is None
            continue
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        if one.dtype == torch.float32:
            assert torch.equal(one.isnan(), other.isnan())
            one, other = one.nan_to_num(7.0).contiguous(), other.nan_to_num(7.0).contiguous()
            one, other = one.view(torch.int32), other.view(torch.int32)  # signs of zeros as well
        assert torch.equal(one, other)


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
@pytest.mark.parametrize("hard", [False, True])
def test_spikes_and_potentials_are_those_of_pytorch(
    shape: tuple[int, ...],
    channels_last: bool,
    per: str,
    hard: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = currents(shape, 0, channels_last=channels_last)
    v_threshold, v_init = parameter(shape, per, 0.5, 1), parameter(shape, "channel", -0.25, 2)
    v_reset = parameter(shape, "layer", -0.5, 3) if hard else None
    for as_bytes in (False, True):
        options = {"keep_potentials": as_bytes != hard, "as_bytes": as_bytes}
        found = fire_native([Term(values=given)], v_init, v_threshold, v_reset, **options)
        assert found is not None
        later = fire_native([Term(values=given)], found[1], v_threshold, v_reset, **options)
        with monkeypatch.context() as patch:
            without_library(patch)
            expected = integrate_and_fire(given, v_init, v_threshold, v_reset, **options)
            assert_same_bits(found, expected)
            after = integrate_and_fire(given, expected[1], v_threshold, v_reset, **options)
        assert later is not None
        assert_same_bits(later, after)
        assert found[0].stride() == expected[0].stride()


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("per", ["layer", "channel", "neuron"])
@pytest.mark.parametrize("threads", [1, 3])
def test_terms_are_added_in_their_order(
    shape: tuple[int, ...],
    channels_last: bool,
    per: str,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(population, "_FEWEST_VALUES", 1)
    one, two = (currents(shape, seed, channels_last=channels_last) for seed in (0, 4))
    fired = laid_out((one > 0.3).to(torch.uint8), channels_last)
    steady = two[:1].expand(two.shape)
    scale, shift = parameter(shape, per, -3.0, 5) / 3, parameter(shape, "channel", -0.7, 6) / 7
    v_threshold, v_init = parameter(shape, "layer", 0.5, 1), parameter(shape, "channel", 0, 2)
    scaled = Term(values=fired, scale=scale, shift=shift)
    cases = [
        ([Term(values=one), scaled], one + (fired.float() * scale + shift)),
        ([scaled, Term(values=steady)], (fired.float() * scale + shift) + steady),
        (
            [Term(values=one), Term(values=two, scale=scale, shift=shift), Term(values=fired)],
            one + (two * scale + shift) + fired.float(),
        ),
        (
            [Term(values=fired), Term(values=one), scaled, Term(values=two)],
            fired.float() + one + (fired.float() * scale + shift) + two,
        ),
    ]
    for terms, total in cases:
        found = fire_native(terms, v_init, v_threshold, keep_potentials=True, as_bytes=True)
        assert found is not None
        with monkeypatch.context() as patch:
            without_library(patch)
            expected = integrate_and_fire(
                total, v_init, v_threshold, keep_potentials=True, as_bytes=True
            )
        assert_same_bits(found, expected)


@needs_compiler
def test_other_values_are_left_to_pytorch() -> None:
    x = torch.zeros(2, 3, 4, 5, 5)
    one = torch.ones(4, 1, 1)

    def fits(*values: Tensor, v: Tensor = one, v_threshold: Tensor = one) -> bool:
        return fire_native([Term(values=part) for part in values], v, v_threshold) is not None

    last = laid_out(torch.zeros(2, 3, 4, 5, 5), True)
    assert fits(x)
    assert fits(last, last.to(torch.uint8))
    assert not fits(x, last)
    assert not fits(x.double())
    assert not fits(x, v_threshold=one.double())
    assert not fits(x, v_threshold=torch.ones(3, 4, 1, 1))
    assert not fits(torch.zeros(2, 3, 4, 5, 10)[..., ::2])
    assert not fits(*[x] * 5)
    assert not fits(x.clone().requires_grad_())
    with torch.no_grad():
        assert fits(x.clone().requires_grad_())


def networks() -> list[Graph]:
    graph = residual_network()
    two = graph.replace(
        Add(name="block.add", inputs=("block.shortcut", "block.conv2")),
    )
    return [graph, two, with_hard_reset(graph)]


@pytest.mark.parametrize("graph", networks())
@pytest.mark.parametrize("memory", [1, 9_000, 1 << 28])
def test_a_network_runs_the_same_without_the_c_code(
    graph: Graph, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = samples(graph, 5)
    record = Record(
        potentials=frozenset({"stem.if", "block.if2"}), first_spikes=True, logits_t=True
    )

    def run() -> tuple[Any, Any]:
        simulator = TorchSimulator(graph, memory=memory)
        return simulator.run(x, record), run_until_sure(simulator, x, 0.4)

    with monkeypatch.context() as patch:
        if native_library() is not None:
            without_pytorch(patch)
        found, sure = run()
    without_library(monkeypatch)
    expected, sure_expected = run()
    np.testing.assert_array_equal(found.logits_t, expected.logits_t)
    for name, spikes in expected.spikes.items():
        assert 0 < spikes.mean() < 1
        np.testing.assert_array_equal(found.spikes[name], spikes)
    for name, u in expected.potentials.items():
        np.testing.assert_array_equal(found.potentials[name].view(np.int32), u.view(np.int32))
    np.testing.assert_array_equal(sure.logits, sure_expected.logits)
    np.testing.assert_array_equal(sure.steps, sure_expected.steps)


def test_sums_and_scales_with_one_consumer_are_fused() -> None:
    graph = residual_network()
    plan = schedule(graph, fuse=True)
    (name, current), *others = plan.fused.items()
    assert name == "block.if2"
    assert not others
    assert [source for source, _ in current.terms] == ["block.conv2", "stem.if"]
    assert [node.name for node in current.nodes] == ["block.shortcut", "block.add"]
    assert {"block.add", "block.shortcut"}.isdisjoint(node.name for node in plan.nodes)
    assert "stem.if" in plan.unused_after["block.if2"]
    assert "stem.if" not in plan.unused_after["block.conv1"]


@pytest.mark.parametrize("taken_twice", ["block.add", "block.shortcut"])
def test_what_others_take_is_not_fused(taken_twice: str) -> None:
    graph = residual_network()
    pool = node_of(graph, "pool", AvgPool)
    total = Add(name="total", inputs=("block.if2", taken_twice))
    place = graph.nodes.index(pool)
    rest = (total, replace(pool, inputs=("total",)), *graph.nodes[place + 1 :])
    graph = graph.with_nodes((*graph.nodes[:place], *rest))
    plan = schedule(graph, fuse=True)
    inside = {node.name for current in plan.fused.values() for node in current.nodes}
    assert taken_twice not in inside
    assert inside == ({"block.add"} if taken_twice == "block.shortcut" else set())
    without = schedule(graph, fuse=False)
    assert not without.fused
    assert taken_twice in {node.name for node in without.nodes}


def test_who_asks_for_sources_sees_every_node() -> None:
    graph = residual_network()
    seen: list[str] = []
    simulator = TorchSimulator(graph)
    logits = simulator.observe(samples(graph, 2), sources=lambda node, _: seen.append(node.name))
    assert {"block.add", "block.shortcut"} <= set(seen)
    assert torch.equal(logits, simulator.observe(samples(graph, 2)))


def test_double_precision_fuses_nothing() -> None:
    simulator = TorchSimulator(residual_network(), dtype=torch.float64)
    assert not simulator._fused.fused


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = residual_network()
    simulator = TorchSimulator(graph, fused=False)
    assert not simulator._fused.fused
    without_pytorch(monkeypatch)
    with pytest.raises(AssertionError, match="PyTorch computes"):
        simulator.run(samples(graph, 2))
