"""Every name, path, command and option that the pages show exists."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from icsnn_deploy.backends import find_backend
from icsnn_deploy.cli import app
from icsnn_deploy.conversion.calibration.recipe import RECIPES
from icsnn_deploy.errors import IcsnnError
from icsnn_deploy.exporters import find_format
from icsnn_deploy.targets import find_target

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("docs/**/*.md")])
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which names what is gone

DOTTED = re.compile(r"(?<![\w./])icsnn_deploy(?:\.[A-Za-z_]\w*)+")
IMPORTED = re.compile(r"\bfrom (icsnn_deploy[\w.]*) import ([\w, ]+)")
FOLDERS = ("icsnn_deploy", "exporters", "targets", "tests", "benchmarks", "examples", "docs")
PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]*")
FENCED = re.compile(r"^(```|~~~)\w*\n(.*?)^\1", re.DOTALL | re.MULTILINE)
OPTION = re.compile(r"--[a-z][a-z0-9-]*")
OF_TORCHRUN = {"--standalone", "--nproc-per-node", "--nnodes", "--rdzv-endpoint"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_blocks(text: str) -> Iterator[str]:
    """Each line of code, continued lines joined."""
    fenced = [match[2] for match in FENCED.finditer(text)]
    indented = re.findall(r"(?:^    .*\n)+", FENCED.sub("", text), re.MULTILINE)
    for block in [*fenced, *indented]:
        yield from (line.strip() for line in block.replace("\\\n", " ").splitlines())


def inline_code(text: str) -> list[str]:
    """What is between backticks."""
    plain = re.sub(r"(?:^    .*\n)+", "", FENCED.sub("", text), flags=re.MULTILINE)
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", plain)]


@cache
def defined_in(file: Path) -> frozenset[str]:
    """Names at the top level of a module, without importing it."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Assign():
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Import() | ast.ImportFrom():
                names |= {alias.asname or alias.name for alias in node.names}
            case _:
                pass
    return frozenset(names)


def exists(name: str) -> bool:
    """Whether a dotted name is a module of the package, or a name that a module defines."""
    here, rest = ROOT, name.split(".")
    while rest and ((here / rest[0]).is_dir() or (here / f"{rest[0]}.py").is_file()):
        here = here / rest.pop(0)
    if not rest:
        return True
    module = here / "__init__.py" if here.is_dir() else here.with_suffix(".py")
    names = defined_in(module)
    if here == ROOT / "icsnn_deploy":
        names |= defined_in(module.with_suffix(".pyi")) | {"__all__"}
    return len(rest) == 1 and rest[0] in names


def named(text: str) -> Iterator[str]:
    """Dotted names below icsnn_deploy that a page shows or imports."""
    yield from DOTTED.findall(text)
    for module, names in IMPORTED.findall(text):
        yield from (f"{module}.{name.strip()}" for name in names.split(","))


def paths(text: str) -> Iterator[str]:
    """Paths below the folders of the repository that a page shows as code."""
    for code in [*code_blocks(text), *inline_code(text)]:
        yield from (path.rstrip(".") for path in PATH.findall(code))


def is_command(found: Any) -> bool:
    return not hasattr(found, "commands")


@cache
def commands() -> dict[tuple[str, ...], frozenset[str]]:
    """Options of each command of icsnn, by the words that call it."""
    found: dict[tuple[str, ...], frozenset[str]] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        if is_command(command):
            options = (option for p in command.params for option in [*p.opts, *p.secondary_opts])
            found[words] = frozenset(o for o in options if o.startswith("-")) | {"--help"}
            return
        for word, inner in command.commands.items():
            walk(inner, (*words, word))

    walk(get_command(app), ())
    return found


def _known(find: Callable[[str], object]) -> Callable[[str], bool]:
    def known(name: str) -> bool:
        try:
            find(name)
        except IcsnnError:
            return False
        return True

    return known


