"""Render a page as Markdown, for a pull request: tiles and tables, without pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from icsnn_deploy.report.page.document import Item, Page, Section, Table, Text, Tiles

_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~&@$-])")
_MARKS = {"good": "✓ ", "bad": "✗ "}


def render_markdown(page: Page) -> str:
    """The Markdown of a page; tables that are folded on the page stay folded."""
    lines = [f"## {escape(page.title)}", "", escape(page.lead), ""]
    for section in page.sections:
        lines += _section(section, 3)
    if page.foot:
        lines += ["---", escape(page.foot)]
    return "\n".join(lines).rstrip() + "\n"


def escape(text: str) -> str:
    """A text in one line, which Markdown and HTML take literally."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return _MARKUP.sub(r"\\\1", plain).replace("\\<", "&lt;").replace("\\>", "&gt;")


def _section(section: Section, level: int) -> Iterator[str]:
    parts = [line for item in section.items for line in _item(item)]
    inner = [line for each in section.sections for line in _section(each, level + 1)]
    if parts or inner:
        yield from (f"{'#' * level} {escape(section.title)}", "")
        yield from parts
        yield from inner


def _item(item: Item) -> Iterator[str]:
    if isinstance(item, Tiles):
        figures = [
            (tile.label, f"{_MARKS.get(tile.tone, '')}{tile.value}", tile.note)
            for tile in item.tiles
        ]
        yield from _rows(("", "", ""), figures, {0, 1, 2})
    elif isinstance(item, Text):
        yield from (f"- {escape(line)}" for line in item.lines)
        yield ""
    elif isinstance(item, Table):
        if item.folded:
            yield from (f"<details><summary>{escape(item.caption)}</summary>", "")
        else:
            yield from (f"{escape(item.caption)}:", "")
        tones = item.tones or ("",) * len(item.rows)
        rows = [
            (f"{_MARKS.get(tone, '')}{row[0]}", *row[1:])
            for tone, row in zip(tones, item.rows, strict=True)
        ]
        yield from _rows(item.columns, rows, item.words)
        if item.folded:
            yield from ("</details>", "")


def _rows(
    columns: Sequence[str], rows: Sequence[Sequence[str]], words: set[int] | frozenset[int]
) -> Iterator[str]:
    yield f"| {' | '.join(map(escape, columns))} |"
    yield f"|{'|'.join('---' if n in words else '--:' for n in range(len(columns)))}|"
    yield from (f"| {' | '.join(map(escape, row))} |" for row in rows)
    yield ""
