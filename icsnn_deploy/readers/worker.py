"""Run the requests in a folder: python -m icsnn_deploy.readers.worker FOLDER HEARTBEAT_FD.

A byte is written to the heartbeat pipe for each step of each population. If the pipe has no reader
any more, the worker removes the folder and ends.
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
    """Run every request; the results are written into the folder."""
    for number, request in enumerate(json.loads((folder / "requests.json").read_text())):
        reader = importlib.import_module(f"icsnn_deploy.readers.{request['reader']}")
        os.write(heartbeat, b".")
        module = reader.load(request["file"])
        _add_heartbeat(module, heartbeat)
        inputs = np.load(folder / f"{number}-inputs.npy", allow_pickle=False)
        recording = reader.run(module, inputs)
        arrays: dict[str, Any] = {f"{i}": s for i, s in enumerate(recording.spikes.values())}
        np.savez(folder / f"{number}-result.npz", logits=recording.logits, **arrays)
        (folder / f"{number}-names.json").write_text(json.dumps(list(recording.spikes)))


def _add_heartbeat(module: Any, heartbeat: int) -> None:
    """Write a byte to the pipe after each step of a population."""
    from icsnn_deploy.readers.step_runner import populations_of

    def beat(child: Any, inputs: Any, result: Any) -> None:
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
