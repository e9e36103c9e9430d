"""The rows of the accuracy table: the named recipes, and each reading of IC-SNN's algorithms."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, cast

from icsnn_deploy.conversion.calibration.auto import Auto, Effort
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
    """The recipe of a row: a reading, or NAME with options, `auto:quick:no-weights:4-32`.

    Options are an effort, `no-weights`, and a range of T that one network serves, whatever
    time_steps says.

    Raises:
        ConversionError: no such recipe or effort; lists those there are.
    """
    if name in READINGS:
        return Recipe(name=name, time_steps=time_steps, methods=(READINGS[name],))
    named, *options = name.split(":")
    effort: Effort | None = "standard" if named in (AUTO, HYBRID) else None
    recipe = Recipe(name=named, time_steps=time_steps, effort=effort)
    for option in options:
        least, dash, most = option.partition("-")
        if option == "no-weights":
            recipe = replace(recipe, weights=False)
        elif dash and least.isdigit() and most.isdigit():
            recipe = replace(recipe, time_steps=(int(least), int(most)))
        else:
            recipe = replace(recipe, effort=cast(Any, option))  # Recipe checks it
    return recipe


def serves(recipe: Recipe, time_steps: int) -> bool:
    """Whether a recipe's network is meant to be read after so many steps."""
    given = recipe.time_steps
    return given[0] <= time_steps <= given[1] if isinstance(given, tuple) else True


def methods_of(recipe: Recipe) -> tuple[Method, ...]:
    """What a recipe tries; nothing for one that searches by itself."""
    strategy = recipe.strategy
    return () if isinstance(strategy, Auto) else strategy.methods


def describe(recipe: Recipe) -> str:
    """What a recipe does, one T left out: rows of other names and the same methods do the same.

    Fields at their defaults are left out, so that a cell outlives a new field; so is the effort
    standard, that of a row that names none.
    """
    methods = methods_of(recipe)
    parts = [str(method) for method in methods] or [recipe.name]
    if isinstance(recipe.time_steps, tuple):
        parts.append("T = {} to {}".format(*recipe.time_steps))
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if field.name == "effort" and value == "standard":
            continue
        if field.name not in ("name", "methods", "time_steps") and value != field.default:
            parts.append(f"{field.name} {value}")
    return "; ".join(parts)


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
