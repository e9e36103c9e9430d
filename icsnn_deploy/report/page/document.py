"""What a page consists of, without any markup: sections, and what they show in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

Tone = Literal["", "good", "bad", "open"]
"""How a value is marked: not at all, as a success, as a failure, as not measured."""

Cell = str
"""The text of a table's cell, as it is shown."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure of a summary.

    Args:
        label: what it is.
        value: the figure with its unit.
        note: a line below it.
        tone: how it is marked; the value says the same in words.
    """

    label: str
    value: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Figures side by side."""

    kind: ClassVar[str] = "tiles"

    tiles: tuple[Tile, ...]


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph; several lines are shown as a list."""

    kind: ClassVar[str] = "text"

    lines: tuple[str, ...]
    tone: Tone = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a caption.

    Args:
        caption: what it shows, a sentence or less.
        columns: heads; the first column names the rows.
        rows: cells, as many as columns.
        tones: of the rows; empty marks none.
        folded: shown only when it is opened.
        words: columns of text, which are aligned left; all others are numbers.
    """

    kind: ClassVar[str] = "table"

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    tones: tuple[Tone, ...] = ()
    folded: bool = False
    words: frozenset[int] = frozenset({0})


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot, with what it shows in words and in numbers.

    Args:
        svg: an <svg> element, made by drawing.drawn, which escapes every text.
        caption: what it shows.
        alt: what a reader sees in it, for those who do not see it.
        table: the numbers that are plotted.
        wide: wider than a narrow screen: it scrolls within its frame.
        narrow: as narrow as its plot, so that more of them stand side by side.
    """

    kind: ClassVar[str] = "picture"

    svg: str
    caption: str
    alt: str
    table: Table
    wide: bool = False
    narrow: bool = False


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Plots side by side, as many as fit."""

    kind: ClassVar[str] = "pictures"

    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A small image of a sample.

    Args:
        png: content of the file.
        alt: what it is.
        lines: below it.
        tone: how it is marked.
    """

    png: bytes
    alt: str
    lines: tuple[str, ...]
    tone: Tone = ""


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Small images of samples."""

    kind: ClassVar[str] = "gallery"

    caption: str
    thumbnails: tuple[Thumbnail, ...]


Item = Tiles | Text | Table | Pictures | Gallery


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page with a heading.

    Args:
        anchor: its address on the page: letters, digits and hyphens.
        title: its heading.
        lead: a sentence or two below it.
        items: in the order in which they are shown.
        sections: parts of it.
        listed: its parts stand in the navigation, too.
    """

    anchor: str
    title: str
    lead: str = ""
    items: tuple[Item, ...] = ()
    sections: tuple[Section, ...] = ()
    listed: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page.

    Args:
        title: of the page.
        lead: a sentence or two below it.
        sections: its parts; the navigation lists them.
        foot: one line at the end.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]
    foot: str = ""


def without_empty_columns(table: Table) -> Table:
    """The table without the columns that hold nothing."""
    kept = [n for n in range(len(table.columns)) if any(row[n] for row in table.rows)]
    return replace(
        table,
        columns=tuple(table.columns[n] for n in kept),
        rows=tuple(tuple(row[n] for n in kept) for row in table.rows),
        words=frozenset(at for at, n in enumerate(kept) if n in table.words),
    )


def pictures(found: Sequence[Picture | None]) -> tuple[Item, ...]:
    """The pictures that there are, as one item; none if there is none."""
    kept = tuple(picture for picture in found if picture is not None)
    return (Pictures(pictures=kept),) if kept else ()
