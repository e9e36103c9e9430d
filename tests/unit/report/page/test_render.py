"""A page as HTML and as Markdown: whole, in one file, and no text of it is taken as markup."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.report.page import render
from icsnn_deploy.report.page.charts import Curve, Series, bars, curves
from icsnn_deploy.report.page.document import (
    Gallery,
    Page,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
    Thumbnail,
    Tile,
    Tiles,
    without_empty_columns,
)
from icsnn_deploy.report.page.drawing import SERIES, drawn, require_matplotlib
from icsnn_deploy.report.page.markdown import render_markdown
from icsnn_deploy.report.page.render import render_page

HOSTILE = "<script>alert(1)</script>\"'&`|[x](http://x)$\\frac{"


def page(text: str = HOSTILE) -> Page:
    """A page that has the text in every place."""
    svg = drawn(text, lambda axes: axes.set_xlabel(text))
    table = Table(caption=text, columns=(text, text), rows=((text, text),), tones=("good",))
    picture = Picture(svg=svg, caption=text, alt=text, table=table)
    image = Thumbnail(png=b"\x89PNG", alt=text, lines=(text,), tone="bad")
    items = (
        Tiles(tiles=(Tile(label=text, value=text, note=text),)),
        Text(lines=(text,)),
        Text(lines=(text, text)),
        table,
        Table(caption=text, columns=(text,), rows=((text,),), folded=True),
        Pictures(pictures=(picture,)),
        Gallery(caption=text, thumbnails=(image,)),
    )
    inner = Section(anchor="inner", title=text, items=items[:1])
    section = Section(anchor="one", title=text, lead=text, items=items, sections=(inner,))
    return Page(title=text, lead=text, sections=(section,), foot=text)


class Tags(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, []).append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_no_text_of_a_page_is_taken_as_html() -> None:
    plain, hostile = Tags(render_page(page("plain"))), Tags(render_page(page()))
    assert "script" not in hostile.tags
    assert hostile.tags == plain.tags
    assert HOSTILE in hostile.text
    assert set(hostile.attributes["aria-label"]) == {HOSTILE, "Sections"}
    assert not [name for name in hostile.attributes if name.startswith("on")]


def test_a_page_needs_no_other_file_and_runs_nothing() -> None:
    found = Tags(render_page(page("plain")))
    addresses = [*found.attributes["href"], *found.attributes["src"]]
    assert all(each.startswith(("#", "data:")) for each in addresses)
    assert any(each.startswith("default-src 'none'") for each in found.attributes["content"])
    assert "script" not in found.tags
    assert (
        "url(" not in Path(render.__file__).with_name("templates").joinpath("style.css").read_text()
    )


def test_the_same_page_gives_the_same_bytes() -> None:
    assert render_page(page()) == render_page(page())


def test_markdown_takes_every_text_literally() -> None:
    text = render_markdown(page())
    assert "<script" not in text
    assert "](http" not in text
    plain = render_markdown(page("plain"))
    shape = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()]
    assert shape == [line.count("|") for line in plain.splitlines()]


def test_markdown_marks_rows_and_folds_what_the_page_folds() -> None:
    text = render_markdown(page("plain"))
    assert "| ✓ plain | plain |" in text
    assert text.count("<details>") == text.count("</details>") == 1


def test_names_are_drawn_as_they_are() -> None:
    name = "a $x$ _b 0.123456 #080800"
    svg = drawn("names", lambda axes: axes.set_xlabel(name))
    assert f">{name}<" in svg


def test_a_plot_takes_its_colors_from_the_page() -> None:
    svg = drawn("colors", lambda axes: axes.plot([0, 1], [0, 1], color=SERIES[0]))
    assert "var(--c0)" in svg
    colors = set(re.findall(r"#[0-9a-fA-F]{6}\b", svg))
    assert colors == set()
    assert "xmlns:" not in svg
    assert "font-family" not in svg


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("jinja2", lambda: render_page(page("plain"))),
        ("matplotlib", require_matplotlib),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, module: str, use: object
) -> None:
    render.environment.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'icsnn-deploy\[report\]'"):
        use()  # type: ignore[operator]
    render.environment.cache_clear()


def test_columns_that_hold_nothing_are_left_out() -> None:
    table = Table(
        caption="t", columns=("a", "b", "c"), rows=(("1", "", "x"),), words=frozenset({0, 2})
    )
    kept = without_empty_columns(table)
    assert kept == Table(
        caption="t", columns=("a", "c"), rows=(("1", "x"),), words=frozenset({0, 1})
    )


def test_the_label_of_an_axis_is_not_cut_where_its_ticks_are_wide() -> None:
    x, y = [5.53, 5.97, 6.3, 7.62], [87.5, 92.0, 92.5, 92.5]
    table = Table(caption="t", columns=("a",), rows=())
    curve = Curve(label="", x=x, y=y, band=([82.2, 87.5, 88.0, 88.0], [91.4, 95.0, 95.4, 95.4]))
    svg = curves(
        "exit", [curve], axes_labels=("steps", "accuracy"), caption="c", alt="a", table=table
    ).svg
    baseline = re.search(r'<text[^>]* x="([\d.]+)"[^>]*rotate\(-90[^>]*>accuracy<', svg)
    assert baseline is not None
    assert float(baseline[1]) > 6  # points: the height of a letter


def test_of_many_bars_the_first_are_drawn() -> None:
    names = [f"layer {n}" for n in range(1000)]
    table = Table(caption="t", columns=("a",), rows=())
    found = bars(
        "many", names, [Series(label="", values=[1.0] * 1000)], axis="x", caption="c", alt="a",
        table=table,
    )  # fmt: skip
    assert found.caption == "c; the first 200 of 1,000"
    assert ">layer 199<" in found.svg
    assert ">layer 200<" not in found.svg
