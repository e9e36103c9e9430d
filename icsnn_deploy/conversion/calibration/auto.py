"""The recipe "auto": stages that build on each other; each is kept only if it helps.

    thresholds -> search, or refit and search -> distillation, one or several

The search starts from the best network of the thresholds, each distillation from the best network
so far. All are scored on held-out samples, and the report lists them all: it is an ablation too.
Short has all stages of quick, and each effort above standard those of the one below it: with them
more effort never chooses a worse network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from icsnn_deploy.conversion.calibration.agreement import AgreementScorer
from icsnn_deploy.conversion.calibration.augmentation import Augmentation
from icsnn_deploy.conversion.calibration.candidates import CandidateRunner
from icsnn_deploy.conversion.calibration.distill import CURVE_POINTS, DistillOptions, distill
from icsnn_deploy.conversion.calibration.layer_errors import LAYER_SAMPLES, divergence_without
from icsnn_deploy.conversion.calibration.layer_sweep import sweep
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.refit import refit
from icsnn_deploy.conversion.calibration.sampled_activations import sample_activations
from icsnn_deploy.conversion.calibration.search import search
from icsnn_deploy.conversion.calibration.strategy import Strategy
from icsnn_deploy.conversion.calibration.threshold_rules import (
    MSEThreshold,
    QuantileThreshold,
)
from icsnn_deploy.conversion.calibration.training_cost import (
    TrainingBudget,
    TrainingPlan,
    plan_training,
)
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.conversion.calibration.work import Amounts, Work
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Relu

Effort = Literal["quick", "short", "standard", "best", "finetune"]

_RIDGE = 0.2
_SEARCH_SIMULATIONS = 2  # of each layer: its currents, then its spikes; refit reads its inputs too
_CURVE_SAMPLES = 256  # of the held-out ones; scoring all would cost a quarter of the time
_TEMPERATURE = 4.0
"""ResNet20, T = 4, 300 iterations: 6.8 points lost, with a temperature of 1 throughout 9.0 to 9.5;
on images that the ANN was not trained on. On those that it was, it is too sure of one class."""
_STARTS = (
    Method(threshold=QuantileThreshold(p=0.99), v_init=Half()),
    Method(threshold=MSEThreshold(per="channel"), v_init=Half()),
)
"""Measured, not the bound that an activation has (LearnedBound): that is far above most activations
for ReLU6, and too high for few steps where it is learned. Divergence after refit:

    MobileNetV2, ReLU6    T = 1 1.54 from the bound, 0.77 from these    T = 2 0.58, 0.38
                          T = 4 0.40, 0.20                              T = 8 0.14, 0.10
    ResNet20, QCFS        T = 4 0.33, 0.28                              T = 8 0.15, 0.14

