"""The Triton kernel of a population, run by Triton's interpreter: bit-identical with PyTorch's.

`make test-triton` runs these with TRITON_INTERPRET=1, which has to be set before triton is loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch import fused, ops
from icsnn_deploy.backends.torch.fused import proven_kernel
from icsnn_deploy.backends.torch.ops import integrate_and_fire
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.errors import SimulationError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF
from tests.support.graphs import if_graphs, residual_network, samples

pytestmark = pytest.mark.triton

CPU = torch.device("cpu")
SHAPES = ((1,), (37,), (6, 11), (3, 5, 7), (1, 8, 8), (4, 1, 1), (16, 19, 9))
MODES = ("layer", "channel", "neuron", "sample")


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The kernel takes the CPU's currents in these tests; the list grows by each call."""
    found: list[int] = []

    def steps_on_the_cpu(currents: Tensor, v: Tensor, spikes: Tensor, u: Tensor | None) -> Any:
        if not fused.fits(currents, v, spikes, u):
            return None
        found.append(v.numel())
        return proven_on_the_cpu

    proven_on_the_cpu = proven_kernel(CPU)
    monkeypatch.setattr(ops, "fused_steps", steps_on_the_cpu)
    # Code in C, where there is any, would run the CPU's populations first.
    monkeypatch.setattr(ops, "fire_native", lambda *given, **options: None, raising=False)
    return found


def parameter(rng: np.random.Generator, mode: str, batch: int, shape: tuple[int, ...]) -> Tensor:
    ones = (1,) * (len(shape) - 1)
    size = {
        "layer": (1, *ones),
        "channel": (shape[0], *ones),
        "neuron": shape,
        "sample": (batch, *shape),
    }[mode]
    return torch.tensor(rng.normal(size=size).astype(np.float32))


def assert_same_bits(one: Tensor | None, other: Tensor | None) -> None:
    if one is None or other is None:
        assert one is other
        return
    assert one.dtype == other.dtype
    # The stride of an axis of one value means nothing.
    assert [s for n, s in zip(one.shape, one.stride(), strict=True) if n > 1] == [
        s for n, s in zip(other.shape, other.stride(), strict=True) if n > 1
    ]
    as_integers = {torch.float32: torch.int32}.get(one.dtype, one.dtype)
    assert torch.equal(one.view(as_integers), other.view(as_integers))


