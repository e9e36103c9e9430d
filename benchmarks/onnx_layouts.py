"""Speed, load time and size of the ONNX layouts, beside a step loop in plain PyTorch.

    OMP_NUM_THREADS=1 python benchmarks/onnx_layouts.py BUNDLE [BUNDLE ...] \
        --images test.npz:images [--time-steps 8,32] [--batches 1,2,4,8] [--pairs 5] \
        [--load 8,32,64,256] [--openvino]

One thread everywhere, processor time. All contenders run in turn in one process; a ratio is the
median over the turns of the step loop's time by the contender's. Logits must be equal before
anything is timed. Of loading, the least of three. An empty --time-steps or --load leaves that table
out.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from step_loop import StepLoop

from icsnn_deploy import __version__
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.data import load_array
from icsnn_deploy.exporters.onnx.contract import TIMED_LAYOUTS, Layout
from icsnn_deploy.exporters.onnx.read import read
from icsnn_deploy.exporters.onnx.write import OnnxOptions, write
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs
from icsnn_deploy.graph.neuron import Array

Run = Callable[[Array], Array]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--images", required=True)
    parser.add_argument("--time-steps", default="8,32")
    parser.add_argument("--batches", default="1,2,4,8")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--load", default="8,32,64,256")
    parser.add_argument("--openvino", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = np.ascontiguousarray(load_array(options.images)[:64].transpose(0, 3, 1, 2))
    print(
        f"icsnn-deploy {__version__}, onnxruntime {onnxruntime.__version__}, torch "
        f"{torch.__version__}, Python {platform.python_version()}, {processor()}, 1 thread, "
        f"medians of {options.pairs} turns"
    )
    for path in options.bundles:
        network = open_bundle(path).network()
        with tempfile.TemporaryDirectory() as folder:
            if options.time_steps:
                speeds(path.name, network, images, Path(folder), options)
            if options.load:
                loads(path.name, network, Path(folder), options)


def numbers(text: str) -> list[int]:
    return [int(field) for field in text.split(",") if field]


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}"


def step_loop_run(graph: Graph, memory_format: torch.memory_format) -> Run:
    loop = StepLoop(graph, memory_format)
    return lambda x: loop.run(x)[0]


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
            "torch step loop": step_loop_run(graph, torch.contiguous_format),
            "the same, channels last": step_loop_run(graph, torch.channels_last),
        }
        for layout in TIMED_LAYOUTS:
            path = folder / f"{layout}.onnx"
            write(graph, path, OnnxOptions(layout=layout))
            runs[layout] = runtime_run(path)
            if options.openvino:
                runs[f"{layout}, OpenVINO"] = openvino_run(path)
        for batch in numbers(options.batches):
            print_speeds(runs, check_inputs(graph, images[:batch]), steps, options.pairs)


def print_speeds(runs: dict[str, Run], x: Array, steps: int, pairs: int) -> None:
    results = {name: run(x) for name, run in runs.items()}
    expected = results["torch step loop"]
    for name, result in results.items():
        if np.abs(result - expected).max() > 1e-5 * np.abs(expected).max():
            sys.exit(f"{name}: other logits than the step loop")
    seconds = np.array(
        [[processor_seconds(partial(run, x)) for run in runs.values()] for _ in range(pairs)]
    )
    for column, name in enumerate(runs):
        ratios = np.median(seconds[:, :2] / seconds[:, column : column + 1], axis=0)
        print(
            f"| {name} | {steps} | {len(x)} | {np.median(seconds[:, column]) / len(x) * 1e3:.1f} "
            f"| {ratios[0]:.2f} | {ratios[1]:.2f} |",
            flush=True,
        )


def processor_seconds(action: Callable[[], object]) -> float:
    """What else runs on the machine counts less here than on the clock."""
    started = time.process_time()
    action()
    return time.process_time() - started


def loads(name: str, network: Graph, folder: Path, options: argparse.Namespace) -> None:
    """One table a network: file size; processor seconds to write, check and create a session."""
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
            seconds.append(processor_seconds(action))
        columns.append(f"{min(seconds):.2f}")
    size = path.stat().st_size / 1e6
    print(f"| {layout} | {graph.steps} | {size:.2f} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
