"""The rows of the accuracy table: the named recipes, and each reading of IC-SNN's algorithms."""

from __future__ import annotations

from dataclasses import replace

from icsnn_deploy.conversion.calibration.auto import Auto
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import AUTO, HYBRID, RECIPES, Recipe
from icsnn_deploy.conversion.calibration.threshold_rules import (
    LearnedBound,
    MaxThreshold,
    QuantileThreshold,
    ThresholdRule,
)
from icsnn_deploy.conversion.calibration.v_init_rules import (
    CompensatedResidual,
    Compensation,
    DataResidual,
    Half,
    VInitRule,
    WeightResidual,
    Zero,
)
from icsnn_deploy.sweeping.recipes import recipe_of as named_recipe


def _reading(v_init: VInitRule) -> Method:
    """All readings on one threshold, that of the papers' recipes, so that only v_init differs."""
    return Method(threshold=QuantileThreshold(p=0.99), v_init=v_init)


READINGS: dict[str, Method] = {
    "snn": _reading(Zero()),  # what the paper improves on
    "algorithm-1": _reading(WeightResidual()),
    "algorithm-2-raw": _reading(DataResidual(reduce="raw")),
    "algorithm-2-clamp": _reading(DataResidual(reduce="clamp")),
    "algorithm-2-mod": _reading(DataResidual(reduce="mod")),  # i-snn
    "compensation-printed": _reading(Compensation(reading="printed")),  # c-snn
    "compensation-equation": RECIPES["opi"].methods[0],  # v_threshold / 2 is half the threshold
    "algorithm-3-raw-printed": _reading(CompensatedResidual(reduce="raw", reading="printed")),
    "algorithm-3-clamp-printed": _reading(CompensatedResidual(reduce="clamp", reading="printed")),
    "algorithm-3-mod-printed": _reading(CompensatedResidual(reduce="mod", reading="printed")),
    "algorithm-3-raw-equation": _reading(CompensatedResidual(reduce="raw", reading="equation")),
    "algorithm-3-clamp-equation": _reading(CompensatedResidual(reduce="clamp", reading="equation")),
    "algorithm-3-mod-equation": _reading(CompensatedResidual(reduce="mod", reading="equation")),
}

PUBLISHED_RECIPES = tuple(name for name in RECIPES if name not in (AUTO, HYBRID))
"""Recipes of papers that take the network as it is, and no labels."""

ALL = (AUTO, *PUBLISHED_RECIPES, *READINGS)


def recipe_of(name: str, time_steps: int) -> Recipe:
    """The recipe of a row: a reading, or a recipe with its options, `auto:quick:no-weights:4-32`.

    The rows of auto and hybrid without an effort are those of "standard".

    Raises:
        ConversionError: no such recipe or effort; lists those there are.
    """
    if name in READINGS:
        return Recipe(name=name, time_steps=time_steps, methods=(READINGS[name],))
    recipe = named_recipe(name, time_steps)
    if recipe.name in (AUTO, HYBRID) and recipe.effort is None:
        recipe = replace(recipe, effort="standard")
    return recipe


def methods_of(recipe: Recipe) -> tuple[Method, ...]:
    """What a recipe tries; nothing for one that searches by itself."""
    strategy = recipe.strategy
    return () if isinstance(strategy, Auto) else strategy.methods


def depends_on_steps(recipe: Recipe) -> bool:
    """Whether T has a say in thresholds, v_init or biases: then each T needs its own conversion.

    A network that does not depend on T is one network: its logits after t steps are the t-th
    running mean of one long run.
    """
    methods = methods_of(recipe)
    if isinstance(recipe.time_steps, tuple):
        return False
    return not methods or len(methods) > 1 or any(map(_method_depends, methods))


def _method_depends(method: Method) -> bool:
    fixed_start = isinstance(method.v_init, (Zero, Half)) or method.v_init == Compensation(
        reading="equation"
    )
    changed_bias = method.bias_shift or method.bias_correction
    return changed_bias or not fixed_start or not _fixed_threshold(method.threshold)


def _fixed_threshold(rule: ThresholdRule | None) -> bool:
    """MSE thresholds and SpikeNorm's look at T."""
    if isinstance(rule, LearnedBound):
        return rule.otherwise is None or _fixed_threshold(rule.otherwise)
    return isinstance(rule, (MaxThreshold, QuantileThreshold))
