"""What each stage of the conversion and of the quantization gave, from the bundle's report.json.

That file comes from elsewhere: what it does not hold in the expected form is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from icsnn_deploy.report.layer_errors import errors_of_layers
from icsnn_deploy.report.page.charts import Curve, Series, bars, curves
from icsnn_deploy.report.page.document import (
    Item,
    Picture,
    Section,
    Table,
    Text,
    pictures,
    without_empty_columns,
)
from icsnn_deploy.report.page.drawing import GOOD, SERIES
from icsnn_deploy.report.page.measures import BundleMeasures
from icsnn_deploy.report.page.wording import number, percent

_MOST = 40
"""Candidates and curves that are shown, at most."""


def conversion_section(m: BundleMeasures, prefix: str) -> Section:
    """Candidates, the errors of layers, curves of training, and the integer network's stages."""
    record = m.record
    items: list[Item] = [_what(record)]
    candidates = [each for each in map(_candidate, _list(record, "candidates")) if each][:_MOST]
    chosen = str(_mapping(record, "chosen").get("method", ""))
    if candidates:
        items.append(_candidates(candidates, chosen))
    found = [
        _divergences(candidates, chosen, prefix) if candidates else None,
        _layer_errors(record, prefix),
        _training(record, prefix),
    ]
    lattice = _mapping(record, "lattice")
    items += pictures(found)
    if lattice:
        items += _lattice(lattice)
    return Section(
        anchor=f"{prefix}conversion",
        title="Conversion, stage by stage",
        lead=(
            "Candidates are compared with the ANN on calibration samples that were held out; the "
            "one of least divergence is chosen."
        ),
        items=tuple(items),
    )


def _what(record: Mapping[str, Any]) -> Text:
    lines = []
    if "recipe" in record:
        counts = (
            ("time_steps", "T = {}"),
            ("calibration_samples", "{} calibration samples"),
            ("held_out_samples", "{} of them held out"),
        )
        known = [text.format(record[key]) for key, text in counts if key in record]
        lines.append(", ".join([f"recipe {record['recipe']}", *known]))
        if (seconds := _number(record.get("seconds"))) is not None:
            lines.append(f"the conversion took {seconds:.1f} s")
    elif "imported_from" in record:
        lines.append(f"imported from {record['imported_from']}, not converted")
    losses = record.get("losses")
    if isinstance(losses, list):
        lines += [f"changed on request: {loss}" for loss in losses]
    return Text(lines=tuple(lines) or ("The bundle does not record how its network was made.",))


def _candidate(value: Any) -> tuple[str, float | None, float, float | None, float | None] | None:
    """(method, agreement, divergence, gap error, seconds) of a candidate."""
    if not isinstance(value, Mapping):
        return None
    divergence = _number(value.get("divergence"))
    if divergence is None:
        return None
    rest = (_number(value.get(key)) for key in ("agreement", "gap_error", "seconds"))
    agreement, gap_error, seconds = rest
    return str(value.get("method", "")), agreement, divergence, gap_error, seconds


def _candidates(found: Sequence[Any], chosen: str) -> Table:
    return without_empty_columns(
        Table(
            caption="Candidates, in the order in which they were tried; the chosen one is marked",
            columns=("method", "as the ANN", "divergence", "error of the difference", "seconds"),
            rows=tuple(
                (name, percent(agreement), number(divergence, 4), number(gap, 2), number(seconds))
                for name, agreement, divergence, gap, seconds in found
            ),
            tones=tuple("good" if name == chosen else "" for name, *_ in found),
        )
    )


