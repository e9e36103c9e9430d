"""The comparison of backends with the reference, and where one first differs."""

from __future__ import annotations

from icsnn_deploy.report.page.document import (
    Item,
    Section,
    Table,
    Text,
    Tone,
    pictures,
    without_empty_columns,
)
from icsnn_deploy.report.page.measures import BundleMeasures
from icsnn_deploy.report.page.section_samples import trace_picture
from icsnn_deploy.report.page.wording import number


def parity_section(m: BundleMeasures, prefix: str) -> Section:
    """A row per backend; the first difference of each in words, and drawn."""
    parity = m.parity
    anchor, title = f"{prefix}parity", "Parity"
    if not parity.comparisons and not parity.failed:
        lines = ("No backend was compared with the reference.",)
        return Section(anchor=anchor, title=title, items=(Text(lines=lines, tone="open"),))
    different = [c for c in parity.comparisons if c.first_divergence is not None]
    items: list[Item] = [_table(m)]
    if different:
        where = [f"{c.backend} first differs at {c.first_divergence}" for c in different]
        items.append(Text(lines=tuple(where)))
    elif parity.comparisons:
        items.append(Text(lines=("No backend differs in any spike.",), tone="good"))
    else:
        items.append(Text(lines=("No backend ran.",), tone="open"))
    items += pictures(
        [
            trace_picture(trace, prefix, f"parity-{name}")
            for name, trace in parity.divergences.items()
        ]
    )
    return Section(
        anchor=anchor,
        title=title,
        lead=(
            f"Each backend against the reference simulator, spike by spike, on {parity.samples:,} "
            "samples."
        ),
        items=tuple(items),
    )


def _table(m: BundleMeasures) -> Table:
    rows: list[tuple[str, ...]] = []
    tones: list[Tone] = []
    for c in m.parity.comparisons:
        rows.append(
            (
                c.backend,
                c.verdict,
                f"{c.spikes_compared:,}",
                f"{c.spike_mismatches:,}",
                f"{c.images_affected:,}",
                "" if c.worst_relative_margin is None else f"{c.worst_relative_margin:.1e}",
                number(c.max_abs_logit_difference, 2),
                c.reason,
            )
        )
        tones.append("good" if c.verdict == "pass" else "bad")
    for name, reason in m.parity.failed.items():
        rows.append((name, "not run", "", "", "", "", "", reason))
        tones.append("open")
    return without_empty_columns(
        Table(
            caption="Backends",
            columns=(
                "backend",
                "verdict",
                "spikes",
                "differ",
                "samples that differ",
                "margin",
                "largest logit difference",
                "why",
            ),
            rows=tuple(rows),
            tones=tuple(tones),
            words=frozenset({0, 1, 7}),
        )
    )
