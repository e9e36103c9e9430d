"""A folder with a model and data, and the icsnn command run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from typer.testing import CliRunner, Result

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.exporters import export
from icsnn_deploy.graph.nodes import Conv

MODEL = """
import torch
from torch import nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(16, 5)
    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.conv2(x) + x)
        return self.head(F.avg_pool2d(x, 4).flatten(1))

def make():
    torch.manual_seed(0)
    return Net()

def chatty():
    print("a word from the model")
    return make()

class Forbidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.GELU(), nn.LPPool2d(2, 2), nn.Conv2d(4, 4, 1), nn.Sigmoid()
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.Softmax(dim=1))
    def forward(self, x):
        return self.head(self.features(x))

class VGG(nn.Module):
    # as torchvision's vgg16, but narrow: five max poolings, adaptive pooling, dropout
    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width in (4, 4, "M", 4, 4, "M", 4, 4, 4, "M", 4, 4, 4, "M", 4, 4, 4, "M"):
            if width == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(
            nn.Linear(4, 8), nn.ReLU(True), nn.Dropout(), nn.Linear(8, 5)
        )
    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
"""


MEAN, STD = "0.5,0.4,0.3", "0.2,0.3,0.25"
EXPORTS = ("nir", "onnx", "onnx-step")


class Desk:
    """A folder with a model, its weights and some data, and the command run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "tiny.py").write_text(MODEL)
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (12, 8, 8, 3), np.uint8)
        floats = rng.normal(size=(6, 3, 8, 8)).astype(np.float32)
        gap = np.where(floats == floats.max(), np.nan, floats)
        labels, years = rng.integers(0, 5, 12), np.full(12, 1998)
        np.savez(
            path / "data.npz", images=images, labels=labels, years=years, floats=floats, gap=gap
        )

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    def convert(self, out: str, *more: str, model: str = "make") -> Result:
        return self.run(
            *("convert", f"{self.path}/tiny.py:{model}"),
            *("--calibration", f"{self.path}/data.npz:images", "--mean", MEAN, "--std", STD),
            *("--time-steps", "3", "--recipe", "opi", "--out", str(self.path / out), *more),
        )

    def names(self) -> set[str]:
        return set(os.listdir(self.path)) - {"__pycache__"}


def succeeded(result: Result) -> str:
    assert (result.exit_code, result.exception, result.stderr) == (0, None, "")
    return result.stdout


def failed(result: Result) -> str:
    """The message of a command that ends with 2 and one error."""
    assert result.exit_code == 2, (result.stdout, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("error: ") == 1
    return result.stderr.removeprefix("error: ").rstrip("\n")


def passed(printed: str) -> bool:
    """What the title of verify's table says."""
    title = printed.splitlines()[0].strip()
    assert title.startswith("parity with the reference")
    verdict = title.rsplit(": ", 1)[1]
    assert verdict in ("pass", "fail")
    return verdict == "pass"


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from icsnn_deploy.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )


def tamper(bundle: Path) -> None:
    """Replace the NIR export by one of another network, with a manifest that fits."""
    opened = open_bundle(bundle)
    network = opened.network()
    node = network.node("conv2")
    assert isinstance(node, Conv)
    other = network.replace(replace(node, bias=node.bias + np.float32(0.5)))
    opened.with_export("nir", "network.nir", lambda path: export(other, path, "nir"))
