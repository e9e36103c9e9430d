"""A small bundle and a data set that the tests of evaluation run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.evaluation.options import EvaluationOptions
from icsnn_deploy.evaluation.result import Evaluation
from icsnn_deploy.evaluation.run import evaluate
from icsnn_deploy.evaluation.samples import open_labels, open_samples
from icsnn_deploy.exporters import export_into
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Node, Relu
from tests.support.graphs import residual_network, samples

NETWORK = residual_network(time_steps=6)
"""Its sums are exact in any order: batches of any size give the same."""


def as_ann(network: Graph) -> Graph:
    """The network with a Relu in the place of each population."""
    nodes: list[Node] = [
        Relu(name=node.name, inputs=node.inputs) if isinstance(node, IF) else node
        for node in network.nodes
    ]
    return Graph(nodes=tuple(nodes))


def build(path: Path, network: Graph = NETWORK, *formats: str, ann: bool = True) -> Bundle:
    """A bundle of the network, with its ANN and exports."""
    bundle = create_bundle(
        path,
        network=network,
        ann=as_ann(network) if ann else None,
        samples=samples(network, 2),
        report={"recipe": "none"},
    )
    return export_into(bundle, *formats) if formats else bundle


def data(folder: Path, count: int, network: Graph = NETWORK) -> tuple[Array, Array]:
    """Samples and labels, also written as x.npy and y.npy."""
    x = samples(network, count, seed=7)
    y = np.random.default_rng(0).integers(0, network.shape(network.output.name)[0], count)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return x, y


def run(bundle: Bundle, folder: Path, *, labelled: bool = True, **options: Any) -> Evaluation:
    """Evaluate the bundle on x.npy and y.npy of a folder."""
    known = {name: options.pop(name) for name in ("limit", "out", "progress") if name in options}
    x = open_samples(str(folder / "x.npy"))
    y = open_labels(str(folder / "y.npy")) if labelled else None
    return evaluate(bundle, x, y, EvaluationOptions(**options), **known)
