"""Export to a folder with Speck's configuration; the same network gives the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from icsnn_deploy.errors import ExportError, LatticeError
from icsnn_deploy.exporters.speck import program
from icsnn_deploy.exporters.speck.configuration import describe
from icsnn_deploy.exporters.speck.readme import readme_text
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.targets.check import check


def write(graph: Graph, path: Path) -> None:
    """Write the configuration of a network as a folder.

    Args:
        graph: an integer network that fits Speck; its input is spikes.
        path: the folder to make.

    Raises:
        ExportError: it does not fit, with every misfit; or the folder can't be written.
    """
    check_fits(graph, (), None)
    network, configuration = describe(graph)
    texts = {
        "README.md": readme_text(network),
        "configure.py": Path(program.__file__).read_text(),
        "network.json": _json(network),
        "speck.json": _json(configuration),
    }
    try:
        path.mkdir()
        for name, text in texts.items():
            (path / name).write_bytes(text.encode())
    except OSError as error:
        raise ExportError(f"{path}: can't be written ({error})") from error


def check_fits(graph: Graph, names: tuple[str, ...], options: None) -> None:
    """Raise ExportError where a network does not fit Speck; see formats.Format."""
    if graph.is_integer and not graph.input.is_timed:
        raise ExportError(
            f"{graph.input.name}: analog values, but Speck takes spikes. Let the host run the "
            "first layer: icsnn split --host-first-layer; then export its chip part. Both are done "
            "by `icsnn deploy --target speck`. Or convert the model for spikes (--encoding)"
        )
    try:
        result = check(graph, "speck")
    except LatticeError as error:
        raise ExportError(f"the network does not fit Speck: {error}") from error
    if not result.ok:
        listed = "".join(
            f"\n  {one.node}: {one.what}: {one.got}, allowed: {one.allowed}. {one.remedy}"
            for one in result.misfits
        )
        raise ExportError(f"the network {result.summary()}{listed}")


def _json(content: dict[str, Any]) -> str:
    """One line for each layer, so that differences can be read."""
    lines = []
    for name, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n  ".join(json.dumps(row) for row in value)
            lines.append(f" {json.dumps(name)}: [\n  {rows}\n ]")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
