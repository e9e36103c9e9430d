"""Write exported C programs, build them with the machine's compiler, and run their golden test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.c.options import COptions
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.native.build import find_compiler

STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
"""The flags under which a program compiles without a warning."""


def compiler() -> str:
    """The C compiler; a machine without one can't run these tests, and they fail."""
    found = find_compiler()
    assert found is not None, "no C compiler: install gcc and libc6-dev"
    return found[0]


def compilers() -> list[str]:
    """gcc and clang, whichever are there, and the usual compiler."""
    return list(dict.fromkeys([compiler(), *filter(shutil.which, ("gcc", "clang"))]))


def program(graph: Graph, folder: Path, golden: int = 2) -> Path:
    """Export a network as a C program."""
    export(graph, folder, "c", COptions(golden=golden))
    return folder


def build(folder: Path, flags: Sequence[str] = ("-O1",), cc: str | None = None) -> Path:
    """Compile the golden test of a program; fails with the compiler's messages."""
    target = folder / "golden_test"
    sources = [str(path) for path in sorted(folder.glob("*.c"))]
    command = [cc or compiler(), *flags, *sources, "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def run_golden_test(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the built golden test."""
    return subprocess.run([str(folder / "golden_test")], capture_output=True, text=True)