@settings(max_examples=100, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    batch=st.integers(1, 3),
    steps=st.integers(1, 5),
    channels_last=st.booleans(),
    constant=st.booleans(),
    modes=st.tuples(*[st.sampled_from(MODES)] * 3),
    hard_reset=st.booleans(),
    keep_potentials=st.booleans(),
    as_bytes=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_every_bit_is_that_of_pytorch(
    shape: tuple[int, ...],
    batch: int,
    steps: int,
    channels_last: bool,
    constant: bool,
    modes: tuple[str, str, str],
    hard_reset: bool,
    keep_potentials: bool,
    as_bytes: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    folded = torch.tensor(rng.normal(size=((1 if constant else steps) * batch, *shape))).float()
    if channels_last and len(shape) == 3:
        folded = folded.contiguous(memory_format=torch.channels_last)
    currents = folded.view(-1, batch, *shape)
    if constant:
        currents = currents.expand(steps, *currents.shape[1:])
    v_init, v_threshold, v_reset = (parameter(rng, mode, batch, shape) for mode in modes)
    given_all = (currents, v_init, v_threshold.abs() + 0.1, v_reset if hard_reset else None)
    options: dict[str, Any] = {"keep_potentials": keep_potentials, "as_bytes": as_bytes}
    fast = integrate_and_fire(*given_all, **options)
    slow = integrate_and_fire(*given_all, fused=False, **options)
    for one, other in zip(fast, slow, strict=True):
        assert_same_bits(one, other)


def test_values_that_are_no_numbers_and_zeros_of_either_sign_are_kept(calls: list[int]) -> None:
    odd = [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e-42, -1e-42, 3.0]
    currents = torch.tensor(odd).repeat(3, 1, 1)  # [T, 1, 8]
    for v_reset in (None, torch.tensor([-0.0])):
        given_all = (currents, torch.tensor([-0.0]), torch.tensor([2.0]), v_reset)
        fast = integrate_and_fire(*given_all, keep_potentials=True)
        slow = integrate_and_fire(*given_all, keep_potentials=True, fused=False)
        for one, other in zip(fast, slow, strict=True):
            assert one is not None
            assert other is not None
            np.testing.assert_array_equal(one.numpy(), other.numpy())
            assert torch.equal(torch.signbit(one), torch.signbit(other))
    assert calls == [8, 8]


@settings(max_examples=5, deadline=None)
@given(graph=if_graphs(), hard_reset=st.booleans())
def test_a_network_gives_the_same_recording(graph: Graph, hard_reset: bool) -> None:
    if hard_reset:
        graph = graph.replace(
            *(replace(node, v_reset=np.zeros_like(node.v_threshold)) for node in graph.nodes_of(IF))
        )
    names = frozenset(node.name for node in graph.nodes_of(IF))
    record = Record(potentials=names, logits_t=True)
    x = samples(graph, 3)
    one, other = (TorchSimulator(graph, fused=fused).run(x, record) for fused in (True, False))
    for name in names:
        np.testing.assert_array_equal(one.spikes[name], other.spikes[name])
        np.testing.assert_array_equal(one.potentials[name], other.potentials[name])
    np.testing.assert_array_equal(one.logits_t, other.logits_t)


def test_a_simulator_uses_the_kernel_for_every_population(calls: list[int]) -> None:
    graph = residual_network()
    TorchSimulator(graph).run(samples(graph, 2))
    assert len(calls) == len(graph.nodes_of(IF))
    TorchSimulator(graph, fused=False).run(samples(graph, 2))
    assert len(calls) == len(graph.nodes_of(IF))


def test_steps_with_gaps_in_memory_are_left_to_pytorch(calls: list[int]) -> None:
    wide = torch.randn(3, 2, 4, 10)
    one = torch.ones(1, 1)
    integrate_and_fire(wide[..., :5], one, one)
    integrate_and_fire(wide.transpose(2, 3), one, one)
    integrate_and_fire(wide.double(), one.double(), one.double())
    assert calls == []


def test_a_kernel_that_is_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from icsnn_deploy.backends.torch import triton_if

    right = triton_if.run_steps

    def late(currents: Tensor, v: Tensor, *others: Any) -> None:
        right(currents, v.add_(1e-3), *others)

    monkeypatch.setattr(triton_if, "run_steps", late)
    with pytest.raises(SimulationError, match="gives other"):
        proven_kernel(CPU)


COMPILED = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from icsnn_deploy.backends.torch.triton_if import BLOCK, _if_steps
for spikes in ("*fp32", "*u8"):
    for hard_reset in (False, True):
        constants = {"HARD_RESET": hard_reset, "KEEP_U": True, "BLOCK": BLOCK}
        types = dict.fromkeys(_if_steps.arg_names, "i32") | dict.fromkeys(constants, "constexpr")
        types |= dict.fromkeys(("currents", "v", "v_threshold", "v_reset", "u_of_steps"), "*fp32")
        types |= {"spikes": spikes, "current_stride": "i64"}
        source = ASTSource(fn=_if_steps, signature=types, constexprs=constants)
        print(compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"])
"""


def test_it_compiles_for_hopper_without_contraction_or_flushing() -> None:
    """Triton compiles without a GPU; a fused multiply-add or .ftz would round otherwise."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    found = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, env=environment
    )
    assert found.returncode == 0, found.stderr
    code = found.stdout
    assert code.count(".target sm_90a") == 4
    assert "add.f32" in code or "add.rn.f32" in code
    assert "fma" not in code
    assert "ftz" not in code
