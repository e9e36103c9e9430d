"""Recordings as .npz files: what somebody else's simulator or a device did with the same inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.data import load_archive
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Population


def load_recording(path: Path, network: Graph, backend: str) -> Recording:
    """A recording from an .npz file: `logits` [N, classes], spikes [T, N, *shape] by layer name.

    Raises:
        DataError: names the file, and what is missing or does not fit.
    """
    arrays = load_archive(path)
    if "logits" not in arrays:
        raise DataError(f"{path}: no array 'logits'; it holds {', '.join(arrays) or 'nothing'}")
    logits = arrays.pop("logits")
    if logits.dtype.kind not in "fiu" or logits.shape[1:] != network.shape(network.output.name):
        raise DataError(
            f"{path}: logits {logits.dtype} {list(logits.shape)}; numbers [N, classes] needed, "
            f"classes {list(network.shape(network.output.name))}"
        )
    populations = [node.name for node in network.nodes_of(Population)]
    unknown = [name for name in arrays if name not in populations]
    if unknown:
        raise DataError(f"{path}: {unknown[0]!r} is no population; those are {populations}")
    for name, array in arrays.items():
        wanted = (network.steps, len(logits), *network.shape(name))
        binary = array.dtype.kind in "biuf" and np.isin(array, (0, 1)).all()
        if array.shape != wanted or not binary:
            raise DataError(f"{path}: {name} {list(array.shape)}; 0 and 1 of {list(wanted)} needed")
    spikes = {n: arrays[n].astype(np.uint8) for n in populations if n in arrays}
    return Recording(backend=backend, logits=logits, spikes=spikes)


def save_recording(recording: Recording, path: Path) -> None:
    """Write spikes and logits as an .npz file that `load_recording` reads.

    Raises:
        DataError: it can't be written.
    """
    arrays: dict[str, Any] = {"logits": recording.logits, **recording.spikes}
    try:
        with atomic_write(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        raise DataError(f"{path}: can't be written ({error.strerror})") from error
