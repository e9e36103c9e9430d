"""Pareto fronts and the recommendation, on rows with known figures."""

from __future__ import annotations

from typing import Any

from icsnn_deploy.sweeping.choice import pareto_front, recommend
from icsnn_deploy.sweeping.options import Point
from icsnn_deploy.sweeping.rows import Measured, Row

_FIGURES: dict[str, Any] = {
    "figure": "top-1 accuracy",
    "images": 100,
    "ann_value": 99.0,
    "agreement": None,
    "over_time": (),
    "agreement_over_time": (),
    "spikes": 1.0,
    "low_nanojoule": 1.0,
    "high_nanojoule": 2.0,
    "activity_samples": 64,
    "misfits": (),
    "over": "",
    "cores": None,
    "method": "",
    "lattice": "",
    "folder": "networks/x",
    "graph_hash": "",
}


def row(
    value: float,
    *,
    steps: int = 4,
    acs: float = 100.0,
    bits: int = 8,
    memory: int = 10,
    **more: Any,
) -> Row:
    """A measured row of the target speck."""
    fits = more.pop("fits", True)
    misfits = () if fits else ("conv1: weight width: 8 bits, allowed: 4 bits. Quantize it.",)
    figures = {**_FIGURES, "misfits": misfits, **more}
    measured = Measured(
        value=value,
        acs=acs,
        macs=10.0,
        memory_bits=memory,
        narrowest=bits,
        widest=bits,
        fits=fits,
        **figures,
    )
    point = Point(recipe="opi", time_steps=steps, bits=bits, target="speck")
    return Row(point=point, measured=measured)


def failed(reason: str) -> Row:
    return Row(point=Point(recipe="opi", time_steps=1, bits=2, target="speck"), error=reason)


def chosen(*rows: Row, max_loss: float = 1.0, cost: Any = "reads") -> tuple[Row | None, str]:
    choice = recommend(rows, "speck", max_loss=max_loss, cost=cost)
    return choice.row, choice.reason


def test_the_front_has_what_no_other_point_beats() -> None:
    cheap, middle, best = row(90, acs=10), row(95, acs=20), row(97, acs=40)
    worse, dear, equal = row(94, acs=30), row(97, acs=50), row(90, acs=10)
    front = pareto_front([dear, worse, best, cheap, middle, equal, failed("no")], "operations")
    assert front == [cheap, middle, best]
    assert front[0] is cheap


def test_the_front_leaves_out_what_does_not_fit_unless_nothing_fits() -> None:
    fitting, over = row(90, acs=10), row(98, acs=5, fits=False)
    assert pareto_front([fitting, over], "operations") == [fitting]
    assert pareto_front([over], "operations") == [over]


def test_the_cheapest_of_those_that_lose_little_and_fit_is_recommended() -> None:
    lossy = row(97.9, acs=1)
    narrow = row(98.0, acs=100, bits=4)  # loses exactly what is allowed
    wide = row(99.0, acs=99, bits=8)
    misfit = row(99.0, acs=1, fits=False)
    found, reason = chosen(lossy, wide, narrow, misfit, failed("no"))
    assert found is narrow
    assert reason == (
        "loses 1.00 points, at most 1 are allowed; the cheapest of 2 by bits of weights read per "
        "sample"
    )


def test_each_cost_chooses_by_itself() -> None:
    few = row(98.5, steps=1, acs=500, memory=30, high_nanojoule=9.0)
    small = row(98.5, steps=8, acs=600, memory=5, high_nanojoule=8.0)
    quiet = row(98.5, steps=9, acs=50, memory=40, high_nanojoule=7.0)
    frugal = row(98.5, steps=9, acs=60, memory=40, high_nanojoule=1.0)
    rows = (few, small, quiet, frugal)
    found = {cost: chosen(*rows, cost=cost)[0] for cost in ("steps", "memory", "operations")}
    assert found == {"steps": few, "memory": small, "operations": quiet}
    assert chosen(*rows, cost="energy")[0] is frugal


def test_equal_costs_are_told_apart_by_the_loss() -> None:
    worse, better = row(98.2), row(98.6)
    assert chosen(worse, better)[0] is better


def test_without_a_point_the_reason_names_what_comes_closest() -> None:
    found, reason = chosen(row(90, steps=2), row(95, steps=16))
    assert found is None
    assert "the best (opi, T = 16, 8 bits) loses 4.00" in reason
    found, reason = chosen(row(99, fits=False))
    assert found is None
    assert "no point fits" in reason
    assert "weight width" in reason
    found, reason = chosen(failed("conversion: no certificate"))
    assert found is None
    assert reason == "nothing could be measured: conversion: no certificate"


def test_rows_of_other_targets_are_not_looked_at() -> None:
    assert recommend([row(99)], "loihi2", max_loss=1, cost="steps").row is None
