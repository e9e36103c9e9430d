"""A tiny network and its samples, that the tests of sweeps run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.sweeping.options import SweepOptions
from icsnn_deploy.sweeping.result import SweepResult
from icsnn_deploy.sweeping.run import sweep

MODEL = """
from tests.support.sweeping import tiny
"""


def tiny() -> nn.Sequential:
    """Two convolutions and a head, with weights that separate three classes."""
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False),
        nn.ReLU(),
        nn.Conv2d(3, 4, 3, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model.eval()


@dataclass(frozen=True)
class Data:
    """Samples of the tiny network; labels are the ANN's classes, some of them changed."""

    calibration: Array
    images: Array
    labels: Array


def data() -> Data:
    rng = np.random.default_rng(1)
    calibration = rng.normal(size=(24, 1, 6, 6)).astype(np.float32)
    images = rng.normal(size=(40, 1, 6, 6)).astype(np.float32)
    with torch.no_grad():
        labels = tiny()(torch.from_numpy(images)).argmax(dim=1).numpy()
    labels[::10] = (labels[::10] + 1) % 3
    return Data(calibration, images, labels)


def write(folder: Path) -> list[str]:
    """The model and the samples in files, as arguments of icsnn sweep; without --out."""
    found = data()
    np.savez(folder / "data.npz", calib=found.calibration, images=found.images, labels=found.labels)
    (folder / "net.py").write_text(MODEL)
    return [
        "sweep",
        f"{folder}/net.py:tiny",
        f"--calibration={folder}/data.npz:calib",
        f"--images={folder}/data.npz:images",
        f"--labels={folder}/data.npz:labels",
    ]


def run(options: SweepOptions, **settings: Any) -> SweepResult:
    """A sweep of the tiny network."""
    found = data()
    return sweep(tiny(), found.calibration, found.images, found.labels, options, **settings)
