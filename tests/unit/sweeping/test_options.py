"""The options of a sweep, recipes by their text, and the estimate of what is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.threshold_rules import MaxThreshold
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.errors import DataError
from icsnn_deploy.sweeping.estimate import Estimate
from icsnn_deploy.sweeping.options import Point, SweepOptions
from icsnn_deploy.sweeping.recipes import describe_recipe, recipe_of
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.override import override


def test_points_are_every_combination_in_the_order_of_the_options() -> None:
    options = SweepOptions(
        time_steps=(4, 2), bits=(8, "float"), recipes=("opi", "diehl"), targets=("speck",)
    )
    points = options.points()
    assert len(points) == 8
    assert points[0] == Point(recipe="opi", time_steps=4, bits=8, target="speck")
    assert points[-1] == Point(recipe="diehl", time_steps=2, bits="float", target="speck")


def test_every_wrong_option_is_a_line_of_one_error() -> None:
    with pytest.raises(DataError) as error:
        SweepOptions(
            time_steps=(0, 4),
            bits=(8, 1, 8),
            recipes=("nope", "auto:hasty"),
            targets=("moon",),
            max_loss=float("nan"),
            cheapest="money",  # type: ignore[arg-type]
            batch_size=0,
        )
    lines = str(error.value).splitlines()
    for start in (
        "time_steps: 0",
        "bits: 1;",
        "bits: 8 is given twice",
        "recipes: no recipe 'nope'",
    ):
        assert any(line.startswith(start) for line in lines), start
    for part in ("effort 'hasty'", "no target 'moon'", "max_loss: nan", "cheapest: 'money'"):
        assert any(part in line for line in lines), part
    assert "batch_size 0" in str(error.value)


@pytest.mark.parametrize("name", ["time_steps", "bits", "recipes", "targets"])
def test_an_empty_option_is_refused(name: str) -> None:
    empty: dict[str, Any] = {name: ()}
    with pytest.raises(DataError, match=f"{name}: empty"):
        SweepOptions(**empty)


def test_recipes_name_their_options() -> None:
    recipe = recipe_of("auto:quick:no-weights", 4, seed=3)
    assert recipe == Recipe(name="auto", time_steps=4, effort="quick", weights=False, seed=3)
    assert recipe_of("auto:quick:2-8", 4).time_steps == (2, 8)
    assert recipe_of("opi", 4, seed=3) == Recipe(name="opi", time_steps=4)


def test_recipes_that_do_the_same_are_described_alike() -> None:
    method = Method(threshold=MaxThreshold(), v_init=Half())
    one, other = (Recipe(name=name, time_steps=4, methods=(method,)) for name in ("mine", "yours"))
    assert describe_recipe(one) == describe_recipe(other)
    assert describe_recipe(one) != describe_recipe(Recipe(name="diehl", time_steps=4))
    efforts = [describe_recipe(recipe_of(f"auto:{e}", 4)) for e in ("quick", "best")]
    assert efforts[0] != efforts[1]
    used = recipe_of("auto", 4).effort_used
    assert describe_recipe(recipe_of(f"auto:{used}", 4)) == describe_recipe(recipe_of("auto", 4))
    assert describe_recipe(recipe_of("opi", 4)) != describe_recipe(recipe_of("opi", 8))


def test_own_recipes_get_the_steps_of_the_point_and_ranges_must_end_at_them() -> None:
    mine = {"mine": Recipe(name="opi", time_steps=1)}
    options = SweepOptions(time_steps=(3,), recipes=mine)
    assert options.recipe(options.points()[0]).time_steps == 3
    ranged = {"mine": Recipe(name="opi", time_steps=(2, 8))}
    assert SweepOptions(time_steps=(8,), recipes=ranged)
    with pytest.raises(DataError, match="runs for 8 steps"):
        SweepOptions(time_steps=(4,), recipes=ranged)


def test_a_range_in_a_text_must_end_at_the_steps_of_the_point() -> None:
    options = SweepOptions(time_steps=(16,), recipes=("auto:4-16",))
    assert options.recipe(options.points()[0]).time_steps == (4, 16)
    with pytest.raises(
        DataError, match=r"recipes: recipe auto:4-16 for T = 4 to 16 runs for 16 steps"
    ):
        SweepOptions(time_steps=(4, 16), recipes=("auto:4-16",))


def test_two_profiles_of_one_name_are_refused() -> None:
    speck = find_target("speck")
    changed = override(speck, {"kernel_size": 4})
    assert changed.name == speck.name
    for twice in ((speck, changed), ("speck", changed), ("speck", "speck")):
        with pytest.raises(DataError) as error:
            SweepOptions(targets=twice)
        assert str(error.value).startswith("targets: speck is given twice")
        assert len(str(error.value).splitlines()) == 1
    other = replace(changed, name="small speck")
    assert list(SweepOptions(targets=(speck, other)).profiles) == ["speck", "small speck"]


def test_the_estimate_grows_with_the_steps_and_is_unknown_for_kinds_without_a_time() -> None:
    estimate = Estimate()
    assert estimate.left([("measure", 4)]) is None
    assert estimate.left([]) == 0
    estimate.add("measure", 4, 16.0)
    estimate.add("measure", 12, 32.0)
    assert estimate.left([("measure", 4), ("measure", 28)]) == pytest.approx(16 + 64)
    assert estimate.left([("measure", 4), ("auto", 4)]) is None
