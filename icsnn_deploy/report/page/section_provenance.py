"""Where the network comes from: hashes, files and versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.report.page.document import Section, Table
from icsnn_deploy.report.page.measures import BundleMeasures
from icsnn_deploy.report.page.wording import size

_LONGEST = 200  # characters of a value
_MOST = 60


def provenance_section(m: BundleMeasures, bundle: Bundle, prefix: str) -> Section:
    """Hashes, origin, files and versions."""
    facts = [
        ("network", bundle.graph_hash),
        ("ANN", bundle.ann_hash or "none: the network was not converted from one"),
        ("written by", m.producer),
        ("samples", m.samples_from),
        *(("read with", f"{name} {number}") for name, number in m.versions.items()),
    ]
    origin = [(key, _text(value)) for key, value in m.evaluation.graph.provenance.items()]
    files = [
        (name, size(entry.size), entry.sha256) for name, entry in bundle.manifest.files.items()
    ]
    losses = [(name, loss) for name, lost in bundle.manifest.losses.items() for loss in lost]
    tables = [
        Table(caption="Hashes and versions", columns=("what", "value"), rows=tuple(facts)),
        Table(
            caption="What the network records of its origin",
            columns=("key", "value"),
            rows=tuple(origin[:_MOST]),
            folded=True,
        ),
        Table(
            caption="Files of the bundle",
            columns=("file", "size", "sha256"),
            rows=tuple(files[:_MOST]),
            folded=True,
            words=frozenset({0, 2}),
        ),
    ]
    if losses:
        tables.append(
            Table(
                caption="What exports can't express", columns=("format", "loss"), rows=tuple(losses)
            )
        )
    words = frozenset({0, 1})
    return Section(
        anchor=f"{prefix}provenance",
        title="Provenance",
        items=tuple(
            t if t.columns[0] == "file" else Table(**{**vars(t), "words": words}) for t in tables
        ),
    )


def _text(value: Any) -> str:
    """A JSON value in one line, cut where it is long."""
    if isinstance(value, Mapping):
        text = ", ".join(f"{key}: {inner}" for key, inner in list(value.items())[:_MOST])
    else:
        text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
