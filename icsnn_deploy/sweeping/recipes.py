"""Recipes by their text, as the command line takes them."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import cast

from icsnn_deploy.conversion.calibration.auto import Auto, Effort
from icsnn_deploy.conversion.calibration.recipe import Recipe

NO_WEIGHTS = "no-weights"


def recipe_of(text: str, time_steps: int, *, seed: int = 0, batch_size: int = 64) -> Recipe:
    """The recipe that is named as NAME, or NAME with options, `auto:quick:no-weights`.

    Args:
        text: name of a recipe, and for auto and hybrid an effort, `no-weights` (potentials and
            biases change only), and a range of T that one network serves, `4-32`, which replaces
            time_steps.
        time_steps: T.
        seed: of the recipes auto and hybrid.
        batch_size: samples run at once.

    Raises:
        ConversionError: no such recipe or effort; lists those there are.
    """
    name, *options = text.split(":")
    recipe = Recipe(name=name, time_steps=time_steps, batch_size=batch_size)
    if isinstance(recipe.strategy, Auto):
        recipe = replace(recipe, seed=seed)
    for option in options:
        least, dash, most = option.partition("-")
        if option == NO_WEIGHTS:
            recipe = replace(recipe, weights=False)
        elif dash and least.isdecimal() and most.isdecimal():
            recipe = replace(recipe, time_steps=(int(least), int(most)))
        else:
            recipe = replace(recipe, effort=cast(Effort, option))  # Recipe checks it
    return recipe


def describe_recipe(recipe: Recipe) -> dict[str, str]:
    """What a recipe does, its T included, as JSON values: equal for recipes that do the same.

    Fields at their defaults are left out. So is the name of one that tries methods, which says
    nothing that they don't.
    """
    strategy = recipe.strategy
    searches = isinstance(strategy, Auto)
    given = {
        field.name: str(getattr(recipe, field.name))
        for field in fields(recipe)
        if field.name not in ("name", "methods", "time_steps", "effort")
        and getattr(recipe, field.name) != field.default
    }
    does = recipe.name if isinstance(strategy, Auto) else "; ".join(map(str, strategy.methods))
    return {
        "recipe" if searches else "methods": does,
        **({"effort": recipe.effort_used} if searches else {}),
        "time_steps": str(recipe.time_steps),
        **given,
    }
