"""The recipe "auto": stages that build on each other; each is kept only if it helps.

    thresholds -> search, or refit and search -> tune

The search starts from the best network of the thresholds, tuning from the best network so far. All
are scored on held-out samples, and the report lists them all: it is an ablation as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from icsnn_deploy.conversion.calibration.candidates import CandidateRunner
from icsnn_deploy.conversion.calibration.layer_sweep import sweep
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.refit import refit
from icsnn_deploy.conversion.calibration.sampled_activations import sample_activations
from icsnn_deploy.conversion.calibration.search import search
from icsnn_deploy.conversion.calibration.strategy import Strategy
from icsnn_deploy.conversion.calibration.threshold_rules import (
    LearnedBound,
    MSEThreshold,
    QuantileThreshold,
)
from icsnn_deploy.conversion.calibration.tune import TuneOptions, tune
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.graph import Graph

Effort = Literal["quick", "standard", "best"]

_RIDGE = 0.2
_STARTS = (
    Method(threshold=LearnedBound(otherwise=QuantileThreshold(p=0.99)), v_init=Half()),
    Method(threshold=LearnedBound(otherwise=MSEThreshold(per="channel")), v_init=Half()),
)


@dataclass(frozen=True, kw_only=True)
class EffortPlan:
    """How much work an effort stands for.

    Args:
        samples: calibration samples that the search uses; None for all of them.
        iterations: steps of the optimizer; 0 leaves tuning out.
        weight_rate: its learning rate of the weights, where the recipe may change weights.
    """

    samples: int | None
    iterations: int
    weight_rate: float = 0.0


EFFORT_PLANS: dict[Effort, EffortPlan] = {
    "quick": EffortPlan(samples=256, iterations=0),
    "standard": EffortPlan(samples=None, iterations=150),
    "best": EffortPlan(samples=None, iterations=600, weight_rate=1e-4),
}


@dataclass(frozen=True, kw_only=True)
class Auto(Strategy):
    """Thresholds, then a search per channel with or without refitted weights, then tuning.

    Args:
        effort: how long to calibrate, a name of EFFORT_PLANS.
        weights: change weights too, not only potentials and biases.
        seed: of the sampled places and of the order of samples.

    Raises:
        ConversionError: an unknown effort, or a negative seed.
    """

    effort: Effort = "standard"
    weights: bool = True
    seed: int = 0

    methods: tuple[Method, ...] = field(default=_STARTS, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.effort not in EFFORT_PLANS:
            raise ConversionError(
                f"effort {self.effort!r}: {', '.join(EFFORT_PLANS)} are allowed; choose one"
            )
        if self.seed < 0:
            raise ConversionError(f"seed {self.seed}: 0 or more is needed")

    def run(self, runner: CandidateRunner) -> None:
        """Run every stage of the effort."""
        plan = EFFORT_PLANS[self.effort]
        runner.try_all(self.methods)
        self._search(runner, plan)
        if plan.iterations:
            options = TuneOptions(
                iterations=plan.iterations,
                weight_rate=plan.weight_rate if self.weights else 0.0,
                seed=self.seed,
            )
            runner.evaluate("tune", partial(_tune_best, runner, options))

    def _search(self, runner: CandidateRunner, plan: EffortPlan) -> None:
        fit = runner.fit.part(0, plan.samples or len(runner.fit))
        activations = sample_activations(runner.ann, fit, seed=self.seed)
        start = runner.best().network
        choose = search(activations, runner.readout_steps, readout_start=runner.readout_start)
        runner.evaluate("search", lambda: sweep(start, fit, choose, stage="search"))
        if self.weights:
            fit_weights = refit(activations, _RIDGE)
            runner.evaluate("refit", lambda: sweep(start, fit, fit_weights, choose, stage="refit"))


def _tune_best(runner: CandidateRunner, options: TuneOptions) -> Graph:
    start = runner.best().network
    network = tune(
        start,
        runner.ann,
        runner.fit,
        runner.readout_steps,
        options,
        objective=runner.scorer.objective,
    )
    # Every process did the same; on a GPU the last bits of a gradient may still differ.
    return runner.fit.samples.ranks.gather(network)[0]
