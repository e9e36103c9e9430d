"""Networks and data that no recipe was tuned on, trained for benchmarks/accuracy.py to convert.

    python benchmarks/other_networks.py fashion --data FOLDER --out build/fashion
    python benchmarks/other_networks.py signals --out build/signals
    python benchmarks/other_networks.py mobile --data TRAIN.npz:TEST.npz --out build/mobile

Each writes OUT/weights.pt and OUT/data.npz (calibration, images, labels) and prints the command
that measures all recipes.

    fashion   a CNN with max pooling on Fashion-MNIST; FOLDER has the four .gz files, as the Debian
              package dataset-fashion-mnist or torchvision put them
    signals   a 1-D CNN with strides on sums of chirps and noise in 8 classes, made here
    mobile    a MobileNetV2 of CIFAR size on pixels [N, H, W, 3] (images, labels)
"""

from __future__ import annotations

import argparse
import gzip
import shlex
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from icsnn_deploy.conversion.calibration.augmentation import Augmentation
from icsnn_deploy.graph.neuron import Array

_BATCH = 64
_TEST, _CALIBRATION = 2_000, 4_096
_CLASSES, _LENGTH = 8, 256  # of the signals


def fashion() -> nn.Module:
    """Two blocks of two convolutions with max pooling, for [1, 28, 28]."""
    return nn.Sequential(
        *_block(1, 16),
        *_block(16, 16),
        nn.MaxPool2d(2),
        *_block(16, 32),
        *_block(32, 32),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 49, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def signals() -> nn.Module:
    """Four strided 1-D convolutions, for [1, 256]."""
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 32), (32, 64)):
        layers += [nn.Conv1d(before, after, 7, 2, 3), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, _CLASSES))


class _Inverted(nn.Module):
    """An inverted residual block (Sandler et al. 2018) with ReLU6."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self.joined = stride == 1 and before == after
        self.layers = nn.Sequential(
            *(nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()),
            *(
                nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU6(),
            ),
            *(nn.Conv2d(wide, after, 1, bias=False), nn.BatchNorm2d(after)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return x + y if self.joined else y


def mobile() -> nn.Module:
    """A narrow MobileNetV2 for [3, 32, 32]."""
    blocks: list[nn.Module] = [
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
    ]
    width = 16
    for after, stride in ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        blocks.append(_Inverted(width, after, stride, 4))
        width = after
    blocks += [nn.Conv2d(width, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU6()]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def _block(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()


def read_fashion(folder: Path) -> dict[str, Array]:
    """Images [N, 1, 28, 28] in 0..1 and labels of Fashion-MNIST's files."""

    def read(name: str, header: int) -> Array:
        return np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8, offset=header)

    found = {}
    for split, part in (("train", "train"), ("test", "t10k")):
        images = read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
        found[f"{split}_images"] = (images / np.float32(255)).astype(np.float32)
        found[f"{split}_labels"] = read(f"{part}-labels-idx1-ubyte.gz", 8).astype(np.int64)
    return found


def make_signals(count: int, seed: int) -> tuple[Array, Array]:
    """Signals [N, 1, 256] of two chirps and noise; the class is the rate of the louder one."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, _CLASSES, count)
    others = (labels + rng.integers(1, _CLASSES, count)) % _CLASSES
    t = np.linspace(0, 1, _LENGTH)

    def chirp(classes: Array) -> Array:
        phase = rng.uniform(0, 2 * np.pi, (count, 1))
        start = rng.uniform(4, 8, (count, 1))
        result: Array = np.sin(2 * np.pi * (start * t + 4 * classes[:, None] * t**2) + phase)
        return result

    loud, faint = rng.uniform(0.8, 1.2, (count, 1)), rng.uniform(0.3, 0.6, (count, 1))
    noise = rng.normal(0, 2, (count, _LENGTH))
    x = loud * chirp(labels) + faint * chirp(others) + noise
    return x[:, None].astype(np.float32), labels.astype(np.int64)


def read_data(name: str, data: str) -> dict[str, Array]:
    """train_images, train_labels, test_images, test_labels of a benchmark."""
    if name == "fashion":
        return read_fashion(Path(data))
    if name == "signals":
        found = {}
        for split, count, seed in (("train", 20_000, 1), ("test", _TEST, 2)):
            found[f"{split}_images"], found[f"{split}_labels"] = make_signals(count, seed)
        return found
    found = {}
    for split, file in zip(("train", "test"), data.split(":"), strict=True):
        with np.load(file) as archive:
            pixels = archive["images"].transpose(0, 3, 1, 2)
            found[f"{split}_images"] = (pixels / np.float32(255) - np.float32(0.5)) * 4
            found[f"{split}_labels"] = archive["labels"].astype(np.int64)
    return found


def train(model: nn.Module, images: Array, labels: Array, epochs: int) -> None:
    """SGD with one cycle; images are shifted, and mirrored unless they are signals."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    augment = Augmentation.suited_to(images.shape[1:])
    steps = epochs * (len(images) // _BATCH)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    model.train()
    begun, done = time.monotonic(), 0
    for epoch in range(epochs):
        order = rng.permutation(len(images))
        for start in range(0, len(images) - _BATCH + 1, _BATCH):
            chosen = order[start : start + _BATCH]
            batch = torch.from_numpy(augment.vary(images[chosen], rng))
            loss = functional.cross_entropy(model(batch), torch.from_numpy(labels[chosen]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            cycle.step()
            done += 1
        print(
            f"epoch {epoch + 1}/{epochs}: loss {loss.item():.3f}, {time.monotonic() - begun:.0f} s"
        )
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: Array, labels: Array) -> float:
    """Top-1 accuracy."""
    guesses = [model(torch.from_numpy(part)).argmax(1) for part in np.array_split(images, 20)]
    return float((torch.cat(guesses).numpy() == labels).mean())


_NETWORKS: dict[str, Any] = {"fashion": fashion, "signals": signals, "mobile": mobile}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=_NETWORKS)
    parser.add_argument("--data", default="")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    data = read_data(given.network, given.data)
    torch.manual_seed(0)
    model = _NETWORKS[given.network]()
    train(model, data["train_images"], data["train_labels"], given.epochs)
    test, labels = data["test_images"][:_TEST], data["test_labels"][:_TEST]
    print(f"accuracy on {len(test)} test samples: {accuracy(model, test, labels):.2%}")
    given.out.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), given.out / "weights.pt")
    calibration = data["train_images"][:_CALIBRATION]
    archive = given.out / "data.npz"
    np.savez_compressed(archive, calibration=calibration, images=test, labels=labels)
    words = ["python", "benchmarks/accuracy.py", "--model"]
    words += [f"benchmarks/other_networks.py:{given.network}"]
    words += ["--weights", str(given.out / "weights.pt"), "--calibration", f"{archive}:calibration"]
    words += ["--images", f"{archive}:images", "--labels", f"{archive}:labels"]
    words += ["--calibration-samples", str(_CALIBRATION), "--limit", str(_TEST)]
    words += ["--time-steps", "1,2,4,8,16", "--no-figures", "--out", str(given.out / "accuracy")]
    print(shlex.join(words))


if __name__ == "__main__":
    main()
