"""The result of a sweep: rows, fronts and choices, as JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from icsnn_deploy.sweeping.choice import FRONT_COSTS, Choice, pareto_front, recommend
from icsnn_deploy.sweeping.options import Cost, Point, SweepOptions
from icsnn_deploy.sweeping.rows import Measured, Row

_POINT = tuple(field.name for field in fields(Point))
_OVER_TIME = ("over_time", "agreement_over_time")  # in JSON alone
_MEASURED = tuple(f.name for f in fields(Measured) if f.name not in _OVER_TIME)
COLUMNS = (
    *_POINT,
    *("loss", "operations", "recommended"),
    *(f"front_{cost}" for cost in FRONT_COSTS),
    *_MEASURED,
    "error",
)
"""Columns of the CSV."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepResult:
    """The table of a sweep.

    Args:
        rows: one per point, in the order of the grid.
        options: of the sweep.
        images: samples that were measured.
        about: software and hashes that the figures depend on.
    """

    rows: tuple[Row, ...]
    options: SweepOptions
    images: int
    about: Mapping[str, str]

    def __repr__(self) -> str:
        found = [f"{c.target}: {c.row.point if c.row else 'none'}" for c in self.choices]
        return f"<SweepResult: {len(self.rows)} points, recommended {'; '.join(found)}>"

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def of_target(self, target: str) -> list[Row]:
        """The rows of one target."""
        return [row for row in self.rows if row.target == target]

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The recommendation for each target."""
        return tuple(
            recommend(self.rows, target, max_loss=self.options.max_loss, cost=self.options.cheapest)
            for target in self.options.profiles
        )

    @cached_property
    def fronts(self) -> dict[tuple[str, Cost], list[Row]]:
        """The Pareto front of each target, against each of FRONT_COSTS."""
        return {
            (target, cost): pareto_front(self.of_target(target), cost)
            for target in self.options.profiles
            for cost in FRONT_COSTS
        }

    def is_recommended(self, row: Row) -> bool:
        """Whether a row is the choice for its target."""
        return any(choice.row is row for choice in self.choices)

    def on_front(self, row: Row, cost: Cost) -> bool:
        """Whether a row is on the front of its target."""
        return any(row is other for other in self.fronts[row.target, cost])

    def to_json(self) -> dict[str, Any]:
        """JSON values; they do not depend on times, processes and interruptions."""
        return {
            "images": self.images,
            "max_loss": self.options.max_loss,
            "cheapest": self.options.cheapest,
            "host_first_layer": self.options.host_first_layer,
            **self.about,
            "recommended": {
                choice.target: {
                    "point": choice.row and choice.row.to_json(),
                    "reason": choice.reason,
                }
                for choice in self.choices
            },
            "rows": [
                {
                    **row.to_json(),
                    "recommended": self.is_recommended(row),
                    "front": [cost for cost in FRONT_COSTS if self.on_front(row, cost)],
                }
                for row in self.rows
            ],
        }

    def to_csv(self) -> str:
        """One line per point, with everything that is known of it."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            values = {name: value for name, value in row.to_json().items() if name in COLUMNS}
            if "misfits" in values:
                values["misfits"] = "; ".join(values["misfits"])
            fronts = {f"front_{cost}": int(self.on_front(row, cost)) for cost in FRONT_COSTS}
            writer.writerow({**values, **fronts, "recommended": int(self.is_recommended(row))})
        return text.getvalue()
