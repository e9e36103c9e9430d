"""A small residual network and its training data, scikit-learn's 8 x 8 digits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import Progress, tracked


@dataclass(frozen=True, kw_only=True, eq=False)
class Digits:
    """Images [N, 1, 8, 8] in [0, 1] and class indices [N]."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def load_digits(seed: int = 0) -> Digits:
    """Load the 1,797 digits, a quarter of them held out; raises BackendUnavailableError."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise BackendUnavailableError(
            "the demo's digits need scikit-learn; run: pip install 'icsnn-deploy[demo]'"
        ) from error
    data = load()
    order = np.random.default_rng(seed).permutation(len(data.images))
    images = (data.images[order, None] / 16).astype(np.float32)  # [N, 1, 8, 8]
    labels = data.target[order].astype(np.int64)
    held_out = len(images) // 4
    return Digits(
        train_images=images[held_out:],
        train_labels=labels[held_out:],
        test_images=images[:held_out],
        test_labels=labels[:held_out],
    )


class DigitsNet(nn.Module):
    """Conv-BN-ReLU, a residual block, two average poolings, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(16)
        self.conv4 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(32)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Linear(32 * 2 * 2, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))  # [B, 16, 8, 8]
        y = functional.relu(self.bn2(self.conv2(x)))
        x = functional.relu(self.bn3(self.conv3(y)) + x)  # the residual join
        x = self.pool(x)  # [B, 16, 4, 4]
        x = self.pool(functional.relu(self.bn4(self.conv4(x))))  # [B, 32, 2, 2]
        logits: Tensor = self.head(x.flatten(1))
        return logits


def train(digits: Digits, progress: Progress, *, epochs: int = 30, seed: int = 0) -> DigitsNet:
    """Train the network from scratch, which takes seconds on one core; returns it in eval mode."""
    torch.manual_seed(seed)
    model = DigitsNet()
    images, labels = torch.from_numpy(digits.train_images), torch.from_numpy(digits.train_labels)
    batch = 64
    steps = epochs * -(-len(images) // batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    model.train()
    for _ in tracked(range(epochs), "training", epochs, progress):
        order = torch.randperm(len(images))
        for start in range(0, len(images), batch):
            rows = order[start : start + batch]
            loss = functional.cross_entropy(model(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return model.eval()
