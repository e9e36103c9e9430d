"""Classic image classifiers in a small size, written with plain modules."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from coverage_zoo import Architecture, handwritten
from torch import Tensor, nn


def conv_bn(
    c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    """Convolution that keeps the size at stride 1, batch norm, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if act else []))


def head(channels: int, classes: int = 10) -> nn.Sequential:
    """Global average pooling and a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def lenet(act: type[nn.Module]) -> nn.Module:
    """LeNet-5."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), act(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), act(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), act(), nn.Linear(120, 84), act(), nn.Linear(84, 10)),
    )


def vgg(plan: str, norm: bool = True) -> nn.Module:
    """VGG of one character per layer: a digit times 8 channels, or M for a pooling."""
    layers: list[nn.Module] = []
    channels = 3
    for one in plan:
        if one == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        width = 8 * int(one)
        layers += [nn.Conv2d(channels, width, 3, padding=1)]
        layers += [nn.BatchNorm2d(width)] if norm else []
        layers += [nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 4, 10))


class Residual(nn.Module):
    """Basic block of a CIFAR ResNet, with a shortcut of option A or B."""

    def __init__(self, c_in: int, c_out: int, stride: int, option: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(c_in, c_out, stride=stride), conv_bn(c_out, c_out, act=False)
        )
        self.pad = (c_out - c_in) // 2 if option == "A" else 0
        self.stride = stride
        self.short: nn.Module = nn.Identity()
        if option == "B" and (stride > 1 or c_in != c_out):
            self.short = conv_bn(c_in, c_out, 1, stride, act=False)

    def forward(self, x: Tensor) -> Tensor:
        short = self.short(x)
        if self.pad:
            short = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(self.body(x) + short)


def resnet20(option: str) -> nn.Module:
    """CIFAR ResNet20 at half its width."""
    widths = [(8, 8, 1), (8, 8, 1), (8, 8, 1), (8, 16, 2), (16, 16, 1), (16, 16, 1)]
    widths += [(16, 32, 2), (32, 32, 1), (32, 32, 1)]
    blocks = [Residual(*one, option) for one in widths]
    return nn.Sequential(conv_bn(3, 8), *blocks, head(32))


class PreActivation(nn.Module):
    """Block of a pre-activation ResNet."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.first = conv_bn(c_in, c_out, stride=stride)
        self.second = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.short = nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm(x))
        short: Tensor = self.short(out)
        joined: Tensor = short + self.second(self.first(out))
        return joined


def preact_resnet() -> nn.Module:
    blocks = [PreActivation(8, 8, 1), PreActivation(8, 16, 2), PreActivation(16, 32, 2)]
    last = [nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks, *last, head(32))


class Dense(nn.Module):
    """Layer of a DenseNet: concatenates its result to its input."""

    def __init__(self, c_in: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c_in)
        self.conv = nn.Conv2d(c_in, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)


def densenet() -> nn.Module:
    first = [Dense(8 + 4 * i, 4) for i in range(3)]
    second = [Dense(10 + 4 * i, 4) for i in range(3)]
    between = [nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1), nn.AvgPool2d(2)]
    layers = [nn.Conv2d(3, 8, 3, padding=1), *first, *between, *second]
    return nn.Sequential(*layers, nn.BatchNorm2d(22), nn.ReLU(), head(22))


def mobilenet_v1() -> nn.Module:
    plan = [(8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2)]
    separable = [
        nn.Sequential(conv_bn(i, i, 3, stride, i), conv_bn(i, o, 1)) for i, o, stride in plan
    ]
    return nn.Sequential(conv_bn(3, 8, stride=2), *separable, head(64))


class Shuffle(nn.Module):
    """ShuffleNet v1 unit: grouped 1x1 convolutions and a channel shuffle."""

    def __init__(self, channels: int, groups: int, view: bool) -> None:
        super().__init__()
        self.groups, self.view = groups, view
        self.first = conv_bn(channels, channels, 1, groups=groups)
        self.shuffle = nn.ChannelShuffle(groups)
        self.depth = conv_bn(channels, channels, 3, groups=channels, act=False)
        self.last = conv_bn(channels, channels, 1, groups=groups, act=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.first(x)
        if self.view:
            b, c, h, w = out.shape
            out = out.view(b, self.groups, c // self.groups, h, w).transpose(1, 2)
            out = out.reshape(b, c, h, w)
        else:
            out = self.shuffle(out)
        return F.relu(x + self.last(self.depth(out)))


def shufflenet_v1(view: bool) -> nn.Module:
    units = [Shuffle(12, 3, view), Shuffle(12, 3, view)]
    return nn.Sequential(conv_bn(3, 12), nn.MaxPool2d(3, 2, 1), *units, head(12))


class Fire(nn.Module):
    """Fire module of SqueezeNet."""

    def __init__(self, c_in: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(c_in, squeeze, 1)
        self.one = nn.Conv2d(squeeze, expand, 1)
        self.three = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x), inplace=True)
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


def squeezenet() -> nn.Module:
    fires = [Fire(16, 4, 8), Fire(16, 4, 8), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(16, 8, 16)]
    last = [nn.Dropout(), nn.Conv2d(32, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), *fires, *last)


class Inception(nn.Module):
    """Inception module of GoogLeNet."""

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.a = conv_bn(c_in, 8, 1)
        self.b = nn.Sequential(conv_bn(c_in, 4, 1), conv_bn(4, 8))
        self.c = nn.Sequential(conv_bn(c_in, 4, 1), conv_bn(4, 4, 5))
        self.d = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(c_in, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in (self.a, self.b, self.c, self.d)], 1)


def googlenet() -> nn.Module:
    blocks = [Inception(8), nn.MaxPool2d(3, 2, ceil_mode=True), Inception(24)]
    return nn.Sequential(conv_bn(3, 8, stride=2), *blocks, head(24))


def network_in_network() -> nn.Module:
    layers: list[nn.Module] = []
    for c_in, c_out, kernel in ((3, 16, 5), (16, 16, 5), (16, 10, 3)):
        layers += [nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), nn.ReLU(True)]
        layers += [nn.Conv2d(c_out, c_out, 1), nn.ReLU(True), nn.MaxPool2d(3, 2, ceil_mode=True)]
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten())


def all_convolutional() -> nn.Module:
    body = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU()]
    body += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 10, 1), nn.ReLU()]
    return nn.Sequential(nn.Dropout2d(0.2), *body, nn.AvgPool2d(16), nn.Flatten())


def alexnet_lrn() -> nn.Module:
    first = [nn.Conv2d(3, 16, 5, 2), nn.ReLU(), nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2)]
    return nn.Sequential(*first, nn.Flatten(), nn.Linear(576, 32), nn.ReLU(), nn.Linear(32, 10))


class Fractal(nn.Module):
    """Fractal block: the mean of a short and a long path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.short = conv_bn(channels, channels)
        self.long = nn.Sequential(conv_bn(channels, channels), conv_bn(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.short(x), self.long(x)]).mean(0)


