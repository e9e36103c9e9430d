"""A small bundle, and what is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.data import Normalization
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Node, Relu
from tests.support.graphs import residual_network, samples

NETWORK = residual_network(time_steps=2)
OTHER = residual_network(seed=1, time_steps=3)
INPUTS = samples(NETWORK, 2)
PIXELS = Normalization(mean=(0.5, 0.25), std=(0.5, 0.75))
OWN_FILES = {"graph.safetensors", "ann.safetensors", "samples.safetensors", "report.json"}


def as_ann(network: Graph) -> Graph:
    nodes: list[Node] = [
        Relu(name=node.name, inputs=node.inputs) if isinstance(node, IF) else node
        for node in network.nodes
    ]
    return Graph(nodes=tuple(nodes))


def create(path: Path, network: Graph = NETWORK, *, overwrite: bool = False) -> Bundle:
    return create_bundle(
        path,
        network=network,
        ann=as_ann(network),
        samples=INPUTS,
        report={"recipe": "test", "seconds": 0.5},
        normalization=PIXELS,
        overwrite=overwrite,
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; a folder counts as a file of its own."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"folder"
        for path in sorted(folder.rglob("*"))
    }


def writes(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write
