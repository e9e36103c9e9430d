"""Builds networks in different ways from the same statistics, and keeps how each did."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from icsnn_deploy.conversion.calibration.agreement import AgreementScorer
from icsnn_deploy.conversion.calibration.bias_correction import correct_bias, spike_norm
from icsnn_deploy.conversion.calibration.layer_sweep import sweep
from icsnn_deploy.conversion.calibration.recipe import Method, Recipe
from icsnn_deploy.conversion.calibration.samples import CalibrationSet
from icsnn_deploy.conversion.calibration.statistics import Statistics
from icsnn_deploy.conversion.calibration.threshold_rules import (
    MaxThreshold,
    SpikeNormThreshold,
    threshold_of,
)
from icsnn_deploy.conversion.calibration.v_init_rules import initialize
from icsnn_deploy.conversion.report import CandidateResult
from icsnn_deploy.conversion.spiking import Population, to_spiking
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Relu
from icsnn_deploy.passes.fold_scales import fold_scales
from icsnn_deploy.passes.shift_current import shift_current
from icsnn_deploy.progress import Progress


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A network that was built, and how it did."""

    result: CandidateResult
    network: Graph


class CandidateRunner:
    """Builds networks from one ANN and its statistics, and judges each on held-out samples."""

    def __init__(
        self,
        ann: Graph,
        statistics: Statistics,
        fit: CalibrationSet,
        judge: AgreementScorer,
        recipe: Recipe,
        device: str,
        progress: Progress,
    ) -> None:
        self.ann = ann
        self.statistics = statistics
        self.fit = fit
        self.judge = judge
        self.recipe = recipe
        self.device = device
        self.progress = progress
        self.candidates: list[Candidate] = []

    def try_all(self, methods: Sequence[Method]) -> None:
        """Build and judge the network of each method."""
        for number, method in enumerate(methods):
            self.progress("candidates", number, len(methods))
            self.evaluate(str(method), lambda method=method: self.build(method))  # type: ignore[misc]
        self.progress("candidates", len(methods), len(methods))

    def evaluate(self, name: str, build: Callable[[], Graph]) -> Candidate:
        """Build a network and judge it."""
        begun = time.monotonic()
        network = build()
        self.fit.ranks.require_equal(f"the network of {name!r}", network.hash)
        agreement, divergence = self.judge.score(network, self.recipe.batch_size)
        result = CandidateResult(
            method=name,
            agreement=agreement,
            divergence=divergence,
            seconds=time.monotonic() - begun,
        )
        candidate = Candidate(result=result, network=network)
        self.candidates.append(candidate)
        return candidate

    def best(self) -> Candidate:
        """The trial that came nearest to the ANN.

        By divergence: shares of a few dozen samples differ by chance where this still tells apart.
        """
        return min(self.candidates, key=lambda t: (t.result.divergence, -t.result.agreement))

    def build(self, method: Method) -> Graph:
        network = self._with_thresholds(method)
        if method.bias_shift:
            for node in network.nodes_of(IF):
                channels = network.shape(node.name)[0]
                per_channel = node.v_threshold.astype(np.float64).reshape(-1)
                shift = np.broadcast_to(per_channel / (2 * network.steps), (channels,))
                network = shift_current(network, node.name, shift)
        network = initialize(
            network,
            self.ann,
            method.v_init,
            self.fit,
            batch_size=self.recipe.batch_size,
            device=self.device,
            progress=self.progress,
        )
        if method.bias_correction:
            means = {name: layer.mean for name, layer in self.statistics.layers.items()}
            visit = correct_bias(means, self.statistics.logits_mean, network.readout_start)
            network = sweep(
                network,
                self.fit,
                visit,
                batch_size=self.recipe.batch_size,
                device=self.device,
                stage="bias correction",
                progress=self.progress,
            )
        return fold_scales(network)

    def _with_thresholds(self, method: Method) -> Graph:
        rule = method.threshold
        measured = MaxThreshold() if isinstance(rule, SpikeNormThreshold) else rule
        populations = {}
        for relu in self.ann.nodes_of(Relu):
            layer = self.statistics.layers[relu.name]
            found = threshold_of(measured, relu.name, layer, self.recipe.steps)
            v_threshold = _ready(found, len(self.ann.shape(relu.name)))
            populations[relu.name] = Population(
                v_threshold=v_threshold, v_init=np.zeros_like(v_threshold)
            )
        network = replace(
            to_spiking(self.ann, populations, self.recipe.steps),
            readout_start=self.recipe.readout_start,
        )
        if not isinstance(rule, SpikeNormThreshold):
            return network
        return sweep(
            network,
            self.fit,
            spike_norm({node.name: node.upper for node in self.ann.nodes_of(Relu)}),
            batch_size=self.recipe.batch_size,
            reset=rule.reset,
            device=self.device,
            stage="SpikeNorm",
            progress=self.progress,
        )


def _ready(values: Array, rank: int) -> Array:
    """[C] or [1] values ready to broadcast over a population of `rank` axes."""
    return values.astype(np.float32).reshape(-1, *(1,) * (rank - 1))
