"""The example that trains bounded activations, from a tiny model to its IF network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from icsnn_deploy.cli import app
from tests.unit.test_examples import load

MODEL = """
import torch
import torch.nn.functional as F
from torch import nn

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.conv3 = nn.Conv2d(6, 6, 1)
        self.bn, self.act = nn.BatchNorm2d(6), nn.ReLU()
        self.head = nn.Linear(6, 3)
    def forward(self, x):
        x = F.relu(self.bn(self.conv1(x)))
        x = self.conv3(self.act(self.conv2(x))).relu()
        return self.head(x.mean(dim=(2, 3)))

def tiny():
    torch.manual_seed(0)
    model = Tiny()
    model.head.weight.data *= 30
    return model

def bounded():
    import train_clip
    return train_clip.with_bounds(tiny(), getattr(train_clip, KIND))
"""
MEAN_STD = ("--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.25")


def written(folder: Path, kind: str) -> Path:
    """A model file, and images of three classes: which color they have."""
    (folder / "tiny_model.py").write_text(MODEL.replace("KIND", repr(kind)))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 256)
    images = rng.integers(0, 120, (256, 8, 8, 3), np.uint8)
    images[np.arange(256), :, :, labels] += 100
    np.savez(folder / "data.npz", images=images, labels=labels)
    return folder / "data.npz"


@pytest.mark.parametrize(
    ("kind", "labeled", "declared"),
    [
        ("qcfs", True, "QCFS:bound:levels"),
        ("clip", True, "Clip:bound"),
        ("qcfs", False, "QCFS:bound:levels"),
    ],
)
def test_a_checkpoint_that_convert_takes(
    kind: str,
    labeled: bool,
    declared: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    example = load("train_clip", monkeypatch)
    data = written(tmp_path, {"qcfs": "QCFS", "clip": "Clip"}[kind])
    checkpoint = tmp_path / "bounded.pt"
    example.main(
        [
            *("--model", f"{tmp_path}/tiny_model.py:tiny", "--images", f"{data}:images", *MEAN_STD),
            *(("--labels", f"{data}:labels") if labeled else ()),
            *("--activation", kind, "--levels", "4", "--epochs", "6", "--batch-size", "32"),
            *("--out", str(checkpoint)),
        ]
    )
    losses = [
        float(line.split("loss ")[1].split(";")[0])
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("epoch")
    ]
    assert len(losses) == 6
    assert losses[-1] < 0.8 * losses[0]
    found = CliRunner().invoke(
        app,
        [
            *("convert", f"{tmp_path}/tiny_model.py:bounded", "--weights", str(checkpoint)),
            *("--calibration", f"{data}:images", *MEAN_STD, "--recipe", "opi"),
            *("--activation", declared, "--time-steps", "4", "--out", str(tmp_path / "bundle")),
        ],
    )
    assert found.exit_code == 0, found.output
    report = json.loads((tmp_path / "bundle/report.json").read_text())
    state = torch.load(checkpoint, weights_only=True)
    bounds = [float(value) for key, value in state.items() if key.endswith("bound")]
    assert [p["v_threshold"][1] for p in report["populations"]] == pytest.approx(bounds, rel=1e-6)
    assert report["chosen"]["agreement"] > 0.8


def test_qcfs_is_its_equation(monkeypatch: pytest.MonkeyPatch) -> None:
    activation = load("train_clip", monkeypatch).QCFS(4)
    nn.init.constant_(activation.bound, 2.0)
    x = torch.tensor([-1.0, 0.2, 0.25, 0.8, 1.9, 5.0], requires_grad=True)
    y = activation(x)
    assert y.tolist() == [0.0, 0.0, 0.5, 1.0, 2.0, 2.0]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]
    assert activation.bound.grad is not None


def test_a_model_without_rectifiers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    example = load("train_clip", monkeypatch)
    with pytest.raises(SystemExit, match="Linear: no ReLU found"):
        example.with_bounds(nn.Linear(2, 2), example.Clip)


def test_the_checkpoints_of_the_networks_of_cifar_have_their_callables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = load("train_clip", monkeypatch)
    for name, count in (("resnet20_qcfs", 19), ("vgg16_half_clip", 14)):
        keys = [key for key in getattr(example, name)().state_dict() if key.endswith("bound")]
        assert len(keys) == count
    assert "cifar_models" in sys.modules
