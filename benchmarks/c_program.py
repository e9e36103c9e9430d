"""Speed of an exported C program beside the torch simulator and the ANN, and over the firing rate.

    python benchmarks/c_program.py BUNDLE --images test.npz:images [--runs 10] [--rates]

BUNDLE holds an integer network with its ANN and a c export. All run in this process on one thread,
one after the other in every round, so that a load on the machine meets all of them; processor time,
the least and the median. With --rates thresholds are scaled until 2, 5, 10, 20 and 40 % of the
neurons spike, and the program is exported again for each.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from icsnn_deploy.backends.c_program import CSimulator
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.data import load_array
from icsnn_deploy.exporters import export
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_real_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF

BATCH = 16
_OTHERS = ("torch", "ANN float32")
RATES = (0.02, 0.05, 0.1, 0.2, 0.4)


def main() -> None:
    given = _arguments()
    torch.set_num_threads(1)
    bundle = open_bundle(given.bundle)
    network = bundle.network()
    x = np.ascontiguousarray(load_array(given.images)[:BATCH].transpose(0, 3, 1, 2))
    program = CSimulator(network, bundle.export("c"), threads=1)
    simulator, ann = TorchSimulator(network), TorchANN(bundle.ann())
    plain = Record(spikes=False)
    real = to_real_units(network, x)
    runs: dict[str, Callable[[int], object]] = {
        "c, batch 1": lambda k: program.run(x[k : k + 1], plain),
        "torch, batch 1": lambda k: simulator.classify(x[k : k + 1]),
        "ANN float32, batch 1": lambda k: ann.run(real[k : k + 1]),
        "c, batch 16": lambda k: program.run(x, plain),
        "torch, batch 16": lambda k: simulator.classify(x),
        "ANN float32, batch 16": lambda k: ann.run(real),
    }
    print(f"{given.bundle.name}, T = {network.steps}, {_rate(program, network, x):.1%} firing\n")
    print("| run | ms an image, least | median |\n|---|---:|---:|")
    found = _interleaved(runs, given.runs)
    for name, times in found.items():
        images = BATCH if name.endswith("16") else 1
        least, middle = min(times) / images, statistics.median(times) / images
        print(f"| {name} | {least:.2f} | {middle:.2f} |")
    for batch in ("batch 1", "batch 16"):
        ratios = [min(found[f"{k}, {batch}"]) / min(found[f"c, {batch}"]) for k in _OTHERS]
        named = ", ".join(f"{r:.2f} of {k}" for r, k in zip(ratios, _OTHERS, strict=True))
        print(f"{batch}: c is faster by a factor of {named}")
    if given.rates:
        _over_rates(network, x, given.runs)


def _interleaved(runs: dict[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every run, round by round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(0)
    for number in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            run(number % BATCH)
            times[name].append((time.process_time() - start) * 1e3)
    return times


def _over_rates(network: Graph, x: Array, rounds: int) -> None:
    """Print the time at several firing rates."""
    print("\n| firing | ms an image, c |\n|---:|---:|")
    for rate in RATES:
        with tempfile.TemporaryDirectory() as folder:
            program, found = _at_rate(network, x, rate, Path(folder))
            run = partial(_run_one, program, x)
            times = _interleaved({"c": run}, rounds)["c"]
        print(f"| {found:.1%} | {min(times):.2f} |")


def _run_one(program: CSimulator, x: Array, number: int) -> None:
    program.run(x[number : number + 1], Record(spikes=False))


def _at_rate(network: Graph, x: Array, rate: float, folder: Path) -> tuple[CSimulator, float]:
    """The program of the network with all thresholds scaled by one factor, and its rate."""
    low, high = 2.0**-6, 2.0**6
    for _ in range(10):
        factor = (low * high) ** 0.5
        simulator = TorchSimulator(_scaled(network, factor))
        counts = simulator.run(x[:4], Record(spikes=False, counts=True)).counts
        found = float(sum(c.sum() for c in counts.values()) / sum(c.size for c in counts.values()))
        low, high = (factor, high) if found / network.steps > rate else (low, factor)
    scaled = _scaled(network, factor)
    export(scaled, folder / "c", "c")
    program = CSimulator(scaled, folder / "c", threads=1)
    return program, _rate(program, scaled, x)


def _scaled(network: Graph, factor: float) -> Graph:
    def scaled(node: IF) -> IF:
        threshold = np.maximum(1, np.rint(node.v_threshold * factor)).astype(np.int32)
        return replace(node, v_threshold=threshold)

    return network.replace(*(scaled(node) for node in network.nodes_of(IF)))


def _rate(program: CSimulator, network: Graph, x: Array) -> float:
    """Mean spikes of a neuron and step."""
    counts = program.run(x, Record(spikes=False, counts=True)).counts.values()
    return float(sum(c.sum() for c in counts) / sum(c.size for c in counts) / network.steps)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", required=True, help="FILE.npz:NAME, uint8 [N, H, W, C]")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--rates", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
