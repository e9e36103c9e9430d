"""The digits of the GPU check, carried or from scikit-learn, and the demo's network for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from icsnn_deploy.demo.digits import Digits, load_digits, train
from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import silent

DIGITS_FILE = "digits.npz"
EPOCHS = 10  # the demo's 30 gain half a percent


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedDigits:
    """The demo's network, trained.

    Attributes:
        model: in eval mode.
        calibration: images [512, 1, 8, 8].
        origin: where the digits are from.
        accuracy: of the model on held-out images.
    """

    model: nn.Module
    calibration: Array
    origin: str
    accuracy: float


@contextmanager
def one_thread() -> Iterator[None]:
    """Small networks are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def carry_digits(folder: Path) -> None:
    """Write scikit-learn's digits to a folder, for machines without scikit-learn."""
    digits = load_digits()
    folder.mkdir(parents=True, exist_ok=True)
    packed = {
        name: np.round(16 * values).astype(np.uint8) if name.endswith("images") else values
        for name, values in vars(digits).items()
    }
    np.savez_compressed(folder / DIGITS_FILE, **packed)


def find_digits(folder: Path) -> tuple[Digits, str]:
    """The digits, and where they are from; random images if neither place has any."""
    carried = folder / DIGITS_FILE
    if carried.is_file():
        with np.load(carried) as file:
            values = {
                name: (file[name] / 16).astype(np.float32)
                if name.endswith("images")
                else file[name]
                for name in file.files
            }
        return Digits(**values), f"carried ({DIGITS_FILE})"
    try:
        return load_digits(), "scikit-learn"
    except BackendUnavailableError:
        rng = np.random.default_rng(0)
        images = rng.random((1797, 1, 8, 8), dtype=np.float32)
        labels = rng.integers(0, 10, 1797)
        made = Digits(
            train_images=images[449:],
            train_labels=labels[449:],
            test_images=images[:449],
            test_labels=labels[:449],
        )
        return made, "random images, because neither scikit-learn nor build/gpu/digits.npz is here"


def train_digits(folder: Path) -> TrainedDigits:
    """Train the demo's network on the digits that are here."""
    digits, origin = find_digits(folder)
    with one_thread():
        model = train(digits, silent, epochs=EPOCHS)
        with torch.no_grad():
            logits = model(torch.from_numpy(digits.test_images))
    right = logits.argmax(dim=1).numpy() == digits.test_labels
    return TrainedDigits(
        model=model,
        calibration=digits.train_images[:512],
        origin=origin,
        accuracy=float(right.mean()),
    )
