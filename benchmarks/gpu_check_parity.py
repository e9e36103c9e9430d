"""Spikes of a certified network on a device, compared there with the int64 reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from gpu_check_networks import CheckedNetwork
from gpu_check_table import CheckFailedError, Row
from torch import Tensor

from icsnn_deploy.backends.torch import ops
from icsnn_deploy.backends.torch.cuda_graphs import CapturedRuns
from icsnn_deploy.backends.torch.fused import RunSteps, fused_steps
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Population

CALLS = 3  # of a captured run: as it is, captured, replayed


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How the simulator runs."""

    tf32: bool = False
    fused: bool = False
    graph: bool = False

    def __str__(self) -> str:
        parts = [f"TF32 {'on' if self.tf32 else 'off'}"]
        parts += ["fused kernel"] * self.fused + ["CUDA graph"] * self.graph
        return ", ".join(parts)


MODES = (
    Mode(),
    Mode(tf32=True),
    Mode(graph=True),
    Mode(graph=True, tf32=True),
    Mode(fused=True),
    Mode(fused=True, graph=True, tf32=True),
)


@contextmanager
def matrix_products_in_tf32(on: bool) -> Iterator[None]:
    """The simulator sets TF32 for convolutions; for matrix products it is a global setting."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@contextmanager
def fused_calls() -> Iterator[list[bool]]:
    """For each population that ran in a fused mode, whether the fused kernel ran it."""
    found: list[bool] = []

    def noted(*tensors: Any) -> RunSteps | None:
        kernel = fused_steps(*tensors)
        found.append(kernel is not None)
        return kernel

    with patch.object(ops, "fused_steps", noted):
        yield found


def require_fused(found: list[bool]) -> None:
    """So that PyTorch's operators are never measured under the kernel's name."""
    if not (found and all(found)):
        raise CheckFailedError(f"the fused kernel ran {sum(found)} of {len(found)} populations")


class Comparison:
    """Runs a batch of the checked images, repeated, and counts what differs, on the device.

    Args:
        checked: the network and what it must give.
        device: torch device.
        mode: how to run.
        batch: number of images.
        network: another network that is held to the same result; None: the checked one.
    """

    def __init__(
        self,
        checked: CheckedNetwork,
        device: str,
        mode: Mode,
        batch: int,
        network: Graph | None = None,
    ) -> None:
        self._simulator = TorchSimulator(
            network or checked.network, device=device, tf32=mode.tf32, fused=mode.fused
        )
        distinct = min(batch, len(checked.inputs))
        self._repeats = -(-batch // distinct)
        device_ops = self._simulator.ops
        shown = checked.inputs[:distinct]
        self.inputs = device_ops.tensor(np.concatenate([shown] * self._repeats))
        self._spikes = {
            name: torch.tensor(spikes[:, :distinct], device=device_ops.device)
            for name, spikes in checked.spikes.items()
        }
        self._logits = torch.tensor(checked.logits[:distinct], device=device_ops.device)
        self.compared = self._repeats * sum(spikes.numel() for spikes in self._spikes.values())
        self.run = CapturedRuns(self._run) if mode.graph else self._run

    def _run(self, inputs: Tensor) -> Tensor:
        """Numbers of spikes and of logits that differ, [2]."""
        found: list[Tensor] = []

        def observe(node: Population, spikes: Tensor, v: Tensor, u: Tensor | None) -> None:
            found.append(self._different(spikes.float(), self._spikes[node.name].float(), 1))

        means = self._simulator.observe(inputs, observe)  # [T, B, classes]
        return torch.stack([torch.stack(found).sum(), self._different(means[-1], self._logits, 0)])

    def _different(self, values: Tensor, expected: Tensor, batch_axis: int) -> Tensor:
        """How many values differ from those expected of each repetition of the images."""
        distinct = expected.shape[batch_axis]
        before, after = values.shape[:batch_axis], values.shape[batch_axis + 1 :]
        repeated = values.reshape(*before, self._repeats, distinct, *after)
        return (repeated != expected.unsqueeze(batch_axis)).sum()


def check_parity(row: Row, checked: CheckedNetwork, device: str, mode: Mode, batch: int) -> Row:
    """Count differing spikes and logits; every call of a captured run is compared."""
    if mode.tf32 and not checked.certificate.tf32:
        return replace(row, result="not certified for TF32, not run")
    with matrix_products_in_tf32(mode.tf32), fused_calls() as fused:
        comparison = Comparison(checked, device, mode, batch)
        wrong = [
            [int(count) for count in comparison.run(comparison.inputs).tolist()]
            for _ in range(CALLS if mode.graph else 1)
        ]
    spikes, logits = (max(counts) for counts in zip(*wrong, strict=True))
    result = f"{spikes:,} of {comparison.compared:,} spikes, {logits:,} logits differ"
    if spikes or logits:
        raise CheckFailedError(result)
    if mode.fused:
        require_fused(fused)
    return replace(row, result=result)


def check_that_differences_are_found(row: Row, checked: CheckedNetwork, device: str) -> Row:
    """The same comparison with one threshold changed must find differing spikes."""
    first = checked.network.nodes_of(Population)[0]
    v_threshold = first.v_threshold.copy()
    v_threshold.flat[0] += max(1, int(v_threshold.flat[0]) // 8)
    changed = checked.network.replace(replace(first, v_threshold=v_threshold))
    comparison = Comparison(checked, device, Mode(), len(checked.inputs), changed)
    spikes = int(comparison.run(comparison.inputs)[0])
    if not spikes:
        raise CheckFailedError("a network with another threshold gave the same spikes")
    return replace(row, result=f"{spikes:,} spikes differ, as they must")
