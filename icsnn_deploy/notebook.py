"""What notebooks show of an object: its line, and a table below it, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice

_MOST_ROWS = 60


def object_html(
    line: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, count: int | None = None
) -> str:
    """The HTML of an object; every text is escaped.

    Args:
        line: that says what it is, as repr gives it.
        columns: heads of the table.
        rows: cells; the first 60 are shown.
        count: how many rows there are, where it is not the number of `rows`.
    """
    shown = [[str(cell) for cell in row] for row in islice(rows, _MOST_ROWS)]
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in shown
    )
    more = (count or 0) - len(shown)
    rest = f"<p>and {more:,} more</p>" if more > 0 else ""
    return (
        f"<div><p><code>{escape(line)}</code></p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{rest}</div>"
    )
