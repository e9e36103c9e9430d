"""CIFAR-10 networks as they are usually written: nothing in them is made for spikes.

icsnn convert examples/cifar_models.py:resnet20 --weights resnet20.pt \
      --calibration calib.npz:images --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 \
      --time-steps 8 --out build/resnet20
"""

import torch
import torch.nn.functional as F
from torch import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters ("option A" of He et al. 2015)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.pad = (channels - channels_in) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride != 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(out + x)


class ResNet20(nn.Module):
    """ResNet20 for 32x32 images: three stages of three blocks."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, 1)
        self.layer2 = self._stage(16, 32, 2)
        self.layer3 = self._stage(32, 64, 2)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(channels_in: int, channels: int, stride: int) -> nn.Sequential:
        rest = [BasicBlock(channels, channels, 1) for _ in range(2)]
        return nn.Sequential(BasicBlock(channels_in, channels, stride), *rest)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def resnet20() -> nn.Module:
    """ResNet20 for CIFAR-10."""
    return ResNet20()


def vgg16(width: float = 1.0, classes: int = 10) -> nn.Module:
    """VGG16 for 32x32 images, with batch normalization and average pooling."""
    layers: list[nn.Module] = []
    channels = 3
    for entry in (64, 64, "A", 128, 128, "A", *(256,) * 3, "A", *(512,) * 3, "A", *(512,) * 3, "A"):
        if isinstance(entry, str):
            layers.append(nn.AvgPool2d(2))
            continue
        out = round(entry * width)
        conv = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        channels = out
    layers += [nn.Flatten(), nn.Linear(channels, channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(channels, classes))


def vgg16_half() -> nn.Module:
    """VGG16 at half its width."""
    return vgg16(width=0.5)
