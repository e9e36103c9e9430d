"""Which points are worth a look, and which is the cheapest that loses little and fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from icsnn_deploy.sweeping.options import Cost
from icsnn_deploy.sweeping.rows import Measured, Row

FRONT_COSTS: tuple[Cost, ...] = ("steps", "operations", "memory")
"""What a figure is drawn against."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The recommendation for one target.

    Args:
        target: its name.
        row: the cheapest point that loses at most max_loss and fits; None where there is none.
        reason: why it is this one, or why there is none, as one sentence.
    """

    target: str
    row: Row | None
    reason: str


def pareto_front(rows: Sequence[Row], cost: Cost) -> list[Row]:
    """The rows that no other beats, by ascending cost: each reaches more than all before it.

    Only rows that fit their target are compared; where none fits, all that were measured. Of rows
    of equal cost and figure, the first is taken.
    """
    compared = [row for row in rows if row.fits] or rows
    measured = [(row, row.measured) for row in compared if row.measured is not None]
    measured.sort(key=lambda one: (one[0].cost(cost), -one[1].value))
    front: list[Row] = []
    best = float("-inf")
    for row, found in measured:
        if found.value > best:
            front.append(row)
            best = found.value
    return front


def recommend(rows: Sequence[Row], target: str, *, max_loss: float, cost: Cost) -> Choice:
    """The cheapest row of a target that loses at most max_loss percentage points and fits.

    Equal rows are told apart by the loss, T and memory, and then by their order.
    """
    own = [(row, row.measured) for row in rows if row.target == target]
    measured = [(row, found) for row, found in own if found is not None]
    fitting = [one for one in measured if one[1].fits]
    # a loss of exactly max_loss, as a difference of two percentages, may be off by rounding
    good = [one for one in fitting if one[1].loss <= max_loss + 1e-9]
    if good:
        row, found = min(good, key=lambda one: _order(one, cost))
        return Choice(
            target=target,
            row=row,
            reason=f"loses {found.loss:.2f} points, at most {max_loss:g} are allowed; the "
            f"{'only one' if len(good) == 1 else f'cheapest of {len(good)}'} by {COSTS[cost]}",
        )
    if not measured:
        reason = own[0][0].error if own else "no point"
        return Choice(target=target, row=None, reason=f"nothing could be measured: {reason}")
    if not fitting:
        row, found = min(measured, key=lambda one: (len(one[1].misfits), _order(one, cost)))
        return Choice(
            target=target,
            row=None,
            reason=f"no point fits; the closest ({row.recipe}, T = {row.time_steps}, {row.bits} "
            f"bits) has {len(found.misfits)} misfit{'s' * (len(found.misfits) != 1)}: "
            f"{found.misfits[0] if found.misfits else ''}",
        )
    row, found = min(fitting, key=lambda one: (one[1].loss, _order(one, cost)))
    return Choice(
        target=target,
        row=None,
        reason=f"no point that fits loses at most {max_loss:g} points; the best ({row.recipe}, "
        f"T = {row.time_steps}, {row.bits} bits) loses {found.loss:.2f}",
    )


COSTS: dict[Cost, str] = {
    "reads": "bits of weights read per sample",
    "steps": "time steps",
    "operations": "synaptic operations per sample",
    "memory": "memory of the parameters",
    "energy": "estimated energy per sample",
}
"""How costs are called."""


def _order(one: tuple[Row, Measured], cost: Cost) -> tuple[float, ...]:
    row, found = one
    return (row.cost(cost), found.loss, row.time_steps, found.memory_bits)
