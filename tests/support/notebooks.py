"""Executes the notebooks of examples/notebooks with other settings.

    python -m tests.support.notebooks        executes the tutorial, and stores its outputs

The cell with the tag `settings` holds assignments; smaller ones are run in a cell after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "notebooks"
TUTORIAL = FOLDER / "tutorial.ipynb"


def execute(notebook: Path, folder: Path, settings: Mapping[str, Any] | None = None) -> Any:
    """The notebook with its outputs, executed in `folder`; an error in a cell is raised."""
    import nbformat
    from nbclient import NotebookClient

    content = nbformat.read(notebook, as_version=4)
    if settings:
        place, cell = settings_cell(content.cells)
        lines = [f"{name} = {value!r}" for name, value in settings.items()]
        missing = [name for name in settings if f"\n{name} = " not in "\n" + cell["source"]]
        assert not missing, f"{notebook.name}: no setting {missing}"
        content.cells.insert(place + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(content, timeout=300, resources=where, record_timing=False).execute()
    return content


def settings_cell(cells: list[Any]) -> tuple[int, Any]:
    """Position and cell with the tag `settings`."""
    tagged = [(n, c) for n, c in enumerate(cells) if "settings" in c["metadata"].get("tags", ())]
    assert len(tagged) == 1
    return tagged[0]


def without_noise(content: dict[str, Any]) -> dict[str, Any]:
    """A notebook as it is stored: no progress, and nothing of the machine that ran it."""
    content["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [o for o in cell["outputs"] if o.get("name") != "stderr"]
            cell["metadata"].pop("execution", None)
    return content


def main() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        content = json.loads(json.dumps(execute(TUTORIAL, Path(folder))))
    text = json.dumps(without_noise(content), indent=1, ensure_ascii=False)
    TUTORIAL.write_text(text + "\n")


if __name__ == "__main__":
    main()