def _divergences(found: Sequence[Any], chosen: str, prefix: str) -> Picture:
    values = [divergence for _, _, divergence, _, _ in found]
    is_chosen = [name == chosen for name, *_ in found]
    best = min(zip(values, (name for name, *_ in found), strict=True))
    return bars(
        f"{prefix}candidates",
        [f"stage {n}" for n in range(1, len(found) + 1)],
        [
            Series(
                label="tried",
                values=[None if c else v for v, c in zip(values, is_chosen, strict=True)],
            ),
            Series(
                label="chosen",
                values=[v if c else None for v, c in zip(values, is_chosen, strict=True)],
                color=GOOD,
            ),
        ],
        axis="divergence from the ANN",
        caption="What each stage gave",
        alt=f"least divergence: {number(best[0], 4)} with {best[1]}",
        table=Table(
            caption="divergence of each stage",
            columns=("stage", "method", "divergence"),
            rows=tuple(
                (str(n), name, number(divergence, 4))
                for n, (name, _, divergence, _, _) in enumerate(found, start=1)
            ),
            words=frozenset({0, 1}),
        ),
        stacked=True,
    )


def _layer_errors(record: Mapping[str, Any], prefix: str) -> Picture | None:
    """What each population adds to the divergence (recipe auto)."""
    left = {
        str(name): value
        for name, given in _mapping(record, "divergence_without").items()
        if (value := _number(given)) is not None
    }
    errors = errors_of_layers(left)
    if not errors:
        return None
    worst = max(errors, key=lambda name: errors[name])
    return bars(
        f"{prefix}layer-errors",
        list(errors),
        [Series(label="", values=list(errors.values()), color=SERIES[1])],
        axis="divergence that the population adds",
        caption="Where the conversion error arises",
        alt=f"most of it in {worst}: {number(errors[worst])}",
        table=Table(
            caption="divergence that each population adds",
            columns=("population", "divergence"),
            rows=tuple((name, number(value)) for name, value in errors.items()),
        ),
    )


def _training(record: Mapping[str, Any], prefix: str) -> Picture | None:
    """The curves of distillation."""
    found, rows = [], []
    for n, (name, points) in enumerate(list(_mapping(record, "curves").items())[:6]):
        values = (
            [
                (step, value)
                for point in points
                if isinstance(point, Mapping)
                and (step := _number(point.get("iteration"))) is not None
                and (value := _number(point.get("training_divergence"))) is not None
                and value > 0
            ]
            if isinstance(points, list)
            else []
        )
        if values:
            found.append(
                Curve(
                    label=f"{n + 1}",
                    x=[step for step, _ in values],
                    y=[value for _, value in values],
                    color=SERIES[n],
                )
            )
            rows += [(f"{n + 1}: {name}", f"{step:,.0f}", number(v, 4)) for step, v in values]
    if not found:
        return None
    return curves(
        f"{prefix}training",
        found,
        axes_labels=("iterations", "divergence from the ANN"),
        caption="Training through the time steps",
        alt=f"from {number(found[0].y[0])} to {number(found[0].y[-1])}",
        table=Table(
            caption="divergence while training",
            columns=("stage", "iteration", "divergence"),
            rows=tuple(rows),
        ),
        log_y=True,
    )


def _lattice(lattice: Mapping[str, Any]) -> list[Item]:
    """The stages of the quantization, and the widths that were chosen."""
    kept = str(lattice.get("kept", ""))
    divergence, agreement = _mapping(lattice, "divergence"), _mapping(lattice, "agreement")
    rows = [
        (str(name), percent(_number(agreement.get(name))), number(_number(value), 4))
        for name, value in list(divergence.items())[:_MOST]
    ]
    bits = _mapping(lattice, "bits")
    widths = [(str(name), str(width)) for name, width in bits.items()]
    return [
        Table(
            caption="Stages of the quantization; the kept one is marked",
            columns=("integer network", "as the ANN", "divergence"),
            rows=tuple(rows),
            tones=tuple("good" if row[0] == kept else "" for row in rows),
        ),
        Table(
            caption="Bits of the weights",
            columns=("connection", "bits"),
            rows=tuple(widths),
            folded=True,
        ),
    ]


def _mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, Mapping) else {}


def _list(record: Mapping[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    return value if isinstance(value, list) else []


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None
