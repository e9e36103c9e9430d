"""Let sinabs write the configuration of an exported network, and compare it with speck.json.

sinabs runs in its environment, in a process of its own. In the place of samna, which only
SynSense's servers have, it finds an object that records what it is set to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from icsnn_deploy.environments.process import run_to_end
from icsnn_deploy.errors import ExportError, ParityError
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


def compare_with_sinabs(folder: Path) -> SinabsConfiguration:
    """Compare an export with what sinabs writes.

    Args:
        folder: of the format speck.

    Raises:
        BackendUnavailableError: sinabs' environment is missing, or fails.
        ExportError: a file can't be read.
        ParityError: sinabs writes other values, or counts other memories; names the first one.
    """
    environment = find_environment("sinabs")
    expected = read(folder / "speck.json")
    read(folder / "network.json")
    text = run_to_end(
        environment.python,
        "icsnn_deploy.readers.speck_worker",
        str((folder / "network.json").absolute()),
        cwd=Path(__file__).parents[2],
        setup=SETUP,
        timeout_s=_LIMIT_S,
    )
    found = json.loads(text.splitlines()[-1])
    difference = program.first_difference(expected["cores"], found["written"])
    difference = difference or program.first_difference(found["written"], found["recorded"])
    if difference is not None:
        raise ParityError(f"{folder}: sinabs writes another configuration: {difference}")
    if not found["fits"]:
        raise ParityError(f"{folder}: sinabs counts other memories: a layer does not fit its core")
    cores = expected["cores"]
    if not isinstance(cores, list):
        raise ExportError(f"{folder / 'speck.json'}: no list of cores; export it again")
    return SinabsConfiguration(
        version=environment.versions["sinabs"],
        cores=len(cores),
        values=sum(_count(core) for core in cores),
        mapping=tuple(found["mapping"]),
    )


def _count(core: dict[str, object]) -> int:
    """The numbers in the arrays of a core."""
    return sum(_size(core[name]) for name in ("weights", "biases", "neurons_initial_value"))


def _size(value: object) -> int:
    return sum(map(_size, value)) if isinstance(value, list) else 1
