"""The fits of smooth activations and products as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOST_COSTLY = 5


def approximation_lines(record: Mapping[str, Any]) -> list[str]:
    """How far the fitted network is from the model, and the fits that cost most.

    Args:
        record: as frontend.approximate.measures.record_of gives it; empty without fits.
    """
    if not record:
        return []
    fits, lines = record["fits"], []
    for name, one in record["outputs"].items():
        where = "outputs differ" if len(record["outputs"]) == 1 else f"output {name} differs"
        same, r2 = one["agreement"], one.get("r2")
        lines.append(
            f"          {where} from the model by {_percent(one['rms'])} of their range (rms; "
            f"largest {_percent(one['largest'])})"
            + ("" if same is None else f", same class for {same:.1%}")
            + ("" if r2 is None else f", R^2 {r2:.4f}")
            + f" of {_measured_on(record)}"
        )
    costly = sorted(fits, key=lambda fit: -fit["alone"])[:_MOST_COSTLY]
    lines += [
        f"          {fit['name']} ({fit['operator']}): {_percent(fit['error'])} of its range, "
        f"which alone changes the outputs by {_percent(fit['alone'])}"
        for fit in costly
    ]
    return lines


def _measured_on(record: Mapping[str, Any]) -> str:
    if record["held_out_samples"]:
        return f"{record['held_out_samples']} held-out samples"
    return f"{record['fit_samples']} samples, which the fits saw: there are too few to hold any out"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
