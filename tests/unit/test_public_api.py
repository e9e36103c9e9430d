"""The public names: one list, loaded on use, shown by dir() and help(), and typed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import icsnn_deploy

ROOT = Path(__file__).parents[2]
STUB = ROOT / "icsnn_deploy" / "__init__.pyi"

PROMISED = frozenset(
    {
        "convert",
        "quantize",
        "certify",
        "check",
        "evaluate",
        "verify",
        "compare",
        "export",
        "export_into",
        "from_nir",
        "create_bundle",
        "open_bundle",
        "Recipe",
        "Method",
        "OnnxOptions",
        "LatticeOptions",
        "EvaluationOptions",
        "QuantileThreshold",
        "Half",
        "IcsnnError",
    }
)

PREAMBLE = """
from torch import nn
from torch.utils.data import DataLoader
from icsnn_deploy.graph.neuron import Array

model: nn.Module
calibration_loader: DataLoader[object]
test_images: Array
"""


def listed() -> list[str]:
    """The names in the stub, in its order."""
    body = ast.parse(STUB.read_text()).body
    assert all(isinstance(node, ast.ImportFrom) for node in body)
    return [alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names]


def test_the_stub_is_the_only_list() -> None:
    names = listed()
    assert len(set(names)) == len(names)
    assert sorted(names) == sorted(dir(icsnn_deploy))
    assert sorted(names) == sorted(getattr(icsnn_deploy, "__all__"))  # noqa: B009, not in the stub
    assert not PROMISED - set(names)


@pytest.mark.parametrize("name", listed())
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(icsnn_deploy, name)
    assert not isinstance(found, types.ModuleType)
    assert name == "__version__" or found.__doc__


def test_type_checkers_see_every_name_as_exported() -> None:
    """Without `as`, a name in a stub is private to it."""
    for node in ast.parse(STUB.read_text()).body:
        assert isinstance(node, ast.ImportFrom)
        assert [alias.asname for alias in node.names] == [alias.name for alias in node.names]


@pytest.mark.slow
def test_help_shows_the_public_names() -> None:
    code = "import icsnn_deploy, pydoc; print(pydoc.plain(pydoc.render_doc(icsnn_deploy)))"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [name for name in PROMISED if name not in text.stdout] == []


@pytest.mark.slow
def test_the_snippet_of_the_readme_passes_mypy(tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found is not None
    snippet = tmp_path / "snippet.py"
    snippet.write_text(PREAMBLE + found[1])
    settings = ["--config-file", str(ROOT / "pyproject.toml")]
    cache = ["--cache-dir", str(ROOT / ".mypy_cache")]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *settings, *cache, str(snippet)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stdout + result.stderr
