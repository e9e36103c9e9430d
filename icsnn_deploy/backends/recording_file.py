"""Recordings as .npz files, to compare with other simulators and with devices."""

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
    """Load a recording from an .npz file.

    The file holds `logits` [N, classes] and, by population, spikes [T, N, *shape].

    Raises:
        DataError: names the file, and what is missing or does not fit the network.
    """
    arrays = load_archive(path)
    if "logits" not in arrays:
        raise DataError(f"{path}: no array 'logits'; it holds {', '.join(arrays) or 'nothing'}")
    logits = arrays.pop("logits")
    if logits.dtype.kind not in "fiu" or logits.shape[1:] != network.shape(network.output.name):
        raise DataError(
            f"{path}: logits {logits.dtype} {list(logits.shape)}; numbers [N, classes] are needed, "
            f"with classes {list(network.shape(network.output.name))}"
        )
    populations = [node.name for node in network.nodes_of(Population)]
    unknown = [name for name in arrays if name not in populations]
    if unknown:
        raise DataError(
            f"{path}: {unknown[0]!r} is not a population of the network; it has {populations}"
        )
    for name, array in arrays.items():
        shape = (network.steps, len(logits), *network.shape(name))
        is_binary = array.dtype.kind in "biuf" and np.isin(array, (0, 1)).all()
        if array.shape != shape or not is_binary:
            raise DataError(
                f"{path}: {name} {array.dtype} {list(array.shape)}; values 0 and 1 of shape "
                f"{list(shape)} are needed"
            )
    spikes = {n: arrays[n].astype(np.uint8) for n in populations if n in arrays}
    return Recording(backend=backend, logits=logits, spikes=spikes)


def save_recording(recording: Recording, path: Path) -> None:
    """Write spikes and logits to an .npz file that `load_recording` reads.

    Raises:
        DataError: the file can't be written.
    """
    arrays: dict[str, Any] = {"logits": recording.logits, **recording.spikes}
    try:
        with atomic_write(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        raise DataError(f"{path}: can't be written ({error.strerror})") from error
