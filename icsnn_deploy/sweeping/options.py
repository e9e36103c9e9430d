"""The grid of a sweep: recipes, time steps, weight widths and targets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.errors import DataError, IcsnnError, Lines, plain
from icsnn_deploy.graph.limits import MAX_TIME_STEPS
from icsnn_deploy.lattice.options import WIDTHS, LatticeEffort
from icsnn_deploy.sweeping.recipes import recipe_of
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.profile import TargetProfile

Cost = Literal["reads", "steps", "operations", "memory", "energy"]
"""What the cheapest point has least of (rows.Row.cost)."""

FLOAT = "float"
Bits = int | Literal["float"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of the grid."""

    recipe: str
    time_steps: int
    bits: Bits  # signed width of the weights; "float": the network is not quantized
    target: str

    @property
    def name(self) -> str:
        """As files and pictures call it."""
        width = FLOAT if self.bits == FLOAT else f"{self.bits}bit"
        return f"{self.recipe.replace(':', '-')}_T{self.time_steps}_{width}_{self.target}"

    def __str__(self) -> str:
        width = FLOAT if self.bits == FLOAT else f"{self.bits} bits"
        return f"{self.recipe}, T = {self.time_steps}, {width}, {self.target}"


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What a sweep measures, and which point it looks for.

    Args:
        time_steps: numbers of steps T.
        bits: signed widths of the weights, 2 to 16; "float" measures the network that is not
            quantized.
        recipes: names with their options, as recipes.recipe_of takes them; or recipes of your own
            by a name for each, whose T is that of the point. A range of T ends at the point's T.
        targets: names of hardware targets; or profiles, as targets.override changes them, each
            under a name of its own.
        max_loss: percentage points of the figure (accuracy) that the recommended point may lose
            against the ANN.
        cheapest: what the recommended point has least of: "reads", bits of weights that its
            operations read (operations * width); "steps"; "operations"; "memory"; "energy".
        host_first_layer: as for targets.check: the host runs the populations that the analog input
            drives.
        quantize_effort: "standard" and "best" train each integer network too.
        seed: of that training, and of the recipes given by name.
        batch_size: samples run at once.

    Raises:
        DataError: options out of range, one line for each.
    """

    time_steps: tuple[int, ...] = (2, 4, 8, 16)
    bits: tuple[Bits, ...] = (4, 6, 8)
    recipes: tuple[str, ...] | Mapping[str, Recipe] = ("auto",)
    targets: tuple[str | TargetProfile, ...] = ("generic",)
    max_loss: float = 1.0
    cheapest: Cost = "reads"
    host_first_layer: bool = False
    quantize_effort: LatticeEffort = "quick"
    seed: int = 0
    batch_size: int = 64
    _profiles: Mapping[str, TargetProfile] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        problems = [*self._wrong_numbers(), *self._wrong_recipes()]
        profiles: dict[str, TargetProfile] = {}
        for given in self.targets:
            try:
                found = find_target(given) if isinstance(given, str) else given
            except IcsnnError as error:
                problems.append(f"targets: {error}")
                continue
            if found.name in profiles:
                problems.append(
                    f"targets: {found.name} is given twice; give each profile a name of its own"
                )
            profiles[found.name] = found
        object.__setattr__(self, "_profiles", profiles)
        for name in ("time_steps", "bits", "recipes", "targets"):
            values = list(getattr(self, name))
            if not values:
                problems.append(f"{name}: empty; at least one is needed")
            if name != "targets":  # compared by their names above
                twice = dict.fromkeys(str(value) for value in values if values.count(value) > 1)
                problems += [f"{name}: {value} is given twice" for value in twice]
        if problems:
            unique = dict.fromkeys(plain(problem) for problem in problems)
            raise DataError(Lines("\n".join(unique)))

    @property
    def profiles(self) -> Mapping[str, TargetProfile]:
        """The targets by name."""
        return self._profiles

    def points(self) -> tuple[Point, ...]:
        """Every point, in the order of the table: points of one conversion follow each other."""
        return tuple(
            Point(recipe=name, time_steps=t, bits=bits, target=target)
            for name in self.recipes
            for t in self.time_steps
            for bits in self.bits
            for target in self._profiles
        )

    def recipe(self, point: Point) -> Recipe:
        """The recipe of a point."""
        return self._recipe(point.recipe, point.time_steps)

    def _recipe(self, name: str, time_steps: int) -> Recipe:
        if isinstance(self.recipes, Mapping):
            found = self.recipes[name]
            if isinstance(found.time_steps, int):
                return replace(found, time_steps=time_steps)
        else:
            seed, batch_size = max(self.seed, 0), max(self.batch_size, 1)  # wrong ones are reported
            found = recipe_of(name, time_steps, seed=seed, batch_size=batch_size)
        if found.steps != time_steps:
            least = found.readout_steps[0]
            raise DataError(
                f"recipe {name} for T = {least} to {found.steps} runs for {found.steps} "
                f"steps; give time_steps=({found.steps},), or a recipe with one T"
            )
        return found

    def _wrong_numbers(self) -> Iterator[str]:
        for t in self.time_steps:
            if type(t) is not int or not 1 <= t <= MAX_TIME_STEPS:
                yield f"time_steps: {t!r}; integers from 1 to {MAX_TIME_STEPS:,} are allowed"
        for bits in self.bits:
            if bits != FLOAT and (type(bits) is not int or bits not in WIDTHS):
                yield f"bits: {bits!r}; {WIDTHS[0]} to {WIDTHS[-1]}, or {FLOAT}, are allowed"
        if not math.isfinite(self.max_loss):
            yield f"max_loss: {self.max_loss}; a number of percentage points is needed"
        for name, kind in (("cheapest", Cost), ("quantize_effort", LatticeEffort)):
            if getattr(self, name) not in get_args(kind):
                allowed = ", ".join(get_args(kind))
                yield f"{name}: {getattr(self, name)!r}; {allowed} are allowed"
        if self.seed < 0 or self.batch_size < 1:
            yield f"seed {self.seed}, batch_size {self.batch_size}: at least 0 and 1 are needed"

    def _wrong_recipes(self) -> Iterator[str]:
        for name in self.recipes:
            problems: dict[str, None] = {}
            for t in self.time_steps:
                if type(t) is int and 1 <= t <= MAX_TIME_STEPS:  # others are reported as such
                    try:
                        self._recipe(name, t)
                    except IcsnnError as error:
                        problems[str(error)] = None
            yield from (f"recipes: {problem}" for problem in problems)
