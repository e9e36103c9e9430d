r"""A residual network for CIFAR-10 that SANA-FE can run, trained in minutes on one core.

From the root of the repository:

    python benchmarks/small_resnet.py --images train.npz:images --labels train.npz:labels \
        --out resnet8.pt
    icsnn convert benchmarks/small_resnet.py:resnet8 --weights resnet8.pt --time-steps 8 \
        --calibration train.npz:images --limit 1024 --mean 0.485,0.456,0.406 \
        --std 0.229,0.224,0.225 --out build/resnet8
    icsnn quantize build/resnet8 --calibration train.npz:images --limit 1024 --target loihi1 \
        --out build/resnet8-int8
    icsnn verify build/resnet8-int8 --images test.npz:images --limit 8 \
        --backend sanafe --backend nengo-loihi --backend brian2
    icsnn cost build/resnet8-int8 --images test.npz:images --limit 8
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from icsnn_deploy.data import Normalization, load_images, load_labels

NORMALIZATION = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_BATCH = 128
_MOST_RATE = 0.05  # of the one-cycle schedule


class _Block(nn.Module):
    """The basic block of a ResNet, with a convolution as the shortcut where the shape changes."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut: nn.Module = nn.Identity()
        if c_in != c_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(y + self.shortcut(x))


def resnet8(channels: int = 8) -> nn.Module:
    """ResNet8 with a stem of stride 2: three blocks on 16 x 16, 8 x 8 and 4 x 4 pixels."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, 2, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        _Block(channels, channels, 1),
        _Block(channels, 2 * channels, 2),
        _Block(2 * channels, 4 * channels, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * channels, 10),
    )


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Train with random flips and shifts; images uint8 [N, 3, H, W]."""
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (NORMALIZATION.mean, NORMALIZATION.std))
    steps = len(images) // _BATCH
    optimizer = torch.optim.SGD(
        model.parameters(), lr=_MOST_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _MOST_RATE, epochs * steps)
    for epoch in range(epochs):
        started, total = time.monotonic(), 0.0
        model.train()
        for chosen in torch.randperm(len(images))[: steps * _BATCH].reshape(steps, _BATCH):
            x = (images[chosen].float() / 255 - mean) / std  # [B, 3, H, W]
            dy, dx = torch.randint(-3, 4, (2,)).tolist()
            x = torch.roll(x, (dy, dx), (2, 3))
            x = x.flip(3) if torch.rand(()) < 0.5 else x
            loss = cross_entropy(model(x), labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / steps:.3f}, {time.monotonic() - started:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="FILE.npz:array, uint8")
    parser.add_argument("--labels", required=True, help="FILE.npz:array")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True, help="the state dict")
    options = parser.parse_args()
    torch.manual_seed(0)
    images = torch.from_numpy(load_images(options.images, NORMALIZATION))
    labels = torch.from_numpy(load_labels(options.labels, len(images)))
    model = resnet8()
    train(model, images, labels, options.epochs)
    torch.save(model.state_dict(), options.out)


if __name__ == "__main__":
    main()
