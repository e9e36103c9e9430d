"""Losses that papers report, for the rows beside ours, and what differs from our measurement."""

from __future__ import annotations

from dataclasses import dataclass

IC_SNN = "IC-SNN (Li et al. 2023), tables 2 and 4"


@dataclass(frozen=True)
class Published:
    """One row; losses are ANN minus SNN accuracy in points, by T."""

    method: str
    network: str  # on CIFAR-10
    ann: float  # percent
    losses: dict[int, float]
    differs: str


_IC = "lossless images, no batch norm, trained by the authors"
_CITED = "lossless images, the cited authors' network; as quoted by IC-SNN"

PUBLISHED = (
    Published("RobustNorm", "VGG16", 92.82, {16: 82.71, 32: 49.79, 64: 11.30, 128: 2.02}, _CITED),
    Published("RMP", "VGG16", 93.63, {32: 33.33, 64: 3.28, 128: 1.22}, _CITED),
    Published("Opt", "VGG16", 95.72, {32: 19.48, 64: 5.08, 128: 1.61}, _CITED),
    Published(
        "I-SNN", "VGG16", 92.09, {8: 22.28, 16: 8.14, 32: 1.72, 64: 0.91, 128: 0.75, 256: 0.08}, _IC
    ),
    Published(
        "C-SNN",
        "VGG16",
        92.09,
        {8: 28.52, 16: 12.06, 32: 5.25, 64: 2.84, 128: 1.37, 256: 0.13},
        _IC,
    ),
    Published(
        "IC-SNN", "VGG16", 92.09, {8: 9.95, 16: 2.97, 32: 1.03, 64: 0.61, 128: 0.29, 256: 0.05}, _IC
    ),
    Published(
        "I-SNN",
        "ResNet20",
        91.46,
        {8: 43.21, 16: 21.75, 32: 4.72, 64: 3.87, 128: 1.06, 256: 0.21},
        _IC + "; one threshold per block",
    ),
    Published(
        "C-SNN",
        "ResNet20",
        91.46,
        {8: 57.18, 16: 30.39, 32: 8.25, 64: 5.34, 128: 2.39, 256: 0.27},
        _IC + "; one threshold per block",
    ),
    Published(
        "IC-SNN",
        "ResNet20",
        91.46,
        {8: 37.31, 16: 10.23, 32: 3.64, 64: 2.14, 128: 0.81, 256: 0.09},
        _IC + "; one threshold per block",
    ),
    Published(
        "OPI",
        "VGG16",
        94.57,
        {8: 3.61, 16: 1.19, 32: 0.37, 64: 0.12},
        "lossless images, the ANN is trained with a clip",
    ),
    Published(
        "SNN-Calibration (AP)",
        "VGG16",
        95.72,
        {32: 2.01, 64: 0.58},
        "lossless images, the authors' network",
    ),
    Published(
        "QCFS",
        "VGG16",
        95.52,
        {4: 1.56, 8: 0.57, 16: 0.12, 32: -0.02, 64: -0.03},
        "lossless images, the ANN is retrained with a clip-floor activation",
    ),
    Published(
        "QCFS",
        "ResNet20",
        91.77,
        {4: 8.02, 8: 2.22, 16: 0.15, 32: -0.47, 64: -0.58},
        "lossless images, the ANN is retrained with a clip-floor activation",
    ),
)
