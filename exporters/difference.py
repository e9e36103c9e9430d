"""The first difference between two files, or between two folders of files."""

from __future__ import annotations

from pathlib import Path

_SHOWN = 60  # characters of a line
_ABOUT = (".md", ".json")


def of_files(written: Path, path: Path) -> str | None:
    """The first difference of a file, or of the files that `written` has, if it is a folder.

    Args:
        written: what the exporter writes now.
        path: an earlier export. What else lies in a folder, such as object files, is not compared.

    Returns:
        file, line and both texts; of a binary file, the byte. None: they are equal.

    Raises:
        OSError: a file can't be read.
    """
    if not written.is_dir():
        return _of_bytes(written.read_bytes(), path.read_bytes())
    # descriptions last: they hold the hash, which differs because the numbers do
    for file in sorted(written.iterdir(), key=lambda file: (file.suffix in _ABOUT, file.name)):
        other = path / file.name
        if not other.is_file():
            return f"{file.name} is missing"
        found = _of_bytes(file.read_bytes(), other.read_bytes())
        if found is not None:
            return f"{file.name}, {found}"
    return None


def _of_bytes(expected: bytes, got: bytes) -> str | None:
    if expected == got:
        return None
    wanted, found = expected.split(b"\n"), got.split(b"\n")
    pairs = enumerate(zip(wanted, found, strict=False), start=1)
    line = next((n for n, (one, other) in pairs if one != other), min(len(wanted), len(found)) + 1)
    texts = [lines[line - 1] if line <= len(lines) else None for lines in (found, wanted)]
    if b"\0" in expected:
        pairs_of_bytes = enumerate(zip(expected, got, strict=False))
        first = next((n for n, (one, other) in pairs_of_bytes if one != other), None)
        return f"byte {min(len(expected), len(got)) if first is None else first}"
    column = _first_column(*texts)
    shown = [_shown(text, column) for text in texts]
    return f"line {line}: {shown[0]}, expected {shown[1]}"


def _first_column(one: bytes | None, other: bytes | None) -> int:
    pairs = enumerate(zip(one or b"", other or b"", strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one or b""), len(other or b"")))


def _shown(line: bytes | None, column: int) -> str:
    """The part of a line around a column, as a literal; of a line that is missing, its absence."""
    if line is None:
        return "no such line"
    start = max(0, column - _SHOWN // 2)
    return ascii(line[start : start + _SHOWN].decode(errors="replace"))
