"""Train a CNN on simulated events of digits, convert it for events and quantize it; accuracies.

    python benchmarks/events.py [--time-steps 8] [--bins duration|count] [--recipe fast]
        [--target generic] [--epochs 12] [--out build/events]

The events are a simulation (moving_camera.py), not recordings. Frames for training are the mean
over T of the binned events, and so is what the ANN of the bundle is judged on. The events are
written to OUT/train and OUT/test, a folder for each class; the bundles are OUT/float and OUT/int8.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from moving_camera import SENSOR, Camera, save_recordings
from torch import Tensor, nn

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.demo.digits import load_digits
from icsnn_deploy.evaluation.recording_samples import open_recordings
from icsnn_deploy.evaluation.run import evaluate
from icsnn_deploy.events.binning import EventBinning
from icsnn_deploy.events.folder import find_recordings, map_recordings
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.targets import find_target

_CALIBRATION = 256


class EventNet(nn.Sequential):
    """Three convolutions and a linear head on [2, 20, 20]."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(2, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(32, 32, 3, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 3 * 3, 10),
        )


def train(frames: Array, labels: Array, epochs: int) -> nn.Module:
    """Cross entropy, SGD with a one-cycle rate; returns the model in eval mode."""
    torch.manual_seed(0)
    model = EventNet()
    x, y = torch.from_numpy(frames), torch.from_numpy(labels)
    batches = len(x) // 64
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs * batches)
    for _ in range(epochs):
        for rows in torch.randperm(len(x))[: batches * 64].view(batches, 64):
            loss: Tensor = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return model.eval()


def write_set(folder: Path, images: Array, labels: Array, seed: int) -> None:
    """Record the digits, a folder for each class; an earlier set is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    save_recordings(folder, Camera().record(images[:, 0], seed), labels)


def load_set(folder: Path, binning: EventBinning) -> tuple[Array, Array]:
    """Spikes [T, N, 2, H, W] and labels [N]."""
    found = find_recordings(str(folder))
    assert found is not None
    assert found.labels is not None
    return map_recordings(found.paths, binning), found.labels


def print_row(name: str, bundle: Bundle, folder: Path, key: str) -> None:
    samples = open_recordings(bundle, str(folder))
    assert samples is not None
    (found,) = evaluate(bundle, samples, samples.labels).outputs.values()
    print(f"| {name} | {100 * found[key]:.2f} % |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-steps", type=int, default=8)
    parser.add_argument("--bins", choices=("duration", "count"), default="duration")
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--target", default="generic")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("build/events"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    digits = load_digits()
    write_set(options.out / "train", digits.train_images, digits.train_labels, seed=0)
    write_set(options.out / "test", digits.test_images, digits.test_labels, seed=1)
    print(f"recorded: {time.monotonic() - start:.0f} s", flush=True)
    binning = EventBinning(
        time_steps=options.time_steps, shape=(2, SENSOR, SENSOR), bins=options.bins
    )
    spikes, labels = load_set(options.out / "train", binning)
    frames = spikes.mean(axis=0, dtype=np.float32)
    print(f"{100 * spikes.mean():.1f} % of the inputs are spikes", flush=True)
    model = train(frames, labels, options.epochs)
    print(f"trained: {time.monotonic() - start:.0f} s", flush=True)
    calibration = spikes[:, :_CALIBRATION]
    recipe = Recipe(name=options.recipe, time_steps=options.time_steps)
    conversion = convert(model, calibration, recipe, encoding="events")
    written = conversion.save(
        options.out / "float", calibration[:, :8], event_bins=options.bins, overwrite=True
    )
    profile = find_target(options.target)
    lattice = LatticeOptions.for_target(profile, bits=None, per_layer=False, input_bits=8)
    result = quantize(written, calibration, options=lattice, profile=profile)
    integer = result.save(options.out / "int8", overwrite=True)
    print(f"converted and quantized: {time.monotonic() - start:.0f} s\n", flush=True)
    print("| network | accuracy on the test events |\n|---|---|")
    test = options.out / "test"
    print_row("ANN, on the mean of the events", written, test, "ann_top1")
    print_row(f"IF, T = {options.time_steps}", written, test, "top1")
    print_row(f"integer, {sorted(set(result.bits.values()))} bits", integer, test, "top1")
    print(f"\n{time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
