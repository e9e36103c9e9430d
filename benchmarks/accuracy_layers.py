"""First spikes and outputs of every layer, for the figures of the accuracy table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_recipes import recipe_of
from torch import Tensor

from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.manifest import json_bytes
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Node
from icsnn_deploy.progress import Progress
from icsnn_deploy.report.layers import OutputFit, first_spikes
from icsnn_deploy.sweeping.folder import key_of, write_file
from icsnn_deploy.sweeping.inputs import SweptModel
from icsnn_deploy.sweeping.recipes import describe_recipe
from icsnn_deploy.version import __version__

IMAGES = 50
POINTS = 400  # neurons that a figure shows of a layer


def layers_of(
    model: SweptModel, images: Array, name: str, t: int, folder: Path, progress: Progress
) -> dict[str, Any]:
    """What each layer of a row's network does on the first images; kept in a folder.

    Returns:
        by layer: first_spike (step or None), silent (share), r_squared (or None), and points,
        activations and outputs of some neurons, drawn at random.
    """
    recipe = recipe_of(name, t)
    told = {"model": model.digest(), "recipe": describe_recipe(recipe), "version": __version__}
    path = folder / f"t{t}-{key_of(told)}.json"
    if path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    conversion = model.convert(recipe, progress)
    few = images[:IMAGES]
    recording = TorchSimulator(conversion.network, device=model.device).run(
        few, Record(spikes=False, counts=True, first_spikes=True)
    )
    layers = compare_layers(conversion.network, conversion.ann, recording, few)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(path, json_bytes(layers))
    return layers


def compare_layers(
    network: Graph, ann: Graph, recording: Recording, images: Array
) -> dict[str, Any]:
    """Each population beside the rectifier it comes from (layers_of)."""
    populations = {node.name: node for node in network.nodes_of(IF)}
    spiking = {found.layer: found for found in first_spikes(recording)}
    rng = np.random.default_rng(0)
    layers: dict[str, Any] = {}

    def observe(node: Node, value: Tensor) -> None:
        if node.name not in spiking:
            return
        rate = recording.counts[node.name] / network.steps
        activation, output = value.numpy(), rate * populations[node.name].v_threshold
        fit = OutputFit()
        fit.add(activation, output)
        drawn = rng.integers(0, activation.size, POINTS)
        layers[node.name] = {
            "first_spike": spiking[node.name].mean,
            "silent": spiking[node.name].silent,
            "r_squared": fit.r_squared,
            "points": [
                [float(f"{number:.4g}") for number in values.reshape(-1)[drawn]]
                for values in (activation, output)
            ],
        }

    TorchANN(ann).run(images, observe)
    return layers
