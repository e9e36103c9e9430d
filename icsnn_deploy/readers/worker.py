"""Runs the requests of a folder: python -m icsnn_deploy.readers.worker FOLDER HEARTBEAT_FD.

Each population that did a step puts a byte into the pipe. Where nobody reads it any more the
worker ends, and takes the folder along.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.atomic import atomic_write


def serve(folder: Path, heartbeat: int) -> None:
    """Answer every request; the answers come into the folder."""
    for number, request in enumerate(json.loads((folder / "requests.json").read_text())):
        helper = importlib.import_module(f"icsnn_deploy.readers.{request['reader']}")
        os.write(heartbeat, b".")
        module = helper.load(request["file"])
        _beat_with(module, heartbeat)
        found = helper.run(module, np.load(folder / f"{number}-inputs.npy", allow_pickle=False))
        arrays: dict[str, Any] = {f"{i}": spikes for i, spikes in enumerate(found.spikes.values())}
        np.savez(folder / f"{number}-result.npz", logits=found.logits, **arrays)
        (folder / f"{number}-names.json").write_text(json.dumps(list(found.spikes)))


def _beat_with(module: Any, heartbeat: int) -> None:
    """Put a byte into the pipe whenever a population is done."""
    from icsnn_deploy.readers.step_runner import populations_of

    def beat(child: Any, given: Any, result: Any) -> None:
        os.write(heartbeat, b".")

    for _, child in populations_of(module).values():
        child.register_forward_hook(beat)


def main() -> None:
    folder, heartbeat = Path(sys.argv[1]), int(sys.argv[2])
    try:
        serve(folder, heartbeat)
    except BrokenPipeError:
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(1)
    except Exception as error:
        fault = {
            "type": type(error).__name__,
            "message": str(error),
            "trace": traceback.format_exc(),
        }
        with atomic_write(folder / "fault.json") as draft:
            draft.write_text(json.dumps(fault))
        sys.exit(1)


if __name__ == "__main__":
    main()