class Ghost(nn.Module):
    """Ghost module: half of the channels come from a cheap depthwise convolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.primary = conv_bn(c_in, c_out // 2, 1)
        self.cheap = conv_bn(c_out // 2, c_out // 2, 3, groups=c_out // 2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.primary(x)
        return torch.cat([first, self.cheap(first)], dim=1)[:, :16, :, :]


class Plus(nn.Module):
    """Layers with a residual join around them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out + x


def convmixer() -> nn.Module:
    """ConvMixer with ReLU: depthwise convolutions with a residual join, then pointwise."""

    def block() -> list[nn.Module]:
        depth = Plus(nn.Conv2d(16, 16, 5, padding="same", groups=16), nn.ReLU(), nn.BatchNorm2d(16))
        return [depth, nn.Conv2d(16, 16, 1), nn.ReLU(), nn.BatchNorm2d(16)]

    patches = [nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.BatchNorm2d(16)]
    return nn.Sequential(*patches, *block(), *block(), head(16))


def architectures() -> list[Architecture]:
    image, gray = ((3, 32, 32),), ((1, 28, 28),)
    return handwritten(
        {
            "lenet5": (lambda: lenet(nn.ReLU), gray),
            "lenet5-tanh": (lambda: lenet(nn.Tanh), gray),
            "vgg8": (lambda: vgg("1M2M4M44M"), image),
            "vgg8-no-norm": (lambda: vgg("1M2M4M44M", norm=False), image),
            "resnet20-a": (lambda: resnet20("A"), image),
            "resnet20-b": (lambda: resnet20("B"), image),
            "preact-resnet": (preact_resnet, image),
            "densenet": (densenet, image),
            "mobilenet-v1": (mobilenet_v1, image),
            "shufflenet-v1-view": (lambda: shufflenet_v1(True), image),
            "shufflenet-v1-module": (lambda: shufflenet_v1(False), image),
            "squeezenet": (squeezenet, image),
            "googlenet": (googlenet, image),
            "network-in-network": (network_in_network, image),
            "all-convolutional": (all_convolutional, image),
            "alexnet-lrn": (alexnet_lrn, image),
            "fractalnet": (lambda: nn.Sequential(conv_bn(3, 8), Fractal(8), head(8)), image),
            "ghostnet": (
                lambda: nn.Sequential(conv_bn(3, 8), Ghost(8, 16), Ghost(16, 16), head(16)),
                image,
            ),
            "convmixer-relu": (convmixer, image),
        }
    )
