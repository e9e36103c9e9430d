"""Draw a plot with matplotlib, as an SVG element in the colors of the page.

Each color of a plot is a placeholder that becomes a variable of the page's style (style.css), so
that one picture serves light and dark screens and print. Texts stay texts: they can be read,
searched and scaled. The same plot gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.report.page.render import INSTALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"
GOOD, BAD, OPEN = "#050505", "#060606", "#070707"
SERIES = tuple(f"#08080{n}" for n in range(8))
"""Placeholders: of the text, of what is less important, of grid lines, of the background; of what
succeeds, fails and is open; and of the things that a plot compares."""

_VARIABLES = {
    INK: "ink",
    SOFT: "soft",
    RULE: "rule",
    PAPER: "paper",
    GOOD: "good",
    BAD: "bad",
    OPEN: "open",
    **{color: f"c{n}" for n, color in enumerate(SERIES)},
}
WIDTH = 3.4  # inches: 326 pixels, which fit on a screen of 360
LINE = 0.22  # inches, of a row with text
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names are names, also with a dollar sign
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "font.size": 9.0,  # points: 12 pixels
    "axes.labelsize": 9.0,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
    "hatch.color": BAD,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}


def drawn(
    name: str, draw: Callable[[Axes], object], *, width: float = WIDTH, height: float = 2.3
) -> str:
    """An <svg> element with one plot.

    Args:
        name: of the picture; names within the element differ between pictures of other names.
        draw: draws into the axes that it is given.
        width, height: inches, of 96 pixels on the page.

    Raises:
        BackendUnavailableError: matplotlib is not installed; names the command to run.
    """
    require_matplotlib()
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return _element(content.getvalue())


def require_matplotlib() -> None:
    """Raise BackendUnavailableError, which names the command to run, without matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BackendUnavailableError(
            f"pictures are drawn with matplotlib, which is not installed; run: {INSTALL}"
        ) from error


def _element(text: str) -> str:
    """The <svg> element of a file, in the colors of the page and without what it does not need."""
    element = text[text.index("<svg") :].rstrip()
    element = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", element, flags=re.DOTALL)
    element = re.sub(r"<[^>]*>", lambda tag: _tag(tag[0]), element)  # texts stay as they are
    element = re.sub(r">\s+<", "><", element)
    return element.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)


def _tag(tag: str) -> str:
    for color, variable in _VARIABLES.items():
        tag = tag.replace(color, f"var(--{variable})")
    tag = re.sub(r' (id="[A-Za-z0-9.]+_\d+"|xmlns:\w+="[^"]*"|version="[^"]*")', "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", tag)
    tag = re.sub(r"font-family: [^;\"]*; ", "", tag).replace("xlink:href", "href")
    tag = re.sub(r"(\d\.\d\d)\d+", r"\1", tag)
    return re.sub(r"\s*\n\s*", " ", tag)
