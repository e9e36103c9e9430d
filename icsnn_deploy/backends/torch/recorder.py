"""Collects what a run in batch chunks and blocks of time steps is asked to write down."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.recording import Record, count_spikes, first_spike_times
from icsnn_deploy.graph.neuron import Array

Kept = dict[str, list[Array]]


@dataclass(eq=False)
class Recorder:
    """Puts blocks of steps together to chunks, and chunks to the whole batch."""

    record: Record
    spikes: dict[str, list[list[Array]]] = field(default_factory=dict)  # by chunk, by block
    potentials: dict[str, list[list[Array]]] = field(default_factory=dict)
    counts: Kept = field(default_factory=dict)  # by chunk
    first_spikes: Kept = field(default_factory=dict)

    def add(self, name: str, spikes: Tensor, u: Tensor | None, step: int) -> None:
        """Note a population's spikes [K, B, *shape] and potentials of the steps after `step`."""
        begun = step == 0
        if u is not None:
            _append(self.potentials, name, u.cpu().numpy(), begun=begun)
        if not (self.record.spikes or self.record.counts or self.record.first_spikes):
            return
        found = spikes.to(torch.uint8).cpu().numpy()
        if self.record.spikes:
            _append(self.spikes, name, found, begun=begun)
        if self.record.counts:
            counted = count_spikes(found)
            chunks = self.counts.setdefault(name, [])
            if begun:
                chunks.append(counted)
            else:
                chunks[-1] += counted
        if self.record.first_spikes:
            times = first_spike_times(found)
            times[times > 0] += step
            chunks = self.first_spikes.setdefault(name, [])
            if begun:
                chunks.append(times)
            else:
                np.copyto(chunks[-1], times, where=chunks[-1] == 0)

    def over_time(self, blocks: dict[str, list[list[Array]]]) -> dict[str, Array]:
        """[T, B, *shape] of each population."""
        return {
            name: np.concatenate([_joined(chunk) for chunk in chunks], axis=1)
            for name, chunks in blocks.items()
        }

    def of_batch(self, chunks: Kept) -> dict[str, Array]:
        """[B, *shape] of each population."""
        return {name: np.concatenate(parts) for name, parts in chunks.items()}


def _append(blocks: dict[str, list[list[Array]]], name: str, value: Array, *, begun: bool) -> None:
    chunks = blocks.setdefault(name, [])
    if begun:
        chunks.append([])
    chunks[-1].append(value)


def _joined(blocks: list[Array]) -> Array:
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
