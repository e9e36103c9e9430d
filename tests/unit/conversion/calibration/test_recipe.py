"""Recipes and rules: the table, and options that go with some recipes alone."""

from __future__ import annotations

from typing import Any

import pytest

import icsnn_deploy
from icsnn_deploy.conversion.calibration import threshold_rules, v_init_rules
from icsnn_deploy.conversion.calibration.auto import EFFORT_PLANS, Auto
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import RECIPES, Recipe
from icsnn_deploy.conversion.calibration.strategy import TryMethods
from icsnn_deploy.conversion.calibration.threshold_rules import MaxThreshold
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.errors import ConversionError

METHOD = Method(threshold=MaxThreshold(), v_init=Half())


@pytest.mark.parametrize("option", [{"effort": "best"}, {"weights": False}, {"seed": 1}])
@pytest.mark.parametrize(
    "other", [{"name": "opi"}, {"name": "mine", "methods": (METHOD,)}, {"methods": (METHOD,)}]
)
def test_options_of_auto_are_refused_for_every_other_recipe(
    option: dict[str, Any], other: dict[str, Any]
) -> None:
    with pytest.raises(ConversionError, match="go with the recipes auto and hybrid"):
        Recipe(**other, **option)
    Recipe(**other)
    assert Recipe(name="auto", **option).strategy == Auto(**option)


def test_methods_of_your_own_replace_the_stages_of_auto() -> None:
    with pytest.raises(ConversionError, match="go with the recipes auto and hybrid"):
        Recipe(name="auto", methods=(METHOD,), effort="quick")
    assert Recipe(name="auto", methods=(METHOD,)).strategy == TryMethods((METHOD,))


def test_an_unknown_effort_lists_those_there_are() -> None:
    effort: Any = "more"
    with pytest.raises(ConversionError, match=f"effort 'more': {', '.join(EFFORT_PLANS)}"):
        Recipe(name="auto", effort=effort)


def test_every_named_recipe_is_the_strategy_of_the_table() -> None:
    for name, strategy in RECIPES.items():
        assert Recipe(name=name).strategy == strategy


def test_every_rule_is_public_and_so_are_their_bases() -> None:
    bases = (threshold_rules.ThresholdRule, v_init_rules.VInitRule)
    defined = {
        name
        for module in (threshold_rules, v_init_rules)
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, bases)
    }
    assert {"MaxThreshold", "Zero"} <= defined
    assert defined - {"StatisticsRule"} <= set(dir(icsnn_deploy))
