"""What early exit saves: loss, mean T, operations and milliseconds at several confidences.

    python benchmarks/early_exit.py build/resnet20 [build/vgg16 ...] --images test.npz:images \
        --labels test.npz:labels [--limit 1000] [--confidence 0.5,0.7,0.8,0.9,0.95,0.99,1.1] \
        [--at-most 1] [--timed 50]

Prints a row for each confidence: the loss against the ANN of the bundle with its standard error,
the mean number of steps, accumulations and multiply-accumulates per image up to the step at which
it stops (the analog first layer counted once), and milliseconds per image at batch size 1, measured
on the first --timed images. A confidence above 1 never stops: it is the full run. Below the table
is the operating point: the least operations that lose at most --at-most points.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.early_exit import (
    confidence_unit,
    run_until_sure,
    stop_where_sure,
)
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.data import load_images, load_labels
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.targets.connectivity import fan_out

_BATCH = 25


@dataclass(frozen=True, kw_only=True)
class FullRun:
    """A run of all steps, and what it cost up to each of them."""

    logits_t: Array  # [T, B, classes]
    accumulations: Array  # up to each step, [T, B]
    multiply_accumulates: float  # of the analog input, once


@dataclass(frozen=True, kw_only=True)
class Point:
    """One confidence."""

    confidence: float
    loss: float  # points
    standard_error: float
    steps: float
    operations: float  # per image
    milliseconds: float  # per image


def main() -> None:
    options = parse()
    for path in options.bundles:
        bundle = open_bundle(path)
        network = bundle.network()
        images = load_images(options.images, bundle.normalization)[: options.limit]
        labels = load_labels(options.labels, len(images))[: len(images)]
        right = TorchANN(bundle.ann()).run(images).argmax(axis=1) == labels
        full = full_run(network, images)
        points = [
            measure(network, full, images, labels, right, confidence, options.timed)
            for confidence in options.confidence
        ]
        show(path, network, points, len(images), float(right.mean()), options.at_most)


def full_run(network: Graph, images: Array) -> FullRun:
    """Run all steps, and count the accumulations of every spike at every step."""
    simulator = TorchSimulator(network)
    outgoing = fan_out(network)
    logits, costs = [], []
    for start in range(0, len(images), _BATCH):
        found = simulator.run(images[start : start + _BATCH], Record(spikes=True, logits_t=True))
        assert found.logits_t is not None
        logits.append(found.logits_t)
        cost = np.zeros(found.logits_t.shape[:2])
        for node in network.nodes_of(Population):
            spikes = found.spikes[node.name].reshape(*cost.shape, -1)
            synapses = np.broadcast_to(outgoing[node.name], network.shape(node.name))
            cost += spikes.astype(np.float32) @ synapses.ravel().astype(np.float32)
        costs.append(cost.cumsum(axis=0))
    return FullRun(
        logits_t=np.concatenate(logits, axis=1),
        accumulations=np.concatenate(costs, axis=1),
        multiply_accumulates=float(outgoing[network.input.name].sum()),
    )


def measure(
    network: Graph,
    full: FullRun,
    images: Array,
    labels: Array,
    right: Array,
    confidence: float,
    timed: int,
) -> Point:
    """The figures at one confidence."""
    unit = confidence_unit(network)
    found = stop_where_sure(full.logits_t, network.readout_start, confidence, unit=unit)
    lost = right.astype(np.float64) - (found.logits.argmax(axis=1) == labels)
    last = found.steps - 1, np.arange(len(found.steps))
    simulator = TorchSimulator(network)
    begun = time.perf_counter()
    for image in images[:timed]:
        run_until_sure(simulator, image[None], confidence, unit=unit)
    seconds = time.perf_counter() - begun
    return Point(
        confidence=confidence,
        loss=100 * float(lost.mean()),
        standard_error=100 * float(lost.std()) / len(lost) ** 0.5,
        steps=found.mean_steps,
        operations=float(full.accumulations[last].mean()) + full.multiply_accumulates,
        milliseconds=1e3 * seconds / max(1, min(timed, len(images))),
    )


def show(
    path: Path, network: Graph, points: list[Point], count: int, ann: float, at_most: float
) -> None:
    """A table in Markdown, and the operating point."""
    print(f"\n{path.name}, T = {network.steps}, {count:,} images, ANN {100 * ann:.2f} %\n")
    print("| confidence | loss, points | mean T | million operations | ms |")
    print("|---:|---:|---:|---:|---:|")
    for point in points:
        name = "none" if point.confidence > 1 else f"{point.confidence:g}"
        print(
            f"| {name} | {point.loss:.1f} ± {point.standard_error:.1f} | {point.steps:.2f} | "
            f"{point.operations / 1e6:.1f} | {point.milliseconds:.1f} |"
        )
    fitting = [point for point in points if point.loss <= at_most]
    if not fitting:
        print(f"\nno confidence loses at most {at_most:g} points")
        return
    best = min(fitting, key=lambda point: point.operations)
    print(
        f"\nat most {at_most:g} points: confidence {best.confidence:g}, mean T {best.steps:.2f}, "
        f"{best.operations / 1e6:.1f} million operations, {best.milliseconds:.1f} ms"
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--images", required=True)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--limit", type=int, default=1000)
    default = [0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.1]
    parser.add_argument("--confidence", type=_floats, default=default)
    parser.add_argument("--at-most", type=float, default=1.0, help="points lost")
    parser.add_argument("--timed", type=int, default=50, help="images that are timed")
    return parser.parse_args()


def _floats(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
