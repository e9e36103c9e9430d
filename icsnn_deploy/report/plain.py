"""The style of every table."""

from __future__ import annotations

from rich import box
from rich.table import Table


def plain_table(title: str) -> Table:
    """A table with a rule below its header only, so that eight columns fit in eighty characters."""
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
