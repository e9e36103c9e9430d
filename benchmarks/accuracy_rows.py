"""The rows of the accuracy table: sweeps of float networks, and rows that are there already."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from accuracy_recipes import depends_on_steps, recipe_of

from icsnn_deploy import SweepOptions, __version__, open_bundle
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.errors import DataError
from icsnn_deploy.progress import Progress
from icsnn_deploy.sweeping.folder import key_of
from icsnn_deploy.sweeping.inputs import SweptModel, array_samples
from icsnn_deploy.sweeping.result import SweepResult
from icsnn_deploy.sweeping.run import run_sweep

Place = tuple[str, int]
"""A row and T."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the table: a recipe at T. Accuracies are percent."""

    recipe: str
    T: int
    loss: float  # ANN accuracy minus that of the network, points
    accuracy: float
    ann_accuracy: float
    agreement: float  # with the ANN's top-1 class
    images: int
    calibration_samples: int
    convert_s: float
    converted_at: int  # T of the conversion; more than T where T has no say in it
    method: str  # the candidate that was taken
    measured_on: str  # hash of the network and the files; rows of others are not shown


Cells = Mapping[Place, Cell]


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The network and the images of one table.

    Args:
        model: with its calibration samples.
        images, labels: that are classified.
        hashes: sha256 of each file.
        out: folder of the sweeps.
        progress: called as each stage advances.
    """

    model: SweptModel
    images: Any
    labels: Any
    hashes: Mapping[str, str]
    out: Path
    progress: Progress

    def measured(self, names: Iterable[str], time_steps: list[int]) -> dict[Place, Cell]:
        """The cells of some rows; a network that serves several T is run once, for the most."""
        cells: dict[Place, Cell] = {}
        for recipes, steps, read in _sweeps(list(names), time_steps):
            result = self._sweep(recipes, steps)
            for row in result:
                for t in read or (row.time_steps,):
                    if _serves(recipes[row.recipe], t):
                        cells[row.recipe, t] = self._cell(result, row.recipe, row.time_steps, t)
        return cells

    def _sweep(self, recipes: Mapping[str, Recipe], steps: list[int]) -> SweepResult:
        options = SweepOptions(time_steps=tuple(steps), bits=("float",), recipes=recipes)
        return run_sweep(
            self.model,
            array_samples(self.images, self.labels),
            options,
            out=self.out,
            progress=self.progress,
        )

    def _cell(self, result: SweepResult, name: str, converted_at: int, t: int) -> Cell:
        row = next(r for r in result if (r.recipe, r.time_steps) == (name, converted_at))
        found = row.measured
        if found is None:
            raise DataError(f"{row.point}: {row.error}")
        accuracy, agreement = found.over_time[t - 1], found.agreement_over_time[t - 1]
        if accuracy is None or agreement is None:
            raise DataError(f"{row.point}: T = {t} is before its readout begins; leave it out")
        return Cell(
            recipe=name,
            T=t,
            loss=found.ann_value - accuracy,
            accuracy=accuracy,
            ann_accuracy=found.ann_value,
            agreement=agreement,
            images=found.images,
            calibration_samples=len(self.model.calibration),
            convert_s=open_bundle(self.out / found.folder).report()["seconds"],
            converted_at=converted_at,
            method=found.method,
            measured_on=self._digest(result),
        )

    def _digest(self, result: SweepResult) -> str:
        """Of the network and the files, without the numbers of samples that are used of them."""
        return key_of({"ann": result.about["ann"], **self.hashes, "version": __version__})


def _sweeps(
    names: list[str], time_steps: list[int]
) -> Iterable[tuple[dict[str, Recipe], list[int], list[int]]]:
    """The sweeps that measure these rows: recipes, T of the conversions, and T that are read."""
    most = max(time_steps)
    found = {name: recipe_of(name, most) for name in names}
    fixed = {n: r for n, r in found.items() if not depends_on_steps(r)}
    for name in [n for n, r in fixed.items() if isinstance(r.time_steps, tuple)]:
        recipe = fixed.pop(name)
        yield {name: recipe}, [recipe.steps], time_steps
    if fixed:
        yield fixed, [most], time_steps
    dependent = {n: r for n, r in found.items() if depends_on_steps(r)}
    if dependent:
        yield dependent, time_steps, []


def _serves(recipe: Recipe, t: int) -> bool:
    """Whether a recipe's network is meant to be read after so many steps."""
    given = recipe.time_steps
    return given[0] <= t <= given[1] if isinstance(given, tuple) else True


def with_kept(cells: Cells, path: Path) -> dict[Place, Cell]:
    """The cells, and those that a table has already of the same network and files.

    Of one place the cell on most images is taken, then that with most calibration samples, then
    the new one.
    """
    own = {cell.measured_on for cell in cells.values()}
    kept = [cell for cell in read_csv(path) if cell.measured_on in own or not own]
    chosen: dict[Place, Cell] = {(cell.recipe, cell.T): cell for cell in kept}
    for place, cell in cells.items():
        if place not in chosen or weight(cell) >= weight(chosen[place]):
            chosen[place] = cell
    return dict(sorted(chosen.items()))


def weight(cell: Cell) -> tuple[int, int]:
    """By which of two cells of one place one is taken, and cells of a table are marked."""
    return cell.images, cell.calibration_samples


def usual_weight(cells: Cells) -> tuple[int, int]:
    """Images and calibration samples of most cells."""
    return Counter(map(weight, cells.values())).most_common(1)[0][0]


def as_csv(cells: Cells) -> str:
    """One line per cell, with everything that is known of it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(Cell)], lineterminator="\n")
    writer.writeheader()
    for _, cell in sorted(cells.items()):
        writer.writerow({name: _shown(value) for name, value in asdict(cell).items()})
    return text.getvalue()


def read_csv(path: Path) -> list[Cell]:
    """The cells of a table; none where there is none. Raises DataError where it is no table."""
    if not path.is_file():
        return []
    kinds = {"str": str, "int": int, "float": float}
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            Cell(**{f.name: kinds[str(f.type)](row[f.name]) for f in fields(Cell)}) for row in rows
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path}: not a table of this script ({type(error).__name__}: {error}); delete it"
        ) from error


def _shown(value: Any) -> Any:
    return f"{value:.2f}" if isinstance(value, float) else value
