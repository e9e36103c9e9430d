"""Runs the networks of a request in Lava: python -m icsnn_lava FOLDER PARENT_PID HEARTBEAT_FD."""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib.metadata import version
from multiprocessing.process import current_process
from pathlib import Path

import numpy as np

from icsnn_lava import shim
from icsnn_lava.lifeline import Lifeline


def serve(folder: Path, heartbeat: int) -> None:
    """Run network after network; the result of each is written when it is done."""
    shim.apply()
    from icsnn_lava.network import Network, find_models_once

    find_models_once()
    for number in range(len(list(folder.glob("*/network.json")))):
        place = folder / str(number)
        description = json.loads((place / "network.json").read_text())
        with np.load(place / "arrays.npz", allow_pickle=False) as archive:
            arrays = dict(archive)
        overflows = Network(place, description, arrays, heartbeat).run()
        versions = {"lava-nc": version("lava-nc"), "numpy": np.__version__}
        result = {"overflows": overflows, "versions": versions}
        (place / "result.json").write_text(json.dumps(result))


def report(folder: Path, error: BaseException) -> None:
    """Write down what went wrong, for the parent."""
    fault = {
        "where": getattr(error, "where", "the worker"),
        "what": getattr(error, "what", f"{type(error).__name__}: {error}"),
        "trace": getattr(error, "trace", "") or traceback.format_exc(),
    }
    draft = folder / "fault.tmp"
    draft.write_text(json.dumps(fault))
    draft.rename(folder / "fault.json")


def main() -> None:
    folder, parent, heartbeat = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    Lifeline(parent, folder)
    # Sockets of multiprocessing would stay in a folder of their own where a run is cut off. The way
    # to them is short: more than 107 characters are no address.
    os.chdir(folder)
    current_process()._config["tempdir"] = "."  # type: ignore[attr-defined]
    try:
        serve(folder, heartbeat)
    except BaseException as error:
        report(folder, error)
        os._exit(1)  # Lava would wait for its processes for ever


if __name__ == "__main__":
    main()
