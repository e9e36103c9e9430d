"""The torch simulator with its C functions beside the same without: what they save.

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 OMP_NUM_THREADS=1 \
        python benchmarks/native_kernels.py BUNDLE --images test.npz:images \
        [--batch 16] [--pairs 25] [--threads 1]

BUNDLE holds a float network or an integer one. Both run in this process in turn, with processor
time: the median of the ratios of each pair, and the shortest time of either. Spikes, potentials and
logits are compared first and have to be equal bit for bit. Where the time goes is listed after it:
the kernels of convolutions, the populations, and the rest.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch import event_convolution, population, spike_kernel
from icsnn_deploy.backends.torch.ops import TorchOps
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.data import load_array
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Conv, Node, Population

VARIANTS: dict[str, tuple[ModuleType, ...]] = {
    "PyTorch": (),
    "populations in C": (population,),
    "8-bit convolutions in C, too": (population, spike_kernel),
    "convolutions by events, too": (population, spike_kernel, event_convolution),
}
"""By name: the modules whose C functions may be used."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    network = open_bundle(given.bundle).network()
    x = np.ascontiguousarray(load_array(given.images)[: given.batch].transpose(0, 3, 1, 2))
    compare(given.bundle.name, network, x, given.pairs)


def compare(name: str, network: Graph, x: Array, pairs: int) -> None:
    """Print a table of all variants."""
    variants = {key: Variant(network, allowed) for key, allowed in VARIANTS.items()}
    plain = variants["PyTorch"]
    for key, variant in variants.items():
        if not variant.gives_what(plain, x):
            raise SystemExit(f"{key}: other spikes, potentials or logits than PyTorch")
        variant.seconds(x)
    times: dict[str, list[float]] = {key: [] for key in variants}
    for _ in range(pairs):
        for key, variant in variants.items():
            times[key].append(variant.seconds(x))
    print(
        f"{name}, T = {network.steps}, batch {len(x)}, {torch.get_num_threads()} threads, {pairs} "
        f"pairs, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}\n"
    )
    print("| | ms per image | speed | convolutions | populations | rest |")
    print("|---|---:|---:|---:|---:|---:|")
    for key, variant in variants.items():
        ratio = statistics.median(a / b for a, b in zip(times["PyTorch"], times[key], strict=True))
        parts = variant.parts(x)
        cells = [f"{1000 * s / len(x):.2f}" for s in (min(times[key]), *parts)]
        print(f"| {key} | {cells[0]} | {ratio:.2f} | " + " | ".join(cells[1:]) + " |", flush=True)


class Variant:
    """A simulator that may use some of the C functions."""

    def __init__(self, network: Graph, modules: tuple[ModuleType, ...]) -> None:
        self._modules = modules
        with self._allowed():
            self._simulator = TorchSimulator(network)

    def gives_what(self, other: Variant, x: Array) -> bool:
        """Whether everything that a run records is the same."""
        names = frozenset(node.name for node in self._simulator.graph.nodes_of(Population))
        runs = []
        for variant in (self, other):
            with variant._allowed():
                runs.append(variant._simulator.run(x, Record(potentials=names)))
        one, two = runs
        return np.array_equal(one.logits, two.logits) and all(
            np.array_equal(a[name], b[name])
            for a, b in ((one.spikes, two.spikes), (one.potentials, two.potentials))
            for name in names
        )

    def seconds(self, x: Array) -> float:
        """Processor time of a classification."""
        with self._allowed():
            return _seconds(lambda: self._simulator.classify(x))

    def parts(self, x: Array, runs: int = 7) -> tuple[float, float, float]:
        """Shortest times of convolutions, of populations with their sums, and of the rest."""
        found = []
        for _ in range(runs):
            spent: dict[str, float] = defaultdict(float)
            with self._allowed(), _timed(spent):
                whole = self.seconds(x)
            rest = whole - sum(spent.values())
            found.append((spent["convolutions"], spent["populations"], rest))
        return min(found, key=sum)

    @contextmanager
    def _allowed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for module in (population, spike_kernel, event_convolution):
                if module not in self._modules:
                    stack.enter_context(mock.patch.object(module, "native_library", _none))
            yield


def _none() -> None:
    """Instead of a library."""


@contextmanager
def _timed(spent: dict[str, float]) -> Iterator[None]:
    """Add the time of convolutions, and of all between them and the spikes, to `spent`."""
    evaluate, fire = TorchOps.evaluate, TorchSimulator._fire

    def timed_evaluate(self: TorchOps, node: Node, *sources: Any) -> Any:
        part = "convolutions" if isinstance(node, Conv) else "populations"
        started = time.process_time()
        result = evaluate(self, node, *sources)
        spent[part] += time.process_time() - started
        return result

    def timed_fire(self: TorchSimulator, *values: Any, **options: Any) -> Any:
        before = spent["populations"]
        started = time.process_time()
        result = fire(self, *values, **options)
        spent["populations"] = before  # of sums inside: counted here as a whole
        spent["populations"] += time.process_time() - started
        return result

    with (
        mock.patch.object(TorchOps, "evaluate", timed_evaluate),
        mock.patch.object(TorchSimulator, "_fire", timed_fire),
    ):
        yield


def _seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


if __name__ == "__main__":
    main()
