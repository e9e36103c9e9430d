"""A network of more than 2 GB through ONNX: written as two files, checked, read, run, compared.

    python benchmarks/onnx_large.py [--width 11776] [--folder DIR]

Needs 7 GB of memory and 2.3 GB of disk. Four layers of random 8-bit weights, T = 2; the spikes and
logits of ONNX Runtime must be those of the torch simulator.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.exporters.onnx.write import write
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Input, Linear, Node, Output

LAYERS = 4
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=11776)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    graph = network(options.width)
    x = np.random.default_rng(1).integers(0, 256, (2, options.width)).astype(np.uint8)
    expected = said("torch simulator", lambda: TorchSimulator(graph).run(x))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "network.onnx"
        said("write and check", lambda: write(graph, path))
        for file in sorted(Path(folder).iterdir()):
            print(f"  {file.name}: {file.stat().st_size:,} bytes")
        simulator = said("read and load", lambda: OnnxRuntimeSimulator(path, threads=1))
    # The files are gone: the runtime holds what was read and checked.
    found = said("run", lambda: simulator.run(x))
    same = [np.array_equal(found.spikes[name], s) for name, s in expected.spikes.items()]
    rates = [float(s.mean()) for s in expected.spikes.values()]
    print(f"equal spikes: {same}, firing rates {[round(rate, 3) for rate in rates]}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GB")
    if not all(same) or not np.array_equal(found.logits, expected.logits):
        sys.exit("not the same")


def network(width: int) -> Graph:
    """Linear layers of random integers, each with a population but the last."""
    rng = np.random.default_rng(0)
    nodes: list[Node] = [Input(name="input", shape=(width,), dtype="uint8")]
    for layer in range(LAYERS):
        weight = rng.integers(-8, 9, (width, width), np.int8)
        bias = np.zeros(width, np.int32)
        name = f"linear{layer}"
        nodes.append(Linear(name=name, inputs=(nodes[-1].name,), weight=weight, bias=bias))
        if layer < LAYERS - 1:
            spread = int(width**0.5 * (360 if layer == 0 else 2))  # about that of the currents
            threshold = np.full(1, spread, np.int32)
            v_init = np.full(1, 0.5, np.float32)
            nodes.append(
                IF(name=f"if{layer}", inputs=(name,), v_threshold=threshold, v_init=v_init)
            )
    nodes.append(Output(name="output", inputs=(nodes[-1].name,)))
    return Graph(nodes=tuple(nodes), time_steps=2)


def said(what: str, action: Callable[[], T]) -> T:
    started = time.perf_counter()
    result = action()
    print(f"{what}: {time.perf_counter() - started:.1f} s", flush=True)
    return result


if __name__ == "__main__":
    main()
