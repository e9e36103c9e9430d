"""Small bundles and models that hostile inputs are given to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.bundle.manifest import MANIFEST
from icsnn_deploy.exporters import export_into
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.nodes import IF, Input, Relu
from tests.support.graphs import residual_network, samples
from tests.support.integer_graphs import on_lattice

UNSUPPORTED = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.fc = nn.Linear(48, 4)
    def forward(self, x):
        return torch.cumsum(self.fc(self.norm(self.conv(x)).relu().flatten(1)), 1)
def model():
    torch.manual_seed(0)
    return Net().eval()
"""
"""Loads weights like any other, and is refused at once after that."""

CONVERTS = (
    UNSUPPORTED.replace("torch.cumsum(", "(")
    .replace(", 1)\ndef", ")\ndef")
    .replace("flatten(1)), 1)", "flatten(1)))")
)


def float_bundle(path: Path) -> None:
    network = residual_network(seed=0, time_steps=2)
    nodes = [Relu(name=n.name, inputs=n.inputs) if isinstance(n, IF) else n for n in network.nodes]
    ann = Graph(nodes=tuple(nodes))
    given = samples(network, 4)
    create_bundle(path, network=network, ann=ann, samples=given, report={"recipe": "x"})


def integer_bundle(path: Path, *formats: str) -> None:
    network = residual_network(seed=0, time_steps=2)
    integer = on_lattice(network)
    units = to_input_units(integer, samples(network, 2))
    made = create_bundle(path, network=integer, ann=None, samples=units, report={})
    if formats:
        export_into(made, *formats)


def event_bundle(path: Path) -> None:
    network = residual_network(seed=0, time_steps=2)
    nodes = [replace(n, encoding="events") if isinstance(n, Input) else n for n in network.nodes]
    create_bundle(
        path,
        network=Graph(nodes=tuple(nodes), time_steps=2),
        ann=None,
        samples=None,
        report={},
        event_bins="duration",
    )


def images(count: int = 4) -> Any:
    return np.random.default_rng(0).random((count, 2, 6, 6), dtype=np.float32)


def fit_manifest(bundle: Path) -> None:
    """Make the sizes and hashes in a manifest fit the files."""
    path = bundle / MANIFEST
    manifest = json.loads(path.read_text())
    for name, entry in manifest["files"].items():
        data = (bundle / name).read_bytes()
        entry.update(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    path.write_text(json.dumps(manifest))