VALUES: dict[str, Callable[[str], bool]] = {
    "--format": _known(find_format),
    "--target": _known(find_target),
    "--backend": _known(find_backend),
    "--parity-backend": _known(find_backend),
    "--recipe": lambda name: name in RECIPES,
}
"""Options whose value is a name in a table."""


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after `icsnn`, or after `python -m icsnn_deploy`, of each command on a page."""
    for code in [*code_blocks(text), *inline_code(text)]:
        found = re.match(r"(?:\$ )?(?:\w+=\S+ )*(?:icsnn|.*\bpython -m icsnn_deploy)\s+(.+)", code)
        if found is None and "-m icsnn_deploy " in code:
            found = re.match(r".*-m icsnn_deploy\s+(.+)", code)
        if found is not None:
            yield shlex.split(found[1], comments=True)


def wrong_in(words: list[str]) -> Iterator[str]:
    """What a command line names that icsnn does not have."""
    if words == ["--help"] or words[:1] == ["..."]:
        return
    known = next((c for c in commands() if tuple(words[: len(c)]) == c), None)
    if known is None:
        if not any(c[: len(words)] == tuple(words) for c in commands()):  # `icsnn lava`
            yield f"icsnn {' '.join(words)}: no such command"
        return
    for place, word in enumerate(words):
        option, _, value = word.partition("=")
        if not option.startswith("--"):
            continue
        if option not in commands()[known]:
            yield f"icsnn {' '.join(known)}: no option {option}"
        value = value or next(iter(words[place + 1 :]), "")
        if option in VALUES and not value.isupper() and not VALUES[option](value):
            yield f"icsnn {' '.join(known)}: no {option} {value}"


def unknown_options(text: str) -> set[str]:
    """Options in backticks that neither a command, nor a benchmark, nor torchrun has."""
    of_commands = frozenset[str]().union(*commands().values())
    of_scripts = {
        option
        for script in [*ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/**/*.py")]
        for option in OPTION.findall(script.read_text())
    }
    shown = {o for code in inline_code(text) if code.startswith("-") for o in OPTION.findall(code)}
    return shown - of_commands - of_scripts - OF_TORCHRUN


WITHOUT_TOYS = [page for page in PAGES if page.name != "extending.md"]
"""Pages whose names are all ours; test_extending.py runs the code of that one."""


@pytest.mark.parametrize("page", WITHOUT_TOYS, ids=relative)
def test_every_dotted_name_on_a_page_exists(page: Path) -> None:
    assert [name for name in named(page.read_text()) if not exists(name)] == []


@pytest.mark.parametrize("page", WITHOUT_TOYS, ids=relative)
def test_every_path_on_a_page_exists(page: Path) -> None:
    assert [path for path in paths(page.read_text()) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_command_on_a_page_exists_with_its_options(page: Path) -> None:
    text = page.read_text()
    assert [wrong for words in command_lines(text) for wrong in wrong_in(words)] == []
    assert unknown_options(text) == set()


def test_options_of_benchmarks_on_the_pages_are_in_the_scripts() -> None:
    missing = []
    for page in PAGES:
        for line in code_blocks(page.read_text()):
            for script, rest in re.findall(r"python (benchmarks/\w+\.py)(.*)", line):
                source = (ROOT / script).read_text()
                missing += [(script, o) for o in OPTION.findall(rest) if o[2:] not in source]
    assert missing == []


def test_files_to_start_with_are_in_their_folders() -> None:
    """The table of docs/architecture.md names files relative to its first column."""
    rows = re.findall(r"^\| (`.+?) \|.*\| (`.+?) \|$", text := page_of_architecture(), re.MULTILINE)
    assert len(rows) > 10, text
    for folders, files in rows:
        for file in re.findall(r"`([^`]+\.py)`", files):
            places = [ROOT / folder / file for folder in re.findall(r"`([^`]+)`", folders)]
            assert any(place.is_file() for place in places), (folders, file)


def page_of_architecture() -> str:
    return (ROOT / "docs" / "architecture.md").read_text()


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = {str(p.relative_to(ROOT / "docs")) for p in ROOT.glob("docs/**/*.md")} - {"README.md"}
    assert [page for page in sorted(pages) if f"({page})" not in index] == []


def test_what_does_not_exist_is_found() -> None:
    page = (
        "`icsnn_deploy.graph.graph.Graph`, `icsnn_deploy.graph.graf`, `icsnn_deploy.convert`, "
        "`icsnn_deploy.converts`, `icsnn_deploy/graph/graph.py`, `icsnn_deploy/graf.py`, `--bits`, "
        "`--bytes`\n\n"
        "    icsnn export A --format onnx --format onyx --lossy \\\n        --lossless\n"
        "    icsnn exports A\n"
        "    torchrun -m icsnn_deploy convert x --bits 8   # --recipe none\n"
        "    from icsnn_deploy.graph.graph import Graph, Graf\n"
    )
    assert [name for name in named(page) if not exists(name)] == [
        "icsnn_deploy.graph.graf",
        "icsnn_deploy.converts",
        "icsnn_deploy.graph.graph.Graf",
    ]
    assert [path for path in paths(page) if not (ROOT / path).exists()] == ["icsnn_deploy/graf.py"]
    assert [wrong for words in command_lines(page) for wrong in wrong_in(words)] == [
        "icsnn export: no --format onyx",
        "icsnn export: no option --lossless",
        "icsnn exports A: no such command",
        "icsnn convert: no option --bits",
    ]
    assert unknown_options(page) == {"--bytes"}
