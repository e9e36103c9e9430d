"""Add up, batch by batch, what each population does and how far it is from the ANN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.report.page.measures import LayerMeasures

_POINTS = 240
"""(activation, output) pairs that are kept of each population."""


class LayerSums:
    """The sums of one population over the samples.

    The output of a neuron is x = amplitude * spikes / T. In a float network a spike stands for
    v_threshold. The thresholds of an integer network are in lattice units; there the amplitude of
    each channel is the one that fits the activations a best, sum(a n) / sum(n n) with n = spikes/T.
    """

    def __init__(self, graph: Graph, node: Population) -> None:
        shape = graph.shape(node.name)
        self.name, self.steps = node.name, graph.steps
        self.neurons = math.prod(shape)
        self.fitted = graph.is_integer
        self.v_threshold = np.broadcast_to(node.v_threshold, shape).astype(np.float64)
        self.samples = self.spikes = self.silent = self.saturated = self.compared = 0
        self.fired = np.zeros(shape, bool)
        self.first = np.zeros(graph.steps + 1, np.int64)
        channels = shape[0] if shape else 1
        self.sums = {name: np.zeros(channels) for name in ("a", "n", "aa", "an", "nn")}
        self.points: list[tuple[Array, Array, Array]] = []  # a, spikes, channel
        self.generator = np.random.default_rng(0)

    def add(self, counts: Array, first_spikes: Array) -> None:
        """Add spike counts and first-spike steps of a batch, [B, *shape]."""
        self.samples += len(counts)
        self.spikes += int(counts.sum(dtype=np.int64))
        self.silent += int((counts == 0).sum())
        self.saturated += int((counts == self.steps).sum())
        self.fired |= (counts > 0).any(axis=0)
        self.first += np.bincount(first_spikes.ravel(), minlength=self.steps + 1)

    def compare(self, activation: Array, counts: Array) -> None:
        """Add the ANN's activations of the same batch, [B, *shape]."""
        a = activation.astype(np.float64).reshape(*activation.shape[:2], -1)  # [B, C, positions]
        spikes = counts if self.fitted else counts * self.v_threshold
        n = (spikes / self.steps).reshape(a.shape)
        self.compared += a.size
        for name, values in (("a", a), ("n", n), ("aa", a * a), ("an", a * n), ("nn", n * n)):
            self.sums[name] += values.sum(axis=(0, 2))
        if sum(len(a) for a, _, _ in self.points) < _POINTS:
            chosen = self.generator.choice(a.size, min(_POINTS, a.size), replace=False)
            channels = np.broadcast_to(np.arange(a.shape[1])[None, :, None], a.shape)
            self.points.append((a.flat[chosen], n.flat[chosen], channels.reshape(-1)[chosen]))

    def measures(self) -> LayerMeasures:
        """The figures of all samples together."""
        all_neurons = max(self.samples * self.neurons, 1)
        fired = int(self.first[1:].sum())
        steps = np.arange(1, self.steps + 1)
        return LayerMeasures(
            layer=self.name,
            neurons=self.neurons,
            firing_rate=self.spikes / (all_neurons * self.steps),
            silent=self.silent / all_neurons,
            never=1 - float(self.fired.mean()),
            saturated=self.saturated / all_neurons,
            first_spike=float((steps * self.first[1:]).sum() / fired) if fired else None,
            first_spikes=tuple(float(count) / all_neurons for count in self.first[1:]),
            **self._match(),
        )

    def _match(self) -> dict[str, Any]:
        if not self.compared:
            return {}
        a, n, aa, an, nn = (self.sums[name] for name in ("a", "n", "aa", "an", "nn"))
        scale = np.ones_like(a)
        if self.fitted:
            scale = np.divide(an, nn, out=np.zeros_like(an), where=nn > 0)
        squares = float((aa - 2 * scale * an + scale * scale * nn).sum())
        spread = float(aa.sum() - a.sum() ** 2 / self.compared)
        points = [
            (float(x), float(scale[c] * y))
            for one, other, channel in self.points
            for x, y, c in zip(one, other, channel, strict=True)
        ]
        return {
            "r_squared": 1 - squares / spread if spread > 1e-12 * float(aa.sum()) else None,
            "mean_error": float((scale * n - a).sum()) / self.compared,
            "rms_error": math.sqrt(max(squares, 0.0) / self.compared),
            "amplitude": "fitted" if self.fitted else "v_threshold",
            "points": tuple(points[:_POINTS]),
        }
