"""A bundle's NIR files in every reader: the reader's own import, our helper, and the relay file.

    python benchmarks/readers.py BUNDLE --images test.npz:images [--limit 20] [--reader norse]

The bundle holds the exports nir-portable and nir-relay. Readers run in the environments that
`icsnn readers setup` makes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import numpy as np

from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.data import load_images
from icsnn_deploy.exporters.nir.metadata import load
from icsnn_deploy.exporters.nir.portable.reader_limits import READERS
from icsnn_deploy.exporters.nir.portable.relay import relay_inputs
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.readers.environment import environment_of, find_environment
from icsnn_deploy.readers.launch import Request, run_requests

PLAIN = Path(__file__).with_name("plain_import.py")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a reader did with a file, beside the reference."""

    spikes: int = 0
    mismatches: int = 0
    logits: float | None = None  # largest difference; None where the output has another shape
    error: str | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return self.error
        if self.logits is None:
            return f"{self.mismatches:,} of {self.spikes:,} and no logits"
        return f"{self.mismatches:,} of {self.spikes:,}, logits {self.logits:.3g}"


def judge(expected: Recording, spikes: dict[str, Array], logits: Array) -> Outcome:
    """Spikes that differ, and the largest difference of the logits."""
    same_shape = logits.shape == expected.logits.shape
    return Outcome(
        spikes=sum(s.size for s in expected.spikes.values()),
        mismatches=sum(int((spikes[name] != s).sum()) for name, s in expected.spikes.items()),
        logits=float(np.abs(logits - expected.logits).max()) if same_shape else None,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One file through a reader's own import."""

    reader: str
    file: Path  # portable or relay
    stepped: Array  # what enters at each step, [T, B, *shape]
    reset: bool = False  # set the reader's neuron to soft reset; nothing else


def run_plain(jobs: Sequence[Job], expected: Recording) -> list[Outcome]:
    """Run jobs of one environment, one after the other."""
    (name,) = {environment_of(job.reader) for job in jobs}
    with tempfile.TemporaryDirectory() as folder:
        listed: list[dict[str, Any]] = []
        for number, job in enumerate(jobs):
            inputs = Path(folder) / f"{number}.npy"
            np.save(inputs, job.stepped.astype(np.float32))
            said = {"reader": job.reader, "file": str(job.file), "reset": job.reset}
            listed.append({**said, "inputs": str(inputs), "out": f"{folder}/{number}.npz"})
        todo = Path(folder) / "jobs.json"
        todo.write_text(json.dumps(listed))
        subprocess.run(
            [str(find_environment(name).python), str(PLAIN), str(todo)],
            check=True,
            capture_output=True,
        )
        return [_outcome(Path(each["out"]), Path(each["file"]), expected) for each in listed]


def _outcome(out: Path, file: Path, expected: Recording) -> Outcome:
    if not out.exists():
        return Outcome(error=out.with_suffix(".error").read_text().splitlines()[0][:80])
    with np.load(out) as arrays:
        found = dict(arrays)
    logits = found.pop("").astype(np.float64).mean(axis=0)
    notes = load(nir.read(file).metadata, "graph")["nodes"]
    spikes = {}
    for key, sent in found.items():
        name = notes[key]["name"]
        spikes[name] = sent[:, :, : expected.spikes[name].shape[2]]  # without the relay's channel
    return judge(expected, spikes, logits)


def run_helped(reader: str, file: Path, inputs: Array, expected: Recording) -> Outcome:
    """A file through our helper, in the reader's environment."""
    python = find_environment(environment_of(reader)).python
    (found,) = run_requests(python, [Request(reader=reader, file=file, inputs=inputs)])
    return judge(expected, dict(found.spikes), found.logits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", help="default: the bundle's own samples")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--reader", action="append", choices=list(READERS))
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    network = bundle.network()
    given = load_images(options.images, bundle.normalization) if options.images else None
    samples = bundle.samples() if given is None else given
    inputs = to_input_units(network, samples[: options.limit])
    expected = ReferenceSimulator(network).run(inputs)
    portable, relay = bundle.export("nir-portable"), bundle.export("nir-relay")
    stepped = np.broadcast_to(inputs, (network.steps, *inputs.shape))
    print(f"{options.bundle}, T = {network.steps}, {len(inputs)} images: spikes that differ")
    print("| reader | its own import | with our helper | relay, own import, its reset | s |")
    print("|---|---|---|---|---|")
    wrong = False
    for reader in options.reader or READERS:
        started = time.monotonic()
        relayed = relay_inputs(inputs, network.steps)
        plain, reset = run_plain(
            [
                Job(reader=reader, file=portable, stepped=stepped),
                Job(reader=reader, file=relay, stepped=relayed, reset=True),
            ],
            expected,
        )
        helped = run_helped(reader, portable, inputs, expected)
        seconds = time.monotonic() - started
        wrong |= helped.mismatches > 0
        title = READERS[reader].version
        print(f"| {title} | {plain} | {helped} | {reset} | {seconds:.0f} |", flush=True)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
