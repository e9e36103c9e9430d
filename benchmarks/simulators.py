"""Speed of our simulators beside those that a user would pick, and beside T times the ANN.

    python benchmarks/simulators.py BUNDLE --images test.npz:images [--time-steps 8,32] \
        [--batch 32] [--pairs 5] [--threads 1] [--layouts unrolled,folded,scan] [--no-int8]

BUNDLE holds an integer network with one v_threshold a layer (`icsnn quantize --per-layer`), so
that every simulator can be asked for the same spikes first; one that differs is not timed. All run
in this process, each paired with our torch simulator: one run of ours, one of theirs, the ratio,
the median over the pairs. Run it in the environments that have the frameworks
(`.venv-readers/bin/python`, and for sinabs `.venv-sinabs/bin/python`; `icsnn readers setup` makes
both); what is not there is said and left out.

The frameworks get the network as their users write it: nn.Conv2d and their own neurons, the T steps
of a layer at once where they can ("multi-step"), else one step of the network after the other.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from simulators_frameworks import FRAMEWORKS
from step_loop import StepLoop

from icsnn_deploy import __version__
from icsnn_deploy.backends.c_program import CSimulator
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.data import load_array
from icsnn_deploy.exporters.onnx import write as onnx
from icsnn_deploy.exporters.onnx.contract import Layout, OnnxOptions
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_real_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.native.build import find_compiler


def main() -> None:
    given = _arguments()
    torch.set_num_threads(given.threads)
    bundle = open_bundle(given.bundle)
    network, ann = bundle.network(), bundle.ann()
    x = np.ascontiguousarray(load_array(given.images)[: given.batch].transpose(0, 3, 1, 2))
    print(
        f"{given.bundle.name}, batch {len(x)}, threads {given.threads}, medians of {given.pairs} "
        f"pairs, processor time; icsnn-deploy {__version__}, torch {torch.__version__}, "
        f"onnxruntime {onnxruntime.__version__}\n"
    )
    print("| T | simulator | ms an image | times ours | share of T x ANN |")
    print("|---:|---|---:|---:|---:|")
    for steps in given.time_steps:
        Comparison(replace(network, time_steps=steps), ann, x, given).print()


class Comparison:
    """The rows of one number of steps."""

    def __init__(self, network: Graph, ann: Graph, x: Array, given: argparse.Namespace) -> None:
        self.network, self.x, self.given = network, x, given
        self.ours = TorchSimulator(network, int8=not given.no_int8)
        self.expected = self.ours.run(x, Record(spikes=False, counts=True))
        analog = to_real_units(network, x)
        simple = TorchANN(ann)
        self.ann_s, self.ours_s, _ = self._paired(lambda: simple.run(analog))

    def print(self) -> None:
        """Each simulator that gives the same spikes, and what the others got wrong."""
        self._row("the ANN, T times", self.network.steps * self.ann_s, "")
        self._row("icsnn-deploy, torch", self.ours_s, "1")
        self._print_program()
        for name, simulator in self._frameworks():
            _, found = simulator.run(self.x, count=True)
            wrong = sum(int((found[n] != c).sum()) for n, c in self.expected.counts.items())
            if wrong:
                self._say(f"{name}: {wrong} neurons fire differently, not timed")
                continue
            seconds, _, ratio = self._paired(partial(simulator.run, self.x))
            self._row(name, seconds, f"{ratio:.2f}")
        for layout in self.given.layouts:
            session = self._session(layout)
            logits = session.run(["logits"], {"x": self.x})[0]
            if not np.array_equal(logits, self.expected.logits):
                self._say(f"ONNX Runtime, {layout}: other logits, not timed")
                continue
            seconds, _, ratio = self._paired(partial(session.run, ["logits"], {"x": self.x}))
            self._row(f"icsnn-deploy, ONNX Runtime, {layout}", seconds, f"{ratio:.2f}")

    def _print_program(self) -> None:
        """The network's C program, if it is an integer network and there is a compiler."""
        name = "icsnn-deploy, C program"
        if not self.network.is_integer or find_compiler() is None:
            self._say(f"{name}: needs an integer network and a C compiler")
            return
        program = CSimulator(self.network, threads=self.given.threads)
        found = program.run(self.x, Record(spikes=False, counts=True))
        wrong = sum(int((found.counts[n] != c).sum()) for n, c in self.expected.counts.items())
        if wrong:
            self._say(f"{name}: {wrong} neurons fire differently, not timed")
            return
        plain = Record(spikes=False)
        seconds, _, ratio = self._paired(partial(program.run, self.x, plain))
        self._row(name, seconds, f"{ratio:.2f}")

    def _frameworks(self) -> Iterator[tuple[str, StepLoop]]:
        for name, (package, build) in FRAMEWORKS.items():
            if importlib.util.find_spec(package) is None:
                self._say(f"{name}: {package} is not installed here")
            else:
                yield name, build(self.network)

    def _session(self, layout: Layout) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.given.threads
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            onnx.write(self.network, path, OnnxOptions(layout=layout))
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def _paired(self, theirs: Callable[[], object]) -> tuple[float, float, float]:
        """Median seconds of theirs, of ours, and the median of theirs / ours, once warm."""

        def ours() -> object:
            return self.ours.classify(self.x)

        ours(), theirs()
        found = [(_seconds(ours), _seconds(theirs)) for _ in range(self.given.pairs)]
        return (
            statistics.median(b for _, b in found),
            statistics.median(a for a, _ in found),
            statistics.median(b / a for a, b in found),
        )

    def _row(self, name: str, seconds: float, times: str) -> None:
        share = self.network.steps * self.ann_s / seconds
        each = 1000 * seconds / len(self.x)
        print(f"| {self.network.steps} | {name} | {each:.2f} | {times} | {share:.2f} |", flush=True)

    def _say(self, what: str) -> None:
        print(f"| {self.network.steps} | {what} | | | |", flush=True)


def _seconds(run: Callable[[], object]) -> float:
    """Processor time: what else runs on the machine counts less than on the clock."""
    started = time.process_time()
    run()
    return time.process_time() - started


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", required=True)
    parser.add_argument("--time-steps", type=_integers, default=[8, 32])
    parser.add_argument("--layouts", type=_names, default=["unrolled"])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-int8", action="store_true", help="ours in float32, too")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
