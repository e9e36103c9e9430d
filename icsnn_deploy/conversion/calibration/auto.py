"""The recipe "auto": stages that build on each other, each kept only if it helps.

    thresholds -> search or refit + search -> tune

Every stage starts from the best network of the one before and is judged on held-out samples; the
report lists all of them, so it is the ablation too.
"""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.conversion.calibration.candidates import CandidateRunner
from icsnn_deploy.conversion.calibration.layer_sweep import Visitor, sweep
from icsnn_deploy.conversion.calibration.recipe import STARTS, Effort
from icsnn_deploy.conversion.calibration.refit import refit
from icsnn_deploy.conversion.calibration.sampled_activations import sample_activations
from icsnn_deploy.conversion.calibration.search import search
from icsnn_deploy.conversion.calibration.tune import TuneOptions, tune
from icsnn_deploy.graph.graph import Graph

_RIDGE = 0.2


@dataclass(frozen=True, kw_only=True)
class EffortPlan:
    """What an effort spends.

    Args:
        samples: calibration samples that the search looks at; None for all of them.
        iterations: of the optimizer; 0 for none.
        weight_rate: learning rate of weights in it, where the recipe allows weights.
    """

    samples: int | None
    iterations: int
    weight_rate: float = 0.0


EFFORT_PLANS: dict[Effort, EffortPlan] = {
    "quick": EffortPlan(samples=256, iterations=0),
    "standard": EffortPlan(samples=None, iterations=150),
    "best": EffortPlan(samples=None, iterations=600, weight_rate=1e-4),
}


def run_stages(runner: CandidateRunner) -> None:
    """Run every stage that the recipe's effort has; the workbench keeps the trials."""
    recipe = runner.recipe
    plan = EFFORT_PLANS[recipe.effort]
    runner.try_all(STARTS)
    fit = runner.fit.part(0, plan.samples or len(runner.fit))
    activations = sample_activations(
        runner.ann,
        fit,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        device=runner.device,
        progress=runner.progress,
    )

    start = runner.best().network

    def swept(stage: str, *visitors: Visitor) -> Graph:
        return sweep(
            start,
            fit,
            *visitors,
            batch_size=recipe.batch_size,
            device=runner.device,
            stage=stage,
            progress=runner.progress,
        )

    settle = search(activations, recipe.readout_steps, readout_start=recipe.readout_start)
    runner.evaluate("search", lambda: swept("search", settle))
    if recipe.weights:
        regress = refit(activations, _RIDGE)
        runner.evaluate("refit", lambda: swept("refit", regress, settle))
    if plan.iterations:
        options = TuneOptions(
            iterations=plan.iterations,
            weight_rate=plan.weight_rate if recipe.weights else 0.0,
            seed=recipe.seed,
        )

        def tuned() -> Graph:
            network = tune(
                runner.best().network,
                runner.ann,
                runner.fit,
                recipe.readout_steps,
                options,
                device=runner.device,
                progress=runner.progress,
            )
            # Every process did the same; on a GPU a gradient's last bits need not be.
            return runner.fit.ranks.gather(network)[0]

        runner.evaluate("tune", tuned)
