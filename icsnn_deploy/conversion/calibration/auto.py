"""The recipe "auto": stages that build on each other, each kept only if it helps.

    thresholds -> search or refit + search -> tune

Every stage starts from the best network of the one before and is judged on held-out samples; the
report lists all of them, so it is the ablation too.
"""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.conversion.calibration.candidates import Workbench
from icsnn_deploy.conversion.calibration.layer_sweep import Visitor, sweep
from icsnn_deploy.conversion.calibration.recipe import STARTS, Effort
from icsnn_deploy.conversion.calibration.refit import refit
from icsnn_deploy.conversion.calibration.sampled_activations import sample_activations
from icsnn_deploy.conversion.calibration.search import search
from icsnn_deploy.conversion.calibration.tune import TuneOptions, tune
from icsnn_deploy.graph.graph import Graph

_RIDGE = 0.2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an effort spends.

    Args:
        samples: calibration samples that the search looks at; None for all of them.
        iterations: of the optimizer; 0 for none.
        weight_rate: learning rate of weights in it, where the recipe allows weights.
    """

    samples: int | None
    iterations: int
    weight_rate: float = 0.0


PLANS: dict[Effort, Plan] = {
    "quick": Plan(samples=256, iterations=0),
    "standard": Plan(samples=None, iterations=150),
    "best": Plan(samples=None, iterations=600, weight_rate=1e-4),
}


def run_stages(workbench: Workbench) -> None:
    """Run every stage that the recipe's effort has; the workbench keeps the trials."""
    recipe = workbench.recipe
    plan = PLANS[recipe.effort]
    workbench.try_all(STARTS)
    fit = workbench.fit.part(0, plan.samples or len(workbench.fit))
    activations = sample_activations(
        workbench.ann,
        fit,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        device=workbench.device,
        progress=workbench.progress,
    )

    start = workbench.best().network

    def swept(stage: str, *visitors: Visitor) -> Graph:
        return sweep(
            start,
            fit,
            *visitors,
            batch_size=recipe.batch_size,
            device=workbench.device,
            stage=stage,
            progress=workbench.progress,
        )

    settle = search(activations, recipe.counted, readout_start=recipe.readout_start)
    workbench.attempt("search", lambda: swept("search", settle))
    if recipe.weights:
        regress = refit(activations, _RIDGE)
        workbench.attempt("refit", lambda: swept("refit", regress, settle))
    if plan.iterations:
        options = TuneOptions(
            iterations=plan.iterations,
            weight_rate=plan.weight_rate if recipe.weights else 0.0,
            seed=recipe.seed,
        )

        def tuned() -> Graph:
            network = tune(
                workbench.best().network,
                workbench.ann,
                workbench.fit,
                recipe.counted,
                options,
                device=workbench.device,
                progress=workbench.progress,
            )
            # Every process did the same; on a GPU a gradient's last bits need not be.
            return workbench.fit.ranks.gather(network)[0]

        workbench.attempt("tune", tuned)
