"""The additions that docs/extending.md shows, applied to copies of the package."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCK = re.compile(r"^```(python|diff)\n(.*?)^```", re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\| `([\w./]+\.py)`[^|]*\|([^|]*)\|", re.MULTILINE)


@dataclass(frozen=True)
class Change:
    """One file that a code block of the page makes or changes."""

    file: str
    text: str
    is_new: bool

    def apply(self, root: Path) -> None:
        target = root / self.file
        assert target.exists() is not self.is_new, self.file
        if self.is_new:
            target.write_text(self.text)
            return
        content = target.read_text()
        for hunk in self.text.split("@@\n")[1:]:
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] or "\n" for line in lines if line[0] != "+")
            new = "".join(line[1:] or "\n" for line in lines if line[0] != "-")
            assert content.count(old) == 1, f"{self.file}: not once in the file:\n{old}"
            content = content.replace(old, new)
        target.write_text(content)


def section(title: str) -> str:
    match = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert match is not None, title
    return match[1]


def changes(title: str) -> Iterator[Change]:
    """The changes that a section shows, in its order."""
    for language, code in BLOCK.findall(section(title)):
        if language == "python":
            head, _, rest = code.partition("\n")
            yield Change(head.removeprefix("# "), rest, is_new=True)
        else:
            for part in re.split(r"^\+\+\+ ", code, flags=re.MULTILINE)[1:]:
                file, _, hunks = part.partition("\n")
                yield Change(file, hunks, is_new=False)


def listed(title: str) -> dict[str, str]:
    """The files in a section's table, and what stands in the column after them."""
    return {file: about.strip() for file, about in ROW.findall(section(title))}


def copy_package(root: Path) -> None:
    """The package, with the two folders beside it and the links to them."""
    for name in ("icsnn_deploy", "exporters", "targets"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", root)


def copy_cache(root: Path) -> None:
    """What mypy knows already, if anything: complete even while another process writes to it."""
    for path in (ROOT / ".mypy_cache").rglob("*.db"):
        target = root / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)


def run_in_copy(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
