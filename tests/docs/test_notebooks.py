"""The notebooks run from top to bottom, with small settings."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.notebooks import FOLDER, ROOT, TUTORIAL, execute, settings_cell, without_noise

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SMALL: dict[str, dict[str, Any]] = {
    "tutorial": {"time_steps": 4, "epochs": 2},
    "comparing_recipes": {"recipes": ["fast", "opi"], "all_steps": [2, 4], "epochs": 2},
    "parity_failure": {"samples": 4},
    "cifar10_workflow": {"random_images": 16, "time_steps": 2, "recipe": "opi"},
}


def cells(notebook: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(notebook.read_text())["cells"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("ICSNN_PROGRESS", "off")
    shutil.copy(ROOT / "examples" / "cifar_models.py", tmp_path)
    (tmp_path / "notebooks").mkdir()
    execute(notebook, tmp_path / "notebooks", SMALL[notebook.stem])


def test_every_notebook_has_small_settings() -> None:
    assert {notebook.stem for notebook in NOTEBOOKS} == set(SMALL)
    for notebook in NOTEBOOKS:
        settings_cell(cells(notebook))


def test_only_the_tutorial_has_outputs_and_all_of_them() -> None:
    """Outputs make every change of a notebook large; the site shows those of the tutorial."""
    for notebook in NOTEBOOKS:
        code = [cell for cell in cells(notebook) if cell["cell_type"] == "code"]
        executed = [cell["execution_count"] is not None for cell in code]
        if notebook == TUTORIAL:
            assert all(executed), "run: python -m tests.support.notebooks"
            assert sum(bool(cell["outputs"]) for cell in code) > 5
            kinds = {o["output_type"] for cell in code for o in cell["outputs"]}
            assert "error" not in kinds
        else:
            assert not any(executed)
            assert not any(cell["outputs"] for cell in code)


def test_the_tutorial_is_stored_without_noise() -> None:
    text = TUTORIAL.read_text()
    content = json.loads(text)
    assert json.dumps(without_noise(content), indent=1, ensure_ascii=False) + "\n" == text
    assert str(Path.home()) not in text
