"""The backend "auto": the C program for long evaluations only, and with the same result."""

from __future__ import annotations

import numpy as np
import pytest

from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.evaluation import fastest
from icsnn_deploy.evaluation.fastest import FastestSimulator
from icsnn_deploy.evaluation.options import EvaluationOptions
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.native.build import find_compiler
from tests.support.graphs import residual_network
from tests.support.integer_graphs import on_lattice

RECORD = Record(spikes=False, counts=True, logits_t=True)
FLOAT = residual_network()
INTEGER = on_lattice(FLOAT)
needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C compiler")


class Clock:
    """Time that passes by one second per reading, so that no batch is faster than another."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1
        return self.now


class SlowTorch:
    """PyTorch, but each batch takes 100 seconds."""

    name, gives_logits_t, cuts_batches = "torch", True, True

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.simulator = TorchSimulator(INTEGER)

    def run(self, inputs: Array, record: Record = RECORD) -> Recording:
        self.clock.now += 100
        return self.simulator.run(inputs, record)


class Slow:
    """A program that takes an hour."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __call__(self, graph: Graph) -> Slow:
        return self

    def run(self, inputs: Array, record: Record) -> None:
        self.clock.now += 3600


def batches(graph: Graph, count: int) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.integers(-128, 128, (3, *graph.input.shape)).astype(np.int8) for _ in range(count)]


@needs_compiler
def test_a_long_evaluation_goes_on_with_the_faster_c_program_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(fastest, "time", clock)
    torch = TorchSimulator(INTEGER)
    auto = FastestSimulator(INTEGER, SlowTorch(clock), samples=10_000)
    for number, x in enumerate(batches(INTEGER, 4)):
        found, expected = auto.run(x, RECORD), torch.run(x, RECORD)
        assert auto.ran == ({"torch"} if number < 2 else {"torch", "c"})
        assert found.logits.dtype == expected.logits.dtype
        np.testing.assert_array_equal(found.logits, expected.logits)
        assert found.logits_t is not None
        assert expected.logits_t is not None
        np.testing.assert_array_equal(found.logits_t, expected.logits_t)
        assert found.counts.keys() == expected.counts.keys()
        for name, counts in expected.counts.items():
            np.testing.assert_array_equal(found.counts[name], counts)


def test_a_short_evaluation_compiles_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compile_it(graph: Graph) -> None:
        raise AssertionError("compiled")

    monkeypatch.setattr(fastest, "CSimulator", compile_it)
    auto = FastestSimulator(INTEGER, TorchSimulator(INTEGER), samples=9)
    for x in batches(INTEGER, 3):
        auto.run(x, RECORD)
    assert auto.ran == {"torch"}


def test_a_slower_program_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr(fastest, "time", clock)
    monkeypatch.setattr(fastest, "CSimulator", Slow(clock))
    usual = SlowTorch(clock)
    auto = FastestSimulator(INTEGER, usual, samples=10_000)
    for x in batches(INTEGER, 4):
        auto.run(x, RECORD)
    assert auto.ran == {"torch"}


def test_auto_is_torch_where_the_results_could_differ_or_no_compiler_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fastest, "find_compiler", lambda: ["cc"])
    assert EvaluationOptions().chosen_for(INTEGER).backend == "auto"
    assert EvaluationOptions().chosen_for(FLOAT).backend == "torch"
    early = EvaluationOptions(confidence=0.9)
    assert early.chosen_for(INTEGER).backend == "torch"
    compared = EvaluationOptions(parity=("reference",))
    assert compared.chosen_for(INTEGER).backend == "torch"
    monkeypatch.setattr(fastest, "find_compiler", lambda: None)
    assert EvaluationOptions().chosen_for(INTEGER).backend == "torch"
