"""Collects the recording of a run in chunks of the batch and blocks of time steps."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.recording import Record, count_spikes, first_spike_times
from icsnn_deploy.graph.neuron import Array

Chunks = dict[str, list[Array]]


@dataclass(eq=False)
class Recorder:
    """Joins blocks of steps to chunks, and chunks to the whole batch."""

    record: Record
    spikes: dict[str, list[list[Array]]] = field(default_factory=dict)  # by chunk, by block
    potentials: dict[str, list[list[Array]]] = field(default_factory=dict)
    counts: Chunks = field(default_factory=dict)  # by chunk
    first_spikes: Chunks = field(default_factory=dict)

    def add(self, name: str, spikes: Tensor, u: Tensor | None, step: int) -> None:
        """Add a population's spikes [K, B, *shape] and potentials of the steps after `step`."""
        new_chunk = step == 0
        if u is not None:
            _append(self.potentials, name, u.cpu().numpy(), new_chunk=new_chunk)
        if not (self.record.spikes or self.record.counts or self.record.first_spikes):
            return
        block = spikes.to(torch.uint8).cpu().numpy()
        if self.record.spikes:
            _append(self.spikes, name, block, new_chunk=new_chunk)
        if self.record.counts:
            counted = count_spikes(block)
            chunks = self.counts.setdefault(name, [])
            if new_chunk:
                chunks.append(counted)
            else:
                chunks[-1] += counted
        if self.record.first_spikes:
            times = first_spike_times(block)
            times[times > 0] += step
            chunks = self.first_spikes.setdefault(name, [])
            if new_chunk:
                chunks.append(times)
            else:
                np.copyto(chunks[-1], times, where=chunks[-1] == 0)

    def over_time(self, blocks: dict[str, list[list[Array]]]) -> dict[str, Array]:
        """Join values over time: [T, B, *shape] of each population."""
        return {
            name: np.concatenate([_joined(chunk) for chunk in chunks], axis=1)
            for name, chunks in blocks.items()
        }

    def of_batch(self, chunks: Chunks) -> dict[str, Array]:
        """Join values per sample: [B, *shape] of each population."""
        return {name: np.concatenate(parts) for name, parts in chunks.items()}


def _append(
    blocks: dict[str, list[list[Array]]], name: str, value: Array, *, new_chunk: bool
) -> None:
    chunks = blocks.setdefault(name, [])
    if new_chunk:
        chunks.append([])
    chunks[-1].append(value)


def _joined(blocks: list[Array]) -> Array:
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