At T = 1 the output of the bound's network is constant, and still scores better than the noise of
the others.
"""


_FULL_RATE, _LEAST_FACTOR = 0.4, 0.1


def rate_factor(criterion: float) -> float:
    """Share of the usual learning rates for a network with this divergence, or loss with labels.

    The closer a network is, the more a large step takes away from it: in an earlier version
    ResNet20, T = 16, went from 0.063 to 0.087 in 312 iterations at the usual rates, and at 0.29 of
    them to 0.057 in 100. From 0.2 (T = 8) both ended alike, and from 0.46 on (T <= 4) larger steps
    are needed.
    """
    return min(1.0, max(_LEAST_FACTOR, criterion / _FULL_RATE))


def normalized_share(factor: float) -> float:
    """Share of a distillation in which batches are normalized by their own statistics.

    At large learning rates training without them goes astray, at small ones they are mostly noise.
    Divergence on 1,024 held-out images, after distillations normalized for this share of the steps:

        ResNet20, T = 4, factor 1                   0.3 0.338    0.5 0.336    0.7 0.302    1 0.305
        ResNet20, T = 8, factor 0.5                              0.5 0.141    0.7 0.125    1 0.134
        VGG16, T = 4, factor 0.2       0 0.054      0.3 0.049                 0.7 0.053    1 0.058
        VGG16, T = 8, factor 0.1                    0.3 0.023                              1 0.025

    Args:
        factor: share of the usual learning rates (rate_factor).
    """
    return min(0.7, 0.2 + factor)


def _curve_points(plan: TrainingPlan) -> int:
    """Points of the curve: each costs as much as three iterations on a few hundred samples."""
    return min(CURVE_POINTS, max(4, plan.iterations // 30))


@dataclass(frozen=True, kw_only=True)
class EffortPlan:
    """How much work an effort stands for.

    Args:
        samples: calibration samples that the search uses.
        distillations: what each distillation may cost, in order.
    """

    samples: int
    distillations: tuple[TrainingBudget, ...] = ()


_SHORT = TrainingBudget(operations=1.75e13, iterations=300)
_STANDARD = TrainingBudget(operations=9e13, iterations=4_000)
_BEST = TrainingBudget(operations=2e14, iterations=10_000)
_FINETUNE = TrainingBudget(operations=1e15, iterations=60_000)

EFFORT_PLANS: dict[Effort, EffortPlan] = {
    "quick": EffortPlan(samples=256),
    "short": EffortPlan(samples=256, distillations=(_SHORT,)),
    "standard": EffortPlan(samples=768, distillations=(_STANDARD,)),
    "best": EffortPlan(samples=768, distillations=(_STANDARD, _BEST)),
    "finetune": EffortPlan(samples=768, distillations=(_STANDARD, _BEST, _FINETUNE)),
}


@dataclass(frozen=True, kw_only=True)
class Auto(Strategy):
    """Thresholds, then a search per channel with or without refitted weights, then distillation.

    Args:
        effort: how long to calibrate, a name of EFFORT_PLANS.
        weights: change weights too, not only potentials and biases.
        augmentation: how training images are varied; None: Augmentation.suited_to their shape, or
            not at all if a data set gives them anew, with its own transforms.
        seed: of the sampled places, of the order of samples and of their variations.

    Raises:
        ConversionError: an unknown effort, or a negative seed.
    """

    effort: Effort = "short"
    weights: bool = True
    augmentation: Augmentation | None = None
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
        effort = EFFORT_PLANS[self.effort]
        runner.try_all(self.methods)
        self._search(runner, effort)
        for number, budget in enumerate(effort.distillations, start=1):
            name = "distillation" if number == 1 else f"distillation {number}"
            plan = plan_training(runner.ann, runner.time_steps, budget)
            if plan is not None:
                runner.evaluate(name, partial(self._distill, runner, plan, name))
        if effort.distillations:
            runner.divergence_without = divergence_without(
                runner.best().network, runner.ann, runner.scorer.held_out, runner.readout_steps
            )

    def work(self, amounts: Amounts) -> Work:
        """Every stage of the effort."""
        effort = EFFORT_PLANS[self.effort]
        candidates = len(self.methods) + (2 if self.weights else 1) + len(effort.distillations)
        work = amounts.search(effort.samples, _SEARCH_SIMULATIONS)
        if self.weights:
            work += amounts.search(effort.samples, _SEARCH_SIMULATIONS + 1)
        work += Work(network_samples=candidates * amounts.held_out)
        few = min(_CURVE_SAMPLES, amounts.held_out)
        for plan in self._plans(amounts):
            trained = plan.iterations * plan.batch_size
            work += Work(trained_samples=trained, network_samples=_curve_points(plan) * few)
        if effort.distillations:
            populations = len(amounts.ann.nodes_of(Relu))
            samples = (1 + populations) * min(LAYER_SAMPLES, amounts.held_out)
            work += Work(network_samples=samples)
        return work

    def summary(self, amounts: Amounts) -> str:
        """The effort and its stages."""
        stages = ["thresholds", "search", *(["refit"] if self.weights else [])]
        stages += [f"{plan.iterations:,} steps of training" for plan in self._plans(amounts)]
        return f"effort {self.effort}: {', '.join(stages)}"

    def _plans(self, amounts: Amounts) -> list[TrainingPlan]:
        budgets = EFFORT_PLANS[self.effort].distillations
        plans = (plan_training(amounts.ann, amounts.time_steps, budget) for budget in budgets)
        return [plan for plan in plans if plan is not None]

    @property
    def _loss_options(self) -> tuple[object, ...]:
        """What the loss of training depends on besides the ANN."""
        return ()

    def _search(self, runner: CandidateRunner, effort: EffortPlan) -> None:
        fit = runner.fit.part(0, effort.samples)
        activations = sample_activations(runner.ann, fit, seed=self.seed)
        start = runner.best().network
        choose = search(activations, runner.readout_steps, readout_start=runner.readout_start)
        runner.evaluate("search", lambda: sweep(start, fit, choose, stage="search"))
        if self.weights:
            fit_weights = refit(activations, _RIDGE)
            runner.evaluate("refit", lambda: sweep(start, fit, fit_weights, choose, stage="refit"))

    def _distill(self, runner: CandidateRunner, plan: TrainingPlan, name: str) -> Graph:
        best = runner.best()
        start, factor = best.network, rate_factor(best.result.criterion)
        few = runner.scorer.held_out.part(0, _CURVE_SAMPLES)
        scorer = AgreementScorer(runner.ann, few, runner.readout_steps, self.objective(few))
        options = DistillOptions(
            iterations=plan.iterations,
            rate=factor * DistillOptions.rate,
            weight_rate=factor * DistillOptions.weight_rate if self.weights else 0.0,
            temperature=_TEMPERATURE,
            normalized_share=normalized_share(factor),
        )
        found = distill(
            start,
            runner.ann,
            runner.fit,
            runner.training.batches(plan.batch_size, self.augmentation, self.seed),
            runner.readout_steps,
            options,
            objective=runner.scorer.objective,
            held_out=lambda network: scorer.score(network).divergence,
            checkpoint=runner.checkpoint(
                name, start, options, self.augmentation, plan, self.seed, *self._loss_options
            ),
            points=_curve_points(plan),
            stage=name,
        )
        runner.curves[name] = found.curve
        # Every process did the same; on a GPU the last bits of a gradient may still differ.
        return runner.fit.samples.ranks.gather(found.network)[0]
