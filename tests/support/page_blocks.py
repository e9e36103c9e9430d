"""Runs the code of a page of the documentation: files, Python and commands, in its order.

    ```python title="net.py"   is written to net.py
    ```python                  is run; names last until the end of the page
    ```sh                      each line is `icsnn ...`, `make ...` or `python FILE.py`; exit code
                               0, or what a comment `# exit code 1` says. The file is of the
                               folder, or of the repository
    ```yaml                    is parsed
    ```text, ```c, ...         are not run (NOT_CODE)

A block after `<!-- not run: REASON -->` is not run, unless a test gives that reason. Commands of
icsnn run in this process, which saves the seconds that each takes to import PyTorch.
"""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from icsnn_deploy.cli import app

BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n)?^```(?P<language>\w*)"
    r"(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
NOT_CODE = ("text", "c", "console", "systemverilog")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    title: str | None
    code: str
    reason: str | None  # why it is not run


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    found = [Block(m["language"], m["title"], m["code"], m["reason"]) for m in BLOCK.finditer(text)]
    fences = len(re.findall(r"^```", text, re.MULTILINE))
    assert fences == 2 * len(found), f"{page}: a fence that is not understood"
    assert text.count("<!-- not run") == sum(block.reason is not None for block in found)
    return found


def run_page(page: Path, names: Mapping[str, Any] | None = None, reason: str | None = None) -> None:
    """Run the blocks of a page in the current folder; those that are not run for `reason`, too."""
    scope = {"__name__": "__page__", **(names or {})}
    for block in blocks_of(page):
        if block.reason in (None, reason):
            _run(block, scope)


def _run(block: Block, scope: dict[str, Any]) -> None:
    if block.title is not None:
        Path(block.title).parent.mkdir(parents=True, exist_ok=True)
        Path(block.title).write_text(block.code)
    elif block.language == "python":
        exec(compile(block.code, "<block>", "exec"), scope)
    elif block.language == "sh":
        for line, code in command_lines(block.code):
            run_command(line, code)
    elif block.language == "yaml":
        yaml.safe_load(block.code)
    else:
        assert block.language in NOT_CODE, f"a block of language {block.language!r} can't be run"


def command_lines(code: str) -> Iterator[tuple[str, int]]:
    """Each command of a block, and its exit code."""
    for line in code.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            expected = re.search(r"# exit code (\d+)", line)
            yield line, int(expected[1]) if expected else 0


def run_command(line: str, code: int) -> None:
    program, *words = shlex.split(line, comments=True)
    if program == "icsnn":
        result = CliRunner().invoke(app, words)
        assert result.exit_code == code, f"{line}\n{result.output}\n{result.exception!r}"
        return
    if program == "make":
        done = subprocess.run(["make", *words], capture_output=True, text=True, check=False)
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
        return
    assert program == "python", f"no way to run {line!r}; say why with <!-- not run: ... -->"
    file = words[0] if Path(words[0]).exists() else str(ROOT / words[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(".")
        patch.setattr("sys.argv", [file, *words[1:]])
        try:
            runpy.run_path(file, run_name="__main__")
            ended = 0
        except SystemExit as end:
            ended = int(end.code or 0)
    assert ended == code, line
