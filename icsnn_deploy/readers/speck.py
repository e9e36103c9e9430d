"""Let sinabs write the configuration of an exported network, and compare it with speck.json.

sinabs runs in its environment, in a process of its own. In the place of samna, which only
SynSense's servers have, it finds an object that records what it is set to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icsnn_deploy.environments.process import run_to_end
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.speck import program
from icsnn_deploy.exporters.speck.written import read
from icsnn_deploy.readers.environment import SETUP, find_environment

_LIMIT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class SinabsConfiguration:
    """What sinabs wrote.

    Args:
        version: of sinabs.
        cores: number of cores, of which every value is that of speck.json.
        values: number of weights, biases and initial potentials that were compared.
        mapping: the core of each layer that sinabs chooses by itself.
    """

    version: str
    cores: int
    values: int
    mapping: tuple[int, ...]


def compare_with_sinabs(*folders: Path) -> list[SinabsConfiguration]:
    """Compare exports with what sinabs writes.

    Args:
        folders: of the format speck.

    Raises:
        BackendUnavailableError: sinabs' environment is missing, or fails.
        ExportError: a file can't be read; or sinabs writes other values, or counts other memories:
            names the first one.
    """
    environment = find_environment("sinabs")
    expected = [read(folder / "speck.json") for folder in folders]
    for folder in folders:
        read(folder / "network.json")
    text = run_to_end(
        environment.python,
        "icsnn_deploy.readers.speck_worker",
        *(str((folder / "network.json").absolute()) for folder in folders),
        cwd=Path(__file__).parents[2],
        setup=SETUP,
        timeout_s=_LIMIT_S,
    )
    written = json.loads(text.splitlines()[-1])
    version = environment.versions["sinabs"]
    pairs = zip(folders, expected, written, strict=True)
    return [_compared(folder, own["cores"], found, version) for folder, own, found in pairs]


def _compared(
    folder: Path, cores: object, found: dict[str, Any], version: str
) -> SinabsConfiguration:
    difference = program.first_difference(cores, found["written"])
    difference = difference or program.first_difference(found["written"], found["recorded"])
    if difference is not None:
        raise ExportError(f"{folder}: sinabs {version} writes another configuration: {difference}")
    if not found["fits"]:
        raise ExportError(f"{folder}: sinabs {version} counts other memories: a layer does not fit")
    return SinabsConfiguration(
        version=version,
        cores=len(found["written"]),
        values=sum(_count(core) for core in found["written"]),
        mapping=tuple(found["mapping"]),
    )


def _count(core: dict[str, object]) -> int:
    """The numbers in the arrays of a core."""
    return sum(_size(core[name]) for name in ("weights", "biases", "neurons_initial_value"))


def _size(value: object) -> int:
    return sum(map(_size, value)) if isinstance(value, list) else 1
