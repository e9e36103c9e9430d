"""Train a small U-Net on synthetic shapes, convert and quantize it; mIoU of all three networks.

    python benchmarks/segmentation.py [--up transpose|bilinear] [--recipe auto:quick]
        [--time-steps 16] [--epochs 12] [--out build/segmentation]

Images are [3, 48, 48]: disks, squares and triangles of random size and color on a textured
background, class 0. Scores are computed by the torch backend over 400 test images.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from coverage_dense import UNet
from torch import nn

from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.evaluation.run import evaluate
from icsnn_deploy.evaluation.samples import open_samples
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.quantize import quantize

SIZE, CLASSES = 48, 4


def draw_scenes(count: int, seed: int) -> tuple[Array, Array]:
    """Images float32 [N, 3, 48, 48] and their classes int64 [N, 48, 48]."""
    rng = np.random.default_rng(seed)
    grid = np.arange(SIZE)
    images = np.empty((count, 3, SIZE, SIZE), np.float32)
    labels = np.zeros((count, SIZE, SIZE), np.int64)
    for image, label in zip(images, labels, strict=True):
        wave = np.sin(grid[:, None] * rng.uniform(0.1, 0.9) + grid * rng.uniform(0.1, 0.9))
        image[:] = rng.uniform(-0.6, 0.6, (3, 1, 1)) + 0.3 * wave
        for _ in range(rng.integers(1, 5)):
            kind = int(rng.integers(1, CLASSES))
            y, x = grid[:, None] - rng.uniform(8, 40), grid - rng.uniform(8, 40)
            where = inside(kind, x, y, rng.uniform(5, 11))
            image[:, where] = rng.uniform(-1.5, 1.5, (3, 1))
            label[where] = kind
        image += rng.normal(0, 0.2, image.shape)
    return images, labels


def inside(kind: int, x: Array, y: Array, radius: float) -> Array:
    """Positions in a disk (1), a square (2) or a triangle that points up (3)."""
    if kind == 1:
        return np.asarray(x**2 + y**2 < radius**2)
    if kind == 2:
        return np.asarray(np.maximum(abs(x), abs(y)) < radius * 0.85)
    return np.asarray((y < radius * 0.8) & (y > 2.2 * abs(x) - radius))


def train(model: nn.Module, images: Array, labels: Array, epochs: int) -> None:
    """Cross entropy over all positions, Adam with a one-cycle rate."""
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.Adam(model.parameters())
    batches = len(x) // 32
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, epochs * batches)
    model.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x))[: batches * 32].view(batches, 32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--up", choices=("transpose", "bilinear"), default="transpose")
    parser.add_argument("--recipe", default="auto:quick")
    parser.add_argument("--time-steps", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("build/segmentation"))
    options = parser.parse_args()
    torch.manual_seed(0)
    images, labels = draw_scenes(1200, seed=0)
    test_images, test_labels = draw_scenes(400, seed=1)
    model = UNet(options.up)
    model.out = nn.Conv2d(8, CLASSES, 1)
    start = time.monotonic()
    train(model, images, labels, options.epochs)
    print(f"U-Net, {options.up}: trained in {time.monotonic() - start:.0f} s", flush=True)
    name, _, effort = options.recipe.partition(":")
    recipe = Recipe(name=name, effort=effort or "standard", time_steps=options.time_steps)
    conversion = convert(model, images[:256], recipe)
    chosen = conversion.report.chosen.method
    print(f"converted, {chosen}: {time.monotonic() - start:.0f} s", flush=True)
    result = quantize(conversion.network, images[:64], conversion.ann)
    bits = sorted(set(result.bits.values()))
    print(f"{bits} bits, T = {options.time_steps}: {time.monotonic() - start:.0f} s\n", flush=True)
    print("| network | mIoU | pixel accuracy | positions with the class of the ANN |")
    print("|---|---|---|---|")
    networks = {"IF": conversion.network, "integer": result.network}
    options.out.mkdir(parents=True, exist_ok=True)
    np.save(options.out / "images.npy", test_images)
    for label, network in networks.items():
        bundle = create_bundle(
            options.out / label,
            network=network,
            ann=conversion.ann,
            samples=to_input_units(network, test_images[:2]),
            report=conversion.report.to_json(),
            overwrite=True,
        )
        samples = open_samples(str(options.out / "images.npy"))
        (found,) = evaluate(bundle, samples, test_labels).outputs.values()
        if network is conversion.network:
            print_row("ANN", found["ann_miou"], found["ann_pixel_accuracy"])
        print_row(label, found["miou"], found["pixel_accuracy"], found["ann_agreement"])
    print(f"\n{time.monotonic() - start:.0f} s in all")


def print_row(name: str, *figures: float) -> None:
    cells = [f"{100 * figure:.2f} %" for figure in figures]
    print("| " + " | ".join([name, *cells, *[""] * (3 - len(cells))]) + " |", flush=True)


if __name__ == "__main__":
    main()
