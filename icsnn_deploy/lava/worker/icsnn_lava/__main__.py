"""Run the networks of a request in Lava: python -m icsnn_lava FOLDER PARENT_PID HEARTBEAT_FD."""

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
    """Run the networks one after the other; each result is written when it is done."""
    shim.apply()
    from icsnn_lava.network import Network, find_models_once

    find_models_once()
    for number in range(len(list(folder.glob("*/network.json")))):
        subfolder = folder / str(number)
        description = json.loads((subfolder / "network.json").read_text())
        with np.load(subfolder / "arrays.npz", allow_pickle=False) as archive:
            arrays = dict(archive)
        overflows = Network(subfolder, description, arrays, heartbeat).run()
        versions = {"lava-nc": version("lava-nc"), "numpy": np.__version__}
        result = {"overflows": overflows, "versions": versions}
        (subfolder / "result.json").write_text(json.dumps(result))


def report(folder: Path, error: BaseException) -> None:
    """Write the error to a file for the parent process."""
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
    # Otherwise multiprocessing leaves a temporary folder with its sockets if a run is killed. The
    # path is relative because a socket's address has at most 107 characters.
    os.chdir(folder)
    current_process()._config["tempdir"] = "."  # type: ignore[attr-defined]
    try:
        serve(folder, heartbeat)
    except BaseException as error:
        report(folder, error)
        os._exit(1)  # a normal exit would wait for Lava's processes forever


if __name__ == "__main__":
    main()
