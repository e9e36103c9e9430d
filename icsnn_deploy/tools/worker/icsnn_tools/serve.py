"""What the workers of all tools have in common: the circuit they read and the spikes they write."""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Source:
    """Spikes that the host sends, uint8 [T, B, neurons]."""

    name: str
    offset: int
    spikes: Any


@dataclass
class Neurons:
    """The neurons of one population, as flat int64 arrays."""

    name: str
    offset: int
    v_threshold: Any
    v_init: Any
    bias: Any
    v_reset: Any = None

    @property
    def count(self) -> int:
        return len(self.v_threshold)


@dataclass
class Synapses:
    """Synapses in compressed rows, one row per source neuron."""

    source: str
    target: str
    delay: int
    starts: Any
    targets: Any
    weights: Any

    def rows(self) -> Iterator[tuple[Any, Any]]:
        """The targets and the weights of each source neuron."""
        for first, last in zip(self.starts[:-1], self.starts[1:], strict=True):
            yield self.targets[first:last], self.weights[first:last]


@dataclass
class Circuit:
    """The circuit, and where the results go."""

    folder: Path
    heartbeat: int
    time_steps: int
    settings: dict[str, Any]
    sources: list[Source] = field(default_factory=list)
    neurons: list[Neurons] = field(default_factory=list)
    synapses: list[Synapses] = field(default_factory=list)

    @property
    def images(self) -> int:
        return int(self.sources[0].spikes.shape[1])

    @property
    def last_offset(self) -> int:
        return max(each.offset for each in self.neurons)

    def empty_spikes(self) -> dict[str, Any]:
        """Zeros [T, B, neurons] for each population."""
        shape = (self.time_steps, self.images)
        return {each.name: np.zeros((*shape, each.count), np.uint8) for each in self.neurons}

    def image_done(self) -> None:
        """Say that one more image was run."""
        os.write(self.heartbeat, b".")


def read(folder: Path, heartbeat: int) -> Circuit:
    """Read the circuit in a folder."""
    listed = json.loads((folder / "circuit.json").read_text())
    with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
        arrays = dict(stored)
    return Circuit(
        folder=folder,
        heartbeat=heartbeat,
        time_steps=listed["time_steps"],
        settings=listed["settings"],
        sources=[
            Source(each["name"], each["offset"], arrays[f"source{number}"])
            for number, each in enumerate(listed["sources"])
        ],
        neurons=[
            Neurons(
                each["name"],
                each["offset"],
                arrays[f"v_threshold{number}"],
                arrays[f"v_init{number}"],
                arrays[f"bias{number}"],
                arrays.get(f"v_reset{number}"),
            )
            for number, each in enumerate(listed["neurons"])
        ],
        synapses=[
            Synapses(
                each["source"],
                each["target"],
                each["delay"],
                arrays[f"starts{number}"],
                arrays[f"targets{number}"],
                arrays[f"weights{number}"],
            )
            for number, each in enumerate(listed["synapses"])
        ],
    )


def serve(run: Callable[[Circuit], tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """Read the circuit, run it, write its spikes and its report: MODULE FOLDER HEARTBEAT_FD.

    Args:
        run: returns the spikes of each population, uint8 [T, B, neurons], and a report as JSON
            values.
    """
    folder, heartbeat = Path(sys.argv[1]), int(sys.argv[2])
    try:
        circuit = read(folder, heartbeat)
        os.write(heartbeat, b"")
        spikes, report = run(circuit)
        arrays = {f"spikes{n}": spikes[each.name] for n, each in enumerate(circuit.neurons)}
        np.savez(folder / "spikes.npz", **arrays)
        (folder / "report.json").write_text(json.dumps(report))
    except BrokenPipeError:
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(1)
    except Exception as error:
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
        (folder / "fault.json").write_text(json.dumps({"message": message}))
        sys.exit(1)
