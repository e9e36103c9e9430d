"""The request to a simulator, Record, and its result, Recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from icsnn_deploy.graph.neuron import Array


@dataclass(frozen=True, kw_only=True)
class Record:
    """What to record besides the logits.

    counts and first_spikes are for runs that are too large to keep every spike.
    """

    spikes: bool = True
    counts: bool = False
    first_spikes: bool = False
    logits_t: bool = False
    potentials: frozenset[str] = frozenset()  # populations whose u[t] is recorded

    @property
    def needs_spikes(self) -> bool:
        """Whether spikes, or anything that is computed from them, are recorded."""
        return self.spikes or self.counts or self.first_spikes

    @property
    def logits_only(self) -> bool:
        """Whether nothing is recorded of any neuron."""
        return not (self.needs_spikes or self.potentials)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """What one backend recorded for a batch of samples.

    Populations are keyed by node name, in topological order of the network.
    """

    backend: str
    logits: Array  # [B, *output shape]
    spikes: Mapping[str, Array] = field(default_factory=dict)  # uint8 [T, B, *shape]
    counts: Mapping[str, Array] = field(default_factory=dict)  # [B, *shape]
    first_spikes: Mapping[str, Array] = field(default_factory=dict)  # [B, *shape]
    logits_t: Array | None = None  # running mean [T, B, *output shape]; 0 up to readout_start
    potentials: Mapping[str, Array] = field(default_factory=dict)  # u before reset [T, B, *shape]

    def __repr__(self) -> str:
        populations = len(self.spikes) or len(self.counts)
        kept = f"{'spikes' if self.spikes else 'counts'} of {populations} populations"
        return (
            f"<Recording: {self.backend}, logits {list(self.logits.shape)}"
            f"{f', {kept}' if populations else ''}>"
        )

    def only(self, record: Record) -> Recording:
        """Reduce to what `record` asks for; counts and first spikes are computed from spikes."""
        return replace(
            self,
            spikes=self.spikes if record.spikes else {},
            counts=self.spike_counts() if record.counts else {},
            first_spikes=self.first_spike_times() if record.first_spikes else {},
            logits_t=self.logits_t if record.logits_t else None,
            potentials={n: u for n, u in self.potentials.items() if n in record.potentials},
        )

    def spike_counts(self) -> dict[str, Array]:
        """Spikes of each neuron over all steps, [B, *shape], as recorded or computed."""
        computed = {name: count_spikes(s) for name, s in self.spikes.items()}
        return {**computed, **self.counts}

    def first_spike_times(self) -> dict[str, Array]:
        """Step (1..T) of each neuron's first spike, 0 for a silent one, [B, *shape]."""
        computed = {name: first_spike_times(s) for name, s in self.spikes.items()}
        return {**computed, **self.first_spikes}


def count_spikes(spikes: Array) -> Array:
    """Number of spikes over time, [T, ...] -> int32 [...]."""
    if spikes.dtype == np.uint8 and len(spikes) <= np.iinfo(np.uint8).max:  # 4 times faster
        few: Array = spikes.sum(axis=0, dtype=np.uint8)
        return few.astype(np.int32)
    counts: Array = spikes.sum(axis=0, dtype=np.int32)
    return counts


def first_spike_times(spikes: Array) -> Array:
    """Step (1..T) of the first spike, 0 if there is none, [T, ...] -> int32 [...]."""
    times: Array = np.where(spikes.any(axis=0), spikes.argmax(axis=0) + 1, 0).astype(np.int32)
    return times


class Simulator(Protocol):
    """A backend that runs one network.

    name: of the backend, for messages and recordings.
    gives_logits_t: whether it can record the logits of each step.
    cuts_batches: whether a large batch is run in parts, so that a run needs little more memory than
        the recording.
    """

    name: str
    gives_logits_t: bool
    cuts_batches: bool

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        """Run a batch from v_init and record it.

        Args:
            inputs: [B, *shape], or [T, B, *shape] for rate and event input.
            record: what to record.
        """
        ...
