"""Speed, load time and size of the ONNX layouts, beside a step loop in plain PyTorch.

    OMP_NUM_THREADS=1 python benchmarks/onnx_layouts.py \
        --network resnet20=resnet20.pt --network vgg16_half=vgg16.pt \
        --calibration calib.npz:images \
        [--time-steps 8,32] [--batches 1,16] [--pairs 5] [--load 8,32,64,256] [--openvino]

Networks of examples/cifar.py, 8-bit lattice, uint8 input, one thread everywhere. All contenders run
in turn in one process; a ratio is the median over the turns of time of the step loop by time of the
contender. Logits must be equal before anything is timed.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy import __version__
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.load_model import load_model
from icsnn_deploy.conversion.recipe import Recipe
from icsnn_deploy.data import Normalization, load_images
from icsnn_deploy.encoding import check_inputs, to_input_units
from icsnn_deploy.exporters.onnx import OnnxOptions, write
from icsnn_deploy.exporters.onnx_format import TIMED_LAYOUTS, Layout
from icsnn_deploy.exporters.onnx_read import read
from icsnn_deploy.graph import Graph
from icsnn_deploy.lattice.assign import even_widths, to_integers
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.neuron import Array
from icsnn_deploy.nodes import IF, Add, AvgPool, Conv, Flatten, Linear, Node, Output, Scale

PIXELS = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
EXAMPLES = Path(__file__).parent.parent / "examples" / "cifar.py"
Run = Callable[[Array], Array]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", action="append", required=True, help="NAME=WEIGHTS.pt")
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--time-steps", default="8,32")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--load", default="8,32,64,256")
    parser.add_argument("--openvino", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = load_images(options.calibration, PIXELS)
    print(
        f"icsnn-deploy {__version__}, onnxruntime {onnxruntime.__version__}, torch "
        f"{torch.__version__}, Python {platform.python_version()}, {processor()}, 1 thread, "
        f"medians of {options.pairs} turns"
    )
    for spec in options.network:
        name, weights = spec.split("=", 1)
        network = lattice_network(name, Path(weights), images[:64])
        with tempfile.TemporaryDirectory() as folder:
            speeds(name, network, images, Path(folder), options)
            loads(name, network, Path(folder), options)


def numbers(text: str) -> list[int]:
    return [int(field) for field in text.split(",") if field]


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}"


def lattice_network(name: str, weights: Path, samples: Array) -> Graph:
    """The network on the integer lattice; its accuracy does not matter here."""
    model = load_model(f"{EXAMPLES}:{name}", weights)
    found = convert(model, samples, Recipe(time_steps=8), normalization=PIXELS).graph
    prepared = prepare(found, samples[:4], per_layer=False, input_bits=8)
    return to_integers(prepared, {}, even_widths(prepared, 8), per_layer=False).graph


class StepLoop:
    """The network in plain PyTorch, one time step after the other; the steady part runs once."""

    def __init__(self, graph: Graph, memory_format: torch.memory_format) -> None:
        self.graph, self.memory_format = graph, memory_format
        self.steady = graph.steady()
        self.parameters = {
            (node.name, field): self._tensor(value)
            for node in graph.nodes
            for field, value in node.arrays().items()
        }

    def _tensor(self, array: Array) -> Tensor:
        found = torch.from_numpy(array.astype(np.float32))
        return found.contiguous(memory_format=self.memory_format) if found.ndim == 4 else found

    @torch.inference_mode()
    def __call__(self, inputs: Array) -> Array:
        graph = self.graph
        once = {graph.input.name: self._tensor(inputs)}
        for node in graph.nodes[1:]:
            if node.name in self.steady:
                once[node.name] = self._layer(node, [once[name] for name in node.inputs])
        v: dict[str, Tensor] = {}
        total = torch.zeros(())
        for _ in range(graph.steps):
            values = dict(once)
            for node in graph.nodes[1:]:
                if node.name not in self.steady:
                    sources = [values[name] for name in node.inputs]
                    layer = self._spikes if isinstance(node, IF) else self._layer
                    values[node.name] = layer(node, sources, v)
            total = total + values[graph.output.name]
        return np.asarray(total / graph.steps)

    def _spikes(self, node: Node, sources: list[Tensor], v: dict[str, Tensor]) -> Tensor:
        threshold = self.parameters[node.name, "v_threshold"]
        if node.name in v:
            u = v[node.name].add_(sources[0])
        else:
            u = sources[0] + self.parameters[node.name, "v_init"]
        spikes = (u >= threshold).float()
        v[node.name] = u.sub_(spikes * threshold)
        return spikes

    def _layer(self, node: Node, x: list[Tensor], _: Any = None) -> Tensor:
        match node:
            case Conv():
                assert all(before == after for before, after in node.padding)
                weight, bias = (self.parameters[node.name, field] for field in ("weight", "bias"))
                padding = [pair[0] for pair in node.padding]
                shape = (node.stride, padding, node.dilation, node.groups)
                return functional.conv2d(x[0], weight, bias, *shape)
            case Linear():
                weight, bias = (self.parameters[node.name, field] for field in ("weight", "bias"))
                return functional.linear(x[0], weight, bias)
            case Scale():
                return (
                    x[0] * self.parameters[node.name, "scale"] + self.parameters[node.name, "shift"]
                )
            case AvgPool():
                return functional.avg_pool2d(x[0], node.kernel, node.stride)
            case Add():
                return sum(x[1:], start=x[0])
            case Flatten():
                return x[0].flatten(1)
            case Output():
                return x[0]
        raise NotImplementedError(node.kind)


def runtime_session(path: Path) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def runtime_run(path: Path) -> Run:
    session = runtime_session(path)
    return lambda x: session.run(["logits"], {"x": x})[0]


def openvino_run(path: Path) -> Run:
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    model = openvino.Core().compile_model(path, "CPU", settings)
    return lambda x: model({"x": x})["logits"]


def speeds(
    name: str, network: Graph, images: Array, folder: Path, options: argparse.Namespace
) -> None:
    """One table a network: every contender's time and ratio, by T and batch."""
    print(f"\n## {name}: speed over the step loop\n")
    print("| contender | T | batch | ms an image | over the step loop | over it in channels last |")
    print("|---|---|---|---|---|---|")
    for steps in numbers(options.time_steps):
        graph = replace(network, time_steps=steps, readout_start=0)
        runs: dict[str, Run] = {
            "torch step loop": StepLoop(graph, torch.contiguous_format),
            "the same, channels last": StepLoop(graph, torch.channels_last),
        }
        for layout in TIMED_LAYOUTS:
            path = folder / f"{layout}.onnx"
            write(graph, path, OnnxOptions(layout=layout))
            runs[layout] = runtime_run(path)
            if options.openvino:
                runs[f"{layout}, OpenVINO"] = openvino_run(path)
        for batch in numbers(options.batches):
            x = to_input_units(graph, images[:batch])
            print_speeds(runs, check_inputs(graph, x), steps, options.pairs)


