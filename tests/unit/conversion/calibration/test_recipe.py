"""Recipes and rules: the tables, and options that go with the recipe auto alone."""

from __future__ import annotations

from typing import Any

import pytest

from icsnn_deploy.conversion.calibration import threshold_rules, v_init_rules
from icsnn_deploy.conversion.calibration.auto import EFFORT_PLANS, Auto
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import RECIPES, Recipe
from icsnn_deploy.conversion.calibration.rules import RULES, THRESHOLD_RULES, V_INIT_RULES
from icsnn_deploy.conversion.calibration.strategy import TryMethods
from icsnn_deploy.conversion.calibration.threshold_rules import MaxThreshold, StatisticsRule
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
    with pytest.raises(ConversionError, match=r"effort, weights .* go with the recipe auto"):
        Recipe(**other, **option)
    Recipe(**other)
    assert Recipe(name="auto", **option).strategy == Auto(**option)


def test_methods_of_your_own_replace_the_stages_of_auto() -> None:
    with pytest.raises(ConversionError, match="go with the recipe auto alone"):
        Recipe(name="auto", methods=(METHOD,), effort="quick")
    assert Recipe(name="auto", methods=(METHOD,)).strategy == TryMethods((METHOD,))


def test_an_unknown_effort_lists_those_there_are() -> None:
    effort: Any = "more"
    with pytest.raises(ConversionError, match=f"effort 'more': {', '.join(EFFORT_PLANS)}"):
        Recipe(name="auto", effort=effort)


def test_every_named_recipe_is_the_strategy_of_the_table() -> None:
    for name, strategy in RECIPES.items():
        assert Recipe(name=name).strategy == strategy


def test_the_table_of_rules_holds_every_rule_under_its_name() -> None:
    defined: set[type] = set()
    for module in (threshold_rules, v_init_rules):
        bases = (threshold_rules.ThresholdRule, v_init_rules.VInitRule)
        defined |= {
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, bases)
        }
    abstract = {threshold_rules.ThresholdRule, v_init_rules.VInitRule, StatisticsRule}
    assert set(RULES.values()) == defined - abstract
    assert {name: rule.__name__ for name, rule in RULES.items()} == {name: name for name in RULES}
    assert {**THRESHOLD_RULES, **V_INIT_RULES} == RULES
