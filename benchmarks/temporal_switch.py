"""Temporal switch coding (TSC; Han & Roy, ECCV 2020), simulated: accuracy and spikes over T.

    python benchmarks/temporal_switch.py --model examples/cifar_models.py:resnet20 \
        --weights resnet20.pt --calibration calib.npz:images --images test.npz:images \
        --labels test.npz:labels --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 \
        [--time-steps 8,16,32,64,128,256] [--limit 1000] [--calibration-samples 256] [--start 0]

It can't be exported: its neuron needs a second state, the sum of the inputs that are switched on,
and sends spikes of two signs, while a plain integrate-and-fire neuron has one potential and one
kind of spike.

Each value is coded by two spikes: the first switches the synapse on, the second, of opposite sign,
switches it off, and the time between them is the value. In between, the receiving neuron adds the
weight to its potential at every step without further events. After the T steps of a layer its
neurons hold T (w a + b); their own on-time is that potential divided by the threshold, at most T:

    on_time = clip(floor(T (w a + b) / v_threshold + start), 0, T)
    a'      = v_threshold * on_time / T

This is our reading of the paper, whose code is not public: every layer waits for the one before, so
that a result takes T steps for each layer (the T of the tables is that of one layer, as for other
codes), thresholds are the 0.999 quantile of the activations and start (v_init / v_threshold) is 0.
Each neuron that is active at all sends two spikes, whatever T is: that is what the method is for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.conversion.ann_graph import to_ann_graph
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.statistics import Statistics, collect_statistics
from icsnn_deploy.conversion.calibration.threshold_rules import QuantileThreshold, StatisticsRule
from icsnn_deploy.conversion.frontend.load_model import load_model
from icsnn_deploy.data import Normalization, load_images, load_labels
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Node, Relu
from icsnn_deploy.graph.readout import top1

_QUANTILE = 0.999
_BATCH = 50


class SwitchedNetwork:
    """A network whose rectifiers give whole multiples of v_threshold / T, at most T of them.

    Args:
        ann: the traced network.
        statistics: of the activations.
        rule: for the thresholds.
        time_steps: T of a layer.
        start: v_init / v_threshold.

    Attributes:
        spikes: sent so far, two for each on-time.
    """

    def __init__(
        self,
        ann: Graph,
        statistics: Statistics,
        rule: StatisticsRule,
        time_steps: int,
        start: float = 0.0,
    ) -> None:
        self.graph = ann
        self.ops = TorchANN(ann).ops
        self.units = {}
        for name, layer in statistics.layers.items():
            threshold = rule.threshold(name, layer, time_steps)  # [1] or [C]
            column = threshold.reshape(-1, *(1,) * (len(ann.shape(name)) - 1))
            self.units[name] = self.ops.tensor(column / time_steps)
        self.time_steps = time_steps
        self.start = start
        self.spikes = 0

    @torch.no_grad()
    def run(self, images: Array) -> Array:
        """Logits [B, classes]."""
        values = {self.graph.input.name: self.ops.tensor(images)}
        for node in self.graph.nodes[1:]:
            found = self.ops.evaluate(node, *(values[name] for name in node.inputs))
            values[node.name] = self.switched(node.name, found) if _fires(node) else found
        logits: Array = values[self.graph.output.name].numpy()
        return logits

    def switched(self, name: str, potential: Tensor) -> Tensor:
        """What the on-time of each neuron stands for, [B, *shape]."""
        unit = self.units[name]
        on_time = torch.floor(potential / unit + self.start).clamp(0, self.time_steps)
        self.spikes += 2 * int((on_time > 0).sum())
        return on_time * unit


class Inputs(NamedTuple):
    """What the command line names, read."""

    ann: Graph
    statistics: Statistics
    images: Array
    labels: Array


def main(arguments: list[str]) -> None:
    parser = command_line(__doc__, time_steps=[8, 16, 32, 64, 128, 256], limit=1000)
    parser.add_argument("--start", type=float, default=0.0, help="v_init / v_threshold")
    options = parser.parse_args(arguments)
    ann, statistics, images, labels = opened(options)
    rule = QuantileThreshold(p=_QUANTILE, per="layer")
    right = top1(in_batches(TorchANN(ann).run, images)) == labels
    print(f"ANN {100 * right.mean():.2f} % of {len(images):,} images")
    for time_steps in options.time_steps:
        network = SwitchedNetwork(ann, statistics, rule, time_steps, options.start)
        found = top1(in_batches(network.run, images)) == labels
        print(
            f"T = {time_steps:>4} per layer: {100 * found.mean():.2f} %, "
            f"loss {100 * (right.mean() - found.mean()):.2f} points, "
            f"{network.spikes / len(images):,.0f} spikes per image",
            flush=True,
        )


def command_line(
    description: str | None, *, time_steps: list[int], limit: int
) -> argparse.ArgumentParser:
    """The network, the data and the numbers of steps; the last two arguments are defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--model", "--calibration", "--images", "--labels"):
        parser.add_argument(name, required=True)
    parser.add_argument("--weights", type=Path)
    for name in ("--mean", "--std"):
        parser.add_argument(name, required=True, type=_floats)
    parser.add_argument("--time-steps", type=_integers, default=time_steps)
    parser.add_argument("--calibration-samples", type=int, default=256)
    parser.add_argument("--limit", type=int, default=limit)
    return parser


def opened(options: argparse.Namespace) -> Inputs:
    """The network and the data of a command line."""
    normalization = Normalization(mean=options.mean, std=options.std)
    model = load_model(options.model, options.weights)
    calibration = load_images(options.calibration, normalization)[: options.calibration_samples]
    images = load_images(options.images, normalization)[: options.limit]
    ann = to_ann_graph(model, calibration, normalization)
    return Inputs(
        ann=ann,
        statistics=collect_statistics(ann, CalibrationContext.of(calibration, batch_size=_BATCH)),
        images=images,
        labels=load_labels(options.labels, len(images))[: len(images)],
    )


def in_batches(run: Callable[[Array], Array], images: Array) -> Array:
    """Logits of all images [N, classes], a few at a time."""
    starts = range(0, len(images), _BATCH)
    return np.concatenate([run(images[start : start + _BATCH]) for start in starts])


def _fires(node: Node) -> bool:
    return isinstance(node, Relu)


def _floats(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _integers(text: str) -> list[int]:
    return list(map(int, text.split(",")))


if __name__ == "__main__":
    main(sys.argv[1:])
