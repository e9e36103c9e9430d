"""How the cost of every operation on a network grows with its number of nodes.

    python benchmarks/growth_nodes.py [--sizes 50,500,5000] [--shapes chain,dense]
        [--operations compose,check] [--time-steps 4] [--limit 60]

Processor seconds of one run at each size, and the exponent between the two largest: 1 is linear, 2
quadratic. An operation that takes longer than --limit is not measured at larger sizes, and the name
of the error stands where one refuses a network.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from growth_shapes import SHAPES, network
from rich.console import Console
from torch import nn

from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.errors import IcsnnError
from icsnn_deploy.exporters.formats import FORMATS
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.file import graph_bytes, read_graph
from icsnn_deploy.graph.graph import Graph, describe_node
from icsnn_deploy.graph.nodes import IF, Add, ChannelAffine, Input, Linear, Node, Relu
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.passes.compose import compose
from icsnn_deploy.passes.fold_scales import fold_scales
from icsnn_deploy.passes.merge_pointwise import merge_pointwise
from icsnn_deploy.report.tables import certificate_table, graph_table
from icsnn_deploy.targets import TARGETS, find_target
from icsnn_deploy.targets.check import check
from icsnn_deploy.targets.resources import count_resources

Operation = Callable[[Graph, Path], object]


def operations() -> dict[str, Operation]:
    """Every operation that is measured, by name; each takes an integer network and a folder."""
    found: dict[str, Operation] = {
        "create": lambda graph, _: graph.with_nodes(graph.nodes),
        "hash": lambda graph, _: graph.hash(),
        "save": lambda graph, folder: (folder / "graph").write_bytes(graph_bytes(graph)),
        "load": _load,
        "certificate": lambda graph, _: certify(graph),
        "inspect": lambda graph, _: _inspect(graph),
        "resources": lambda graph, _: count_resources(graph),
        "fold": lambda graph, _: fold_scales(merge_pointwise(as_float(graph))),
        "compose": lambda graph, _: compose(as_float(graph)),
        "convert": lambda graph, _: _convert(graph),
        "quantize": lambda graph, _: _quantize(graph),
    }
    for name in TARGETS:
        found[f"check {name}"] = lambda graph, _, name=name: check(graph, find_target(name))  # type: ignore[misc]
    for name in FORMATS:
        found[f"export {name}"] = lambda graph, folder, name=name: _export(graph, folder, name)  # type: ignore[misc]
    return found


def as_float(graph: Graph) -> Graph:
    """The network with real numbers, as conversion makes it."""

    def real(node: Node) -> Node:
        match node:
            case Input():
                return replace(node, dtype="float32")
            case Linear():
                return replace(node, weight=node.weight / 8, bias=node.bias / 8)
            case ChannelAffine():
                return replace(node, scale=node.scale / 8, shift=node.shift / 8)
            case IF():
                return replace(node, v_threshold=node.v_threshold / 8, v_init=node.v_init / 8)
        return node

    return graph.map(real)


def _load(graph: Graph, folder: Path) -> Graph:
    file = folder / "graph"
    if not file.exists():
        file.write_bytes(graph_bytes(graph))
    return read_graph(file)


def _inspect(graph: Graph) -> str:
    """The tables that icsnn inspect shows."""
    console = Console(file=io.StringIO(), width=120)
    for table in (graph_table(graph), certificate_table(certify(graph))):
        console.print(table)
    return json.dumps([describe_node(node) for node in graph.nodes])


def _export(graph: Graph, folder: Path, name: str) -> None:
    form = FORMATS[name]
    options = form.options_type()
    form.write(graph, folder / form.file, None if options is None else options())


def _samples() -> np.ndarray:
    return np.random.default_rng(0).random((8, 3), dtype=np.float32)


def _quantize(graph: Graph) -> None:
    quantize(as_float(graph), _samples(), options=LatticeOptions())


def _convert(graph: Graph) -> None:
    convert(_module(graph), _samples(), Recipe(name="ic-snn"), progress=None)


def _module(graph: Graph) -> nn.Module:
    """The network as a trained model, with a ReLU in the place of each population."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleDict()
            for node in as_float(graph).nodes_of(Linear):
                layer = nn.Linear(node.weight.shape[1], len(node.weight))
                layer.weight.data = torch.from_numpy(node.weight / 2)
                layer.bias.data = torch.from_numpy(node.bias / 2)
                self.layers[node.name] = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            values: dict[str, torch.Tensor] = {}
            for node in graph.nodes:
                sources = [values[name] for name in node.inputs]
                if isinstance(node, Input):
                    values[node.name] = x
                elif isinstance(node, Linear):
                    values[node.name] = self.layers[node.name](sources[0])
                elif isinstance(node, (IF, Relu)):
                    values[node.name] = sources[0].relu()
                elif isinstance(node, Add):
                    total = sources[0]
                    for other in sources[1:]:
                        total = total + other
                    values[node.name] = total * 0.5
                else:
                    values[node.name] = sources[0]
            return values[graph.output.name]

    return Model().eval()


def measure(operation: Operation, graph: Graph) -> tuple[float, str]:
    """Processor seconds of one run, and the name of the error of a network that is refused."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        refused = ""
        try:
            operation(graph, Path(folder))
        except IcsnnError as error:
            refused = type(error).__name__
        return time.process_time() - started, refused


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Of the growth between the last two sizes."""
    if len(seconds) < 2 or min(seconds[-2:]) <= 0:
        return math.nan
    return math.log(seconds[-1] / seconds[-2]) / math.log(sizes[-1] / sizes[-2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="50,500,5000")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--operations", default=",".join(operations()))
    parser.add_argument("--time-steps", type=int, default=4)
    parser.add_argument("--limit", type=float, default=60.0)
    given = parser.parse_args()
    sizes = [int(part) for part in given.sizes.split(",")]
    print(
        "| operation | shape | " + " | ".join(f"{size:,} nodes" for size in sizes) + " | exponent |"
    )
    print("|---|---|" + "---:|" * (len(sizes) + 1))
    chosen = operations()
    for shape in given.shapes.split(","):
        for name in given.operations.split(","):
            cells: list[str] = []
            nodes: list[int] = []
            seconds: list[float] = []
            for size in sizes:
                if seconds and seconds[-1] > given.limit:
                    cells.append("-")
                    continue
                graph = network(shape, size, time_steps=given.time_steps)
                took, refused = measure(chosen[name], graph)
                nodes.append(len(graph.nodes))
                seconds.append(took)
                cells.append(f"{took:.3f}" + (f" {refused}" if refused else ""))
            row = " | ".join(cells)
            print(f"| {name} | {shape} | {row} | {exponent(nodes, seconds):.2f} |", flush=True)


if __name__ == "__main__":
    main()
