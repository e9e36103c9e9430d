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
    Published(
        "RobustNorm",
        "VGG16",
        92.82,
        {16: 82.71, 32: 49.79, 64: 11.30, 128: 2.02, 256: 0.07},
        _CITED,
    ),
    Published("SpikeNorm", "VGG16", 91.70, {256: 0.15}, _CITED + "; 256 stands for 256 or more"),
    Published(
        "HybridTrain",
        "VGG16",
        92.81,
        {128: 1.68, 256: 0.33},
        _CITED + "; T = 100 and 200 in place of 128 and 256, trained on labels, leaky neurons",
    ),
    Published(
        "RMP",
        "VGG16",
        93.63,
        {32: 33.33, 64: 3.28, 128: 1.22, 256: 0.01},
        _CITED + "; 256 stands for 256 or more",
    ),
    Published(
        "TSC",
        "VGG16",
        93.63,
        {64: 0.84, 128: 0.36, 256: 0.01},
        _CITED + "; 256 stands for 256 or more",
    ),
    Published(
        "RNL",
        "VGG16",
        92.86,
        {16: 34.96, 32: 7.46, 64: 1.71, 128: 0.35, 256: 0.01},
        _CITED + "; the ANN is trained with a clip",
    ),
    Published("SpikeNorm", "ResNet20", 89.10, {256: 1.64}, _CITED + "; 256 stands for 256 or more"),
    Published(
        "HybridTrain",
        "ResNet20",
        93.15,
        {256: 0.21},
        _CITED + "; 256 is T = 250, trained on labels, leaky neurons",
    ),
    Published(
        "RMP", "ResNet20", 91.47, {128: 3.87, 256: 0.11}, _CITED + "; 256 stands for 256 or more"
    ),
    Published(
        "TSC",
        "ResNet20",
        91.47,
        {64: 22.09, 128: 2.90, 256: 0.05},
        _CITED + "; 256 stands for 256 or more",
    ),
    Published("Opt", "VGG16", 95.72, {32: 19.48, 64: 5.08, 128: 1.61, 256: 0.01}, _CITED),
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
