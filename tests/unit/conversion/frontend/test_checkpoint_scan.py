"""The look at a checkpoint before PyTorch is loaded."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from icsnn_deploy.conversion.frontend.checkpoint_scan import scan_checkpoint
from icsnn_deploy.errors import DataError


class Hostile:
    """Unpickled, it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [False, True])
def test_state_dicts_pass(legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    state = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).state_dict()
    torch.save({"state_dict": state, "epoch": 3}, path, _use_new_zipfile_serialization=not legacy)
    scan_checkpoint(path)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_code_is_named_and_not_run(kind: str, protocol: int, tmp_path: Path) -> None:
    path, target = tmp_path / "weights.pt", tmp_path / "made"
    content = {"weight": torch.zeros(2), "extra": Hostile(target)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Hostile(target), protocol=protocol))
    else:
        torch.save(
            content,
            path,
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=kind == "zip",
        )
    with pytest.raises(DataError, match=r"it names (posix|nt) mkdir"):
        scan_checkpoint(path)
    assert not target.exists()


def test_builtins_that_run_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"cbuiltins\neval\n(S'1'\ntR.")
    with pytest.raises(DataError, match="builtins eval"):
        scan_checkpoint(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        scan_checkpoint(tmp_path / "nothing.pt")


@pytest.mark.slow
def test_the_command_refuses_it_before_torch_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"w": Hostile(tmp_path / "made")}, path)
    code = (
        "import sys\n"
        "from icsnn_deploy.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as stop: code = stop.code\n"
        "print(code, 'torch' in sys.modules)\n"
    )
    arguments = ["convert", "x.py:y", "--weights", str(path), "--calibration", "a.npz:b"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "2 False"
    assert done.stderr.startswith("error: ")
    assert not (tmp_path / "made").exists()
