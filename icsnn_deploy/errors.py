"""The errors that this package raises on purpose, and the rejection table that several contain.

A message may quote names and texts from files, models and libraries. So every message is made plain
when the error is made: one line without control characters, cut where it is long.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

LONGEST_TEXT, LONGEST_CELL = 2000, 300
"""Characters of a message, and of one entry of a table, that are shown."""

_LINE_BREAK = re.compile(r"\s*[\n\r\v\f\x85\u2028\u2029]+[\s|]*")


class Lines(str):
    """Text of several lines, each of them plain: what `lines` and `rejection_table` return."""

    __slots__ = ()


def plain(text: str, longest: int = LONGEST_TEXT) -> str:
    """The text on one line, without control characters, cut in the middle where it is long.

    Line breaks become " | "; other characters that can't be printed are escaped as in Python.
    """
    if len(text) > longest:
        head, tail = longest * 3 // 4, longest // 4
        text = f"{text[:head]} ... {len(text) - head - tail:,} characters ... {text[-tail:]}"
    if text.isprintable():
        return text
    text = _LINE_BREAK.sub(" | ", text.strip())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def lines(first: str, following: Iterable[str], last: str = "") -> Lines:
    """A line, the lines that follow it, indented, and one more; each is made plain."""
    rows = [
        plain(first),
        *(f"  {plain(row)}" for row in following),
        *([plain(last)] if last else []),
    ]
    return Lines("\n".join(rows))


def said_by(raised: BaseException) -> str:
    """What an exception says; empty where it can't say it."""
    try:
        return str(raised).strip()
    except KeyboardInterrupt:
        raise
    except BaseException:  # str() of an exception by others runs their code
        return ""


def text_of(raised: BaseException) -> str:
    """What an exception says, as plain text; empty where it can't say it."""
    return plain(said_by(raised))


class IcsnnError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        message: made plain, unless it is a table or a list (Lines).
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(message if isinstance(message, Lines) else plain(str(message)))


class DataError(IcsnnError, ValueError):
    """Images, labels, recordings or checkpoints that can't be used as given."""


class GraphError(IcsnnError, ValueError):
    """A network that is not well formed: a wrong shape, a missing source, a cycle, a bad value."""


class ConversionError(IcsnnError):
    """A PyTorch model that can't become an integrate-and-fire network."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """One thing that does not fit: where it is, what was got, what is allowed, what to do."""

    node: str  # path of the module in the user's model, or name of the node in the graph
    got: str
    allowed: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.node} ({self.got}): allowed: {self.allowed}. {self.remedy}"


_WIDTH = 100  # characters per line of a table of rejections


def rejection_table(headline: str, rejections: Sequence[Rejection]) -> Lines:
    """The rejections under a headline, as plain text; those that differ in the node alone as one.

    2 operators of this model have no integrate-and-fire equivalent
      features.3, features.5: GELU
        allowed  ReLU and other piecewise-linear activations
        remedy   Replace it before conversion.
    """
    nodes: dict[tuple[str, str, str], list[str]] = {}
    for one in rejections:
        got, allowed, remedy, node = (
            plain(str(text), LONGEST_CELL) for text in (one.got, one.allowed, one.remedy, one.node)
        )
        nodes.setdefault((got, allowed, remedy), []).append(node)
    rows = [plain(headline)]
    for (got, allowed, remedy), names in nodes.items():
        rows += _wrapped("  ", f"{listed(names)}: {got}")
        rows += _wrapped("    allowed  ", allowed)
        rows += _wrapped("    remedy   ", remedy)
    return Lines("\n".join(rows))


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names as one text, each once; of many the first `most` and the number of the others."""
    unique = list(dict.fromkeys(names))
    more = len(unique) - most
    if more > 1:
        return f"{', '.join(unique[:most])} and {more} more"
    return ", ".join(unique)


def _wrapped(start: str, text: str) -> list[str]:
    """A text in lines of _WIDTH characters; the later ones begin below the first one's text."""
    if not text:
        return [start.rstrip()]
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


class UnsupportedOperatorError(ConversionError):
    """Operators without an integrate-and-fire equivalent, all of them at once."""

    def __init__(self, rejections: Sequence[Rejection]) -> None:
        self.rejections = tuple(rejections)
        count = len(self.rejections)
        noun = "operator" if count == 1 else "operators"
        verb = "has" if count == 1 else "have"
        headline = f"{count} {noun} of this model {verb} no integrate-and-fire equivalent"
        super().__init__(rejection_table(headline, self.rejections))


class LatticeError(IcsnnError):
    """A network that is not on the integer lattice, or whose certificate does not hold."""


class ExportError(IcsnnError):
    """A network that can't be written in a format, or an exported file that can't be read."""


class LossyExportError(ExportError):
    """An export that would lose meaning, without the flag that allows it."""


class TargetError(IcsnnError):
    """An unknown target, or a network that does not fit one."""


class ParityError(IcsnnError):
    """Parts of a network that do not give its spikes and logits.

    Attributes:
        report: the ParityReport with the comparisons.
    """

    def __init__(self, message: str, report: Any) -> None:
        self.report = report
        super().__init__(message)


class BundleError(IcsnnError):
    """A deployment bundle that is missing or damaged, or whose files differ from its manifest."""


class BackendUnavailableError(IcsnnError, ImportError):
    """A backend that is not installed or not present; the message names the command to run."""


class SimulationError(IcsnnError):
    """A simulation that did not finish: a backend failed, hung, or exceeded its number range."""


class RankError(IcsnnError):
    """Processes of one distributed run that lost contact, or that have different inputs."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message, which may be pages long; its type if it is empty."""
    found = said_by(error).splitlines()
    return plain(found[0]) if found else type(error).__name__