def print_speeds(runs: dict[str, Run], x: Array, steps: int, pairs: int) -> None:
    results = {name: run(x) for name, run in runs.items()}
    expected = results["torch step loop"]
    for name, result in results.items():
        if np.abs(result - expected).max() > 1e-5 * np.abs(expected).max():
            sys.exit(f"{name}: other logits than the step loop")
    seconds = np.array([[timed(run, x) for run in runs.values()] for _ in range(pairs)])
    for column, name in enumerate(runs):
        ratios = np.median(seconds[:, :2] / seconds[:, column : column + 1], axis=0)
        print(
            f"| {name} | {steps} | {len(x)} | {np.median(seconds[:, column]) / len(x) * 1e3:.1f} "
            f"| {ratios[0]:.2f} | {ratios[1]:.2f} |",
            flush=True,
        )


def timed(run: Run, x: Array) -> float:
    started = time.perf_counter()
    run(x)
    return time.perf_counter() - started


def loads(name: str, network: Graph, folder: Path, options: argparse.Namespace) -> None:
    """One table a network: seconds to write, to check, and to create a session; file size."""
    print(f"\n## {name}: writing and loading\n")
    print("| layout | T | MB | write, s | check, s | session, s |")
    print("|---|---|---|---|---|---|")
    for steps in numbers(options.load):
        graph = replace(network, time_steps=steps, readout_start=0)
        for layout in TIMED_LAYOUTS:
            print_load(graph, layout, folder / f"{layout}.onnx")


def print_load(graph: Graph, layout: Layout, path: Path) -> None:
    actions: list[Callable[[], object]] = [
        lambda: write(graph, path, OnnxOptions(layout=layout)),
        lambda: read(path),
        lambda: runtime_session(path),
    ]
    columns = []
    for action in actions:
        seconds: list[float] = []
        while len(seconds) < 3 and sum(seconds) < 5:  # the slowest are measured once
            started = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - started)
        columns.append(f"{np.median(seconds):.2f}")
    size = path.stat().st_size / 1e6
    print(f"| {layout} | {graph.steps} | {size:.2f} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
