"""The options of icsnn sweep, from text to what the package takes; all wrong ones in one error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from icsnn_deploy.errors import DataError, IcsnnError, lines

if TYPE_CHECKING:
    from icsnn_deploy.sweeping.options import Bits

Parsed = TypeVar("Parsed")
Other = TypeVar("Other")


class Problems:
    """What is wrong with the options of a command, collected."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def parsed(self, parse: Callable[[], Parsed], otherwise: Other) -> Parsed | Other:
        """The result of parse; what it finds wrong is kept, and `otherwise` stands for it."""
        try:
            return parse()
        except IcsnnError as error:
            self._found += str(error).splitlines()
            return otherwise

    def report(self) -> None:
        """Raise DataError with everything that was found."""
        if len(self._found) == 1:
            raise DataError(self._found[0])
        if self._found:
            raise DataError(lines(f"{len(self._found)} options are wrong:", self._found))


def parse_names(option: str, text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise DataError(f"{option} {text!r}: names with commas between them are needed")
    return names


def parse_numbers(option: str, text: str) -> tuple[int, ...]:
    """Numbers with commas between them."""
    names = parse_names(option, text)
    if not all(name.isdecimal() for name in names):
        raise DataError(f"{option} {text!r}: numbers with commas between them are needed")
    return tuple(map(int, names))


def parse_bits(text: str) -> tuple[Bits, ...]:
    """--bits: widths, or the word float."""
    names = parse_names("--bits", text)
    if not all(name.isdecimal() or name == "float" for name in names):
        raise DataError(f"--bits {text!r}: numbers, or float, with commas between them are needed")
    return tuple("float" if name == "float" else int(name) for name in names)
