"""What a conversion says before it starts, and at its end: sentences for a person."""

from __future__ import annotations

from dataclasses import dataclass, replace

from icsnn_deploy.conversion.calibration import auto
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.recipe import AUTO, FAST, HYBRID, Recipe
from icsnn_deploy.conversion.calibration.work import Amounts, MachineSpeed, Work
from icsnn_deploy.conversion.report import ConversionReport
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.progress_display import duration

_WORTH_A_LINE_S = 3.0
_LONG_S = 600.0
_MOST_LOST = 0.03  # samples whose class is another one than the ANN's
_MOST_DIVERGENCE = 0.05  # of outputs that are not classes: 1 - R^2


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How long recipes take on these samples.

    Args:
        amounts: what the work depends on.
        speed: of this machine.
        processes: that share the work.
    """

    amounts: Amounts
    speed: MachineSpeed
    processes: int = 1

    def seconds(self, recipe: Recipe) -> float | None:
        """About how long a recipe takes; None where it does not say."""
        work = recipe.strategy.work(self.amounts)
        if work is None:
            return None
        both = self.amounts.fit + self.amounts.held_out  # statistics, and the ANN's outputs
        return self.speed.seconds(work + Work(ann_samples=both), self.processes)


def estimate_for(
    recipe: Recipe, ann: Graph, fit: CalibrationContext, held_out: int, processes: int = 1
) -> Estimate:
    """Measure the speed of this machine: for a moment, and for longer if the recipe takes long.

    Args:
        recipe: that is going to be used.
        ann: the ANN.
        fit: samples to calibrate on.
        held_out: number of samples that candidates are compared on.
        processes: that share the work.
    """
    amounts = Amounts(ann=ann, fit=len(fit), held_out=held_out, time_steps=recipe.steps)
    for measured_s in (0.02, 0.5):
        speed = MachineSpeed.measure(ann, fit, recipe.readout_steps, measured_s)
        estimate = Estimate(amounts=amounts, speed=speed, processes=processes)
        if (estimate.seconds(recipe) or 0.0) < _WORTH_A_LINE_S:
            break
    return estimate


def starting_line(recipe: Recipe, estimate: Estimate) -> str | None:
    """What is going to be done, and about how long it takes; None if it is over in no time."""
    seconds, amounts = estimate.seconds(recipe), estimate.amounts
    if seconds is None or seconds < _WORTH_A_LINE_S:
        return None
    line = (
        f"recipe {recipe.name}, {recipe.strategy.summary(amounts)}; {amounts.fit:,} samples to "
        f"calibrate, {amounts.held_out:,} to compare; about {duration(seconds)}"
    )
    if seconds < _LONG_S:
        return line
    others = []
    for name in (FAST, "opi"):
        other = Recipe(name=name, time_steps=recipe.time_steps)
        shorter = estimate.seconds(other)
        if shorter is not None and shorter < seconds / 2 and name != recipe.name:
            others.append(f"{name} about {duration(shorter)}")
    return f"{line} (recipe {', '.join(others)})" if others else line


def advice(recipe: Recipe, report: ConversionReport, estimate: Estimate | None) -> str | None:
    """What to try where the outputs are far from the ANN's; None where they are near.

    Args:
        recipe: that was used.
        report: of the conversion.
        estimate: of times, if known.
    """
    chosen = report.chosen
    if chosen.agreement is not None:
        if 1 - chosen.agreement <= _MOST_LOST:
            return None
        found = (
            f"{1 - chosen.agreement:.1%} of the held-out samples get another class than the ANN's"
        )
    else:
        if chosen.divergence <= _MOST_DIVERGENCE:
            return None
        found = f"the outputs diverge by {chosen.divergence:.2g} from the ANN's"
    remedies = []
    better = _better(recipe)
    if better is not None:
        time = estimate.seconds(better) if estimate is not None else None
        named = f"effort {better.effort}" if recipe.name == better.name else f"recipe {AUTO}"
        remedies.append(named if time is None else f"{named} (about {duration(time)})")
    remedies.append(f"more time steps ({2 * report.time_steps})")
    if report.calibration_samples < 512:
        remedies.append("more calibration samples (1,000 or so)")
    return f"{found}; to lose less, try {', or '.join(remedies)}"


def _better(recipe: Recipe) -> Recipe | None:
    """The same with the next effort; of another recipe, auto. None for methods of one's own."""
    if recipe.methods:
        return None
    if recipe.name not in (AUTO, HYBRID):
        return Recipe(name=AUTO, time_steps=recipe.time_steps, batch_size=recipe.batch_size)
    efforts = list(auto.EFFORT_PLANS)
    later = efforts[efforts.index(recipe.effort_used) + 1 :]
    return replace(recipe, effort=later[0]) if later else None
