"""Build networks by different methods from the same statistics, and score each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from icsnn_deploy.conversion.calibration.agreement import AgreementScorer
from icsnn_deploy.conversion.calibration.bias_correction import correct_bias
from icsnn_deploy.conversion.calibration.checkpoint import Checkpoint
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.layer_sweep import sweep
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.statistics import collect_statistics
from icsnn_deploy.conversion.calibration.threshold_rules import ThresholdRule
from icsnn_deploy.conversion.calibration.training_source import HeldSamples, TrainingSource
from icsnn_deploy.conversion.calibration.v_init_rules import set_v_init
from icsnn_deploy.conversion.report import CandidateResult, CurvePoint
from icsnn_deploy.conversion.spiking import PopulationParameters, to_spiking
from icsnn_deploy.graph.encoder import InputEncoder, with_encoding
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, ChannelAffine, Relu
from icsnn_deploy.passes.fold_scales import fold_across_padding, fold_scales
from icsnn_deploy.passes.shift_current import shift_current


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A network, its scores, and its criterion for each held-out sample, [N]."""

    result: CandidateResult
    network: Graph
    by_sample: Array


class CandidateRunner:
    """Builds networks from one ANN and scores each on held-out samples.

    Args:
        ann: the traced network.
        fit: samples to calibrate on.
        scorer: holds the held-out samples.
        readout_steps: the T after which the network is read, ascending; it runs for the last.
        readout_start: t0 of the networks.
        training: where distillations get their batches; None: from fit.
        checkpoints: folder that long stages keep their state in; None keeps none.

    Attributes:
        candidates: the networks built so far.
        curves: of the distillations, by the name of their candidate.
        divergence_without: of the best network, itself and by population (layer_errors); empty
            unless it was measured.
    """

    def __init__(
        self,
        ann: Graph,
        fit: CalibrationContext,
        scorer: AgreementScorer,
        *,
        readout_steps: Sequence[int],
        readout_start: int = 0,
        training: TrainingSource | None = None,
        checkpoints: Path | None = None,
    ) -> None:
        self.ann = ann
        self.fit = fit
        self.scorer = scorer
        self.readout_steps = tuple(readout_steps)
        self.readout_start = readout_start
        self.statistics = collect_statistics(ann, fit)
        self.checkpoints = checkpoints
        self.training = training or HeldSamples(fit)
        self.candidates: list[Candidate] = []
        self.curves: dict[str, tuple[CurvePoint, ...]] = {}
        self.divergence_without: dict[str, float] = {}

    @property
    def time_steps(self) -> int:
        """T of the networks."""
        return self.readout_steps[-1]

    def try_all(self, methods: Sequence[Method]) -> None:
        """Build and score the network of each method."""
        for number, method in enumerate(methods):
            self.fit.progress("candidates", number, len(methods))
            self.evaluate(str(method), partial(self.build, method))
        self.fit.progress("candidates", len(methods), len(methods))

    def evaluate(self, name: str, build: Callable[[], Graph]) -> Candidate:
        """Build a network, score it and keep both."""
        begun = time.monotonic()
        network = build()
        self.fit.samples.ranks.require_equal(f"the network of {name!r}", network.hash)
        score = self.scorer.score(network)
        result = CandidateResult(
            method=name,
            agreement=score.agreement,
            divergence=score.divergence,
            seconds=time.monotonic() - begun,
            outputs=score.outputs,
            loss=score.loss,
        )
        candidate = Candidate(result=result, network=network, by_sample=score.by_sample)
        self.candidates.append(candidate)
        return candidate

    def best(self) -> Candidate:
        """The candidate of least divergence from the ANN, or of least loss where there is one.

        Divergence, because agreement on a few dozen samples differs by chance.
        """
        return min(self.candidates, key=lambda c: (c.result.criterion, -(c.result.agreement or 0)))

    def results(self) -> tuple[CandidateResult, ...]:
        """The scores of all candidates, with the standard error of their distance to the best."""
        best = self.best()
        return tuple(
            candidate.result
            if candidate is best
            else replace(candidate.result, gap_error=_error(candidate.by_sample - best.by_sample))
            for candidate in self.candidates
        )

    def checkpoint(self, stage: str, start: Graph, *options: object) -> Checkpoint | None:
        """The checkpoint of a stage that starts from a network, with these options.

        Every process of a run has it; the first alone reads and writes its file.
        """
        if self.checkpoints is None:
            return None
        given = [self.ann.hash(), start.hash(), self.fit.samples.digest(), self.readout_steps]
        origin = "; ".join(map(str, (*given, *options)))
        return Checkpoint(self.checkpoints, stage.replace(" ", "-"), origin)

    def build(self, method: Method) -> Graph:
        """The network of one method."""
        network = self._with_thresholds(method.threshold)
        if method.bias_shift:
            for node in network.nodes_of(IF):
                channels = network.shape(node.name)[0]
                per_channel = node.v_threshold.astype(np.float64).reshape(-1)
                shift = np.broadcast_to(per_channel / (2 * network.steps), (channels,))
                network = shift_current(network, node.name, shift)
        network = set_v_init(network, method.v_init.v_init(network, self.ann, self.fit))
        if method.bias_correction:
            means = {name: layer.mean for name, layer in self.statistics.layers.items()}
            visit = correct_bias(means, self.statistics.logits_mean, network.readout_start)
            network = sweep(network, self.fit, visit, stage="bias correction")
        return fold_scales(network)

    def _with_thresholds(self, rule: ThresholdRule) -> Graph:
        populations = {}
        for relu in self.ann.nodes_of(Relu):
            layer = self.statistics.layers[relu.name]
            found = rule.threshold(relu.name, layer, self.time_steps)
            v_threshold = _ready(found, len(self.ann.shape(relu.name)))
            populations[relu.name] = PopulationParameters(
                v_threshold=v_threshold, v_init=np.zeros_like(v_threshold)
            )
        network = to_spiking(self.ann, populations, self.time_steps)
        if self.fit.encoder.is_timed:
            network = _with_spike_input(network, self.fit.encoder)
        network = replace(network, readout_start=self.readout_start)
        return rule.refine(network, self.ann, self.fit)


def _with_spike_input(network: Graph, encoder: InputEncoder) -> Graph:
    """The network on spikes.

    What is added to the input (the mean of a normalization) becomes a bias of the first layer, also
    at padded borders, where the zeros of spikes stand for black; calibration corrects for it.
    """
    network = with_encoding(network, encoder)
    for node in dict.fromkeys(network.consumers(network.input.name)):
        if isinstance(node, ChannelAffine) and node.shift.any():
            network = fold_across_padding(network, node)
    return network


def _error(differences: Array) -> float | None:
    """Standard error of the mean of differences [N]."""
    count = len(differences)
    return float(differences.std(ddof=1) / np.sqrt(count)) if count > 1 else None


def _ready(values: Array, rank: int) -> Array:
    """[C] or [1] values, ready to broadcast over a population of `rank` axes."""
    return values.astype(np.float32).reshape(-1, *(1,) * (rank - 1))
