"""Small networks with the structure of published ones, and their 8-bit conversions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.conversion import Conversion
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantization import Quantization
from icsnn_deploy.lattice.quantize import quantize

TIME_STEPS = 4


def _norm(conv: nn.Conv1d | nn.Conv2d, act: Callable[[], nn.Module]) -> nn.Sequential:
    """A convolution, batch norm over its channels, activation."""
    norm = nn.BatchNorm1d if isinstance(conv, nn.Conv1d) else nn.BatchNorm2d
    return nn.Sequential(conv, norm(conv.out_channels), act())


def conv_relu(
    c_in: int, c_out: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution that keeps the size at stride 1, batch norm, ReLU."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return _norm(conv, nn.ReLU)


def conv_leaky(c_in: int, c_out: int, kernel: int = 3) -> nn.Sequential:
    """Darknet's convolution: batch norm and LeakyReLU(0.1)."""
    conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    return _norm(conv, lambda: nn.LeakyReLU(0.1, inplace=True))


class TinyYoloV3(nn.Module):
    """Tiny YOLO v3: two heads, the second after nearest upsampling of the deeper map."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        values = 3 * (5 + classes)
        self.body = nn.Sequential(
            *(conv_leaky(3, 4), nn.MaxPool2d(2), conv_leaky(4, 8), nn.MaxPool2d(2))
        )
        self.middle = conv_leaky(8, 8)
        self.deep = nn.Sequential(
            *(nn.MaxPool2d(2), conv_leaky(8, 12), nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, 1)),
            *(conv_leaky(12, 12), conv_leaky(12, 8, 1)),
        )
        self.head1 = nn.Sequential(conv_leaky(8, 12), nn.Conv2d(12, values, 1))
        self.up = nn.Sequential(conv_leaky(8, 4, 1), nn.Upsample(scale_factor=2, mode="nearest"))
        self.head2 = nn.Sequential(conv_leaky(12, 8), nn.Conv2d(8, values, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        middle = self.middle(self.body(x))
        deep = self.deep(middle)
        return self.head1(deep), self.head2(torch.cat([self.up(deep), middle], 1))


class UNet(nn.Module):
    """U-Net of two levels.

    Args:
        bilinear: upsample bilinearly instead of by ConvTranspose.
        c_in: channels of the image.
        classes: channels of the map of scores.
        width: channels at full resolution.
    """

    def __init__(self, *, bilinear: bool, c_in: int = 1, classes: int = 3, width: int = 4) -> None:
        super().__init__()
        self.enter = self._double(c_in, width)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), self._double(width, 2 * width))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), self._double(2 * width, 4 * width))
        self.rise2 = self._rise(4 * width, bilinear)
        self.rise1 = self._rise(2 * width, bilinear)
        self.up2 = self._double(4 * width, 2 * width)
        self.up1 = self._double(2 * width, width)
        self.out = nn.Conv2d(width, classes, 1)

    def _double(self, c_in: int, c_out: int) -> nn.Module:
        return nn.Sequential(conv_relu(c_in, c_out), conv_relu(c_out, c_out))

    def _rise(self, channels: int, bilinear: bool) -> nn.Module:
        if not bilinear:
            return nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)
        upsample = nn.Upsample(scale_factor=2, mode="bilinear")
        return nn.Sequential(upsample, nn.Conv2d(channels, channels // 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        x0 = self.enter(x)
        x1 = self.down1(x0)
        y = self.up2(torch.cat([x1, self.rise2(self.down2(x1))], 1))
        y = self.up1(torch.cat([x0, self.rise1(y)], 1))
        scores: Tensor = self.out(y)
        return scores


class ShuffleUnit(nn.Module):
    """Unit of ShuffleNet v2: half of the channels pass, or both branches reduce the size."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.stride, half = stride, c_out // 2
        source = half if stride == 1 else c_in
        self.branch1 = nn.Sequential()
        if stride > 1:
            self.branch1 = nn.Sequential(*self._depthwise(c_in, stride), conv_relu(c_in, half, 1))
        self.branch2 = nn.Sequential(
            conv_relu(source, half, 1), *self._depthwise(half, stride), conv_relu(half, half, 1)
        )

    def _depthwise(self, channels: int, stride: int) -> tuple[nn.Module, nn.Module]:
        conv = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        return conv, nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            kept, x = x.chunk(2, dim=1)
        else:
            kept = self.branch1(x)
        x = torch.cat([kept, self.branch2(x)], 1)
        b, c, h, w = x.shape
        return x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)


def shufflenet_v2() -> nn.Module:
    return nn.Sequential(
        *(conv_relu(3, 6, 3, 2), nn.MaxPool2d(3, 2, 1)),
        *(ShuffleUnit(6, 12, 2), ShuffleUnit(12, 12, 1), ShuffleUnit(12, 12, 1)),
        *(conv_relu(12, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
    )


def vgg16() -> nn.Module:
    """VGG16 as torchvision writes it: 1x1 maps are spread over 7x7 before the first Linear."""
    plan = (2, 2, 0, 4, 4, 0, 6, 6, 6, 0, 8, 8, 8, 0, 8, 8, 8, 0)
    layers: list[nn.Module] = []
    channels = 3
    for width in plan:
        if width:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(
        *(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten(1)),
        *(nn.Linear(8 * 49, 24), nn.ReLU(inplace=True), nn.Dropout()),
        *(nn.Linear(24, 24), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(24, 5)),
    )


class M5(nn.Module):
    """M5 for raw waveforms: pooling over all that is left, permuted before the last layer."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(_norm(nn.Conv1d(1, width, 80, stride=16), nn.ReLU), nn.MaxPool1d(4)),
            *(_norm(nn.Conv1d(width, width, 3), nn.ReLU), nn.MaxPool1d(2)),
            *(_norm(nn.Conv1d(width, 2 * width, 3), nn.ReLU), nn.MaxPool1d(2)),
            *(_norm(nn.Conv1d(2 * width, 2 * width, 3), nn.ReLU),),
        )
        self.fc1 = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        x = nn.functional.avg_pool1d(x, x.shape[-1])  # [B, C, 1]
        x = self.fc1(x.permute(0, 2, 1))  # [B, 1, classes]
        return nn.functional.log_softmax(x, dim=2)


def ds_cnn() -> nn.Module:
    """DS-CNN of "Hello Edge" on MFCC features."""
    first = _norm(nn.Conv2d(1, 8, (10, 4), (2, 2), (5, 1)), nn.ReLU)
    blocks = [nn.Sequential(conv_relu(8, 8, groups=8), conv_relu(8, 8, 1)) for _ in range(4)]
    head = (nn.Dropout(0.2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 12))
    return nn.Sequential(first, *blocks, *head)


def discriminator() -> nn.Module:
    """DCGAN's discriminator: strided convolutions, LeakyReLU, a score by a last convolution."""
    layers: list[nn.Module] = [nn.Conv2d(3, 4, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for c_in, c_out in ((4, 8), (8, 12)):
        conv = nn.Conv2d(c_in, c_out, 4, 2, 1, bias=False)
        layers += _norm(conv, lambda: nn.LeakyReLU(0.2))
    return nn.Sequential(*layers, nn.Conv2d(12, 1, 4, bias=False), nn.Sigmoid())


def fsrcnn(shuffle: bool) -> nn.Module:
    """FSRCNN; upsampling by ConvTranspose as published, or by PixelShuffle."""
    body: list[nn.Module] = []
    for c_in, c_out, kernel in ((1, 8, 5), (8, 4, 1), (4, 4, 3), (4, 4, 3), (4, 8, 1)):
        body += [nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2), nn.PReLU(c_out)]
    if shuffle:
        return nn.Sequential(*body, nn.Conv2d(8, 4, 3, padding=1), nn.PixelShuffle(2))
    return nn.Sequential(*body, nn.ConvTranspose2d(8, 1, 9, 2, 4, output_padding=1))


class PointNet(nn.Module):
    """PointNet without transforms: the same layers for each point, maximum over the points."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((3, 8), (8, 8), (8, 16))
        self.points = nn.Sequential(*(_norm(nn.Conv1d(*w, 1), nn.ReLU) for w in widths))
        self.head = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Dropout(), nn.Linear(12, 5))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.points(x).max(dim=2)[0])
        return scores


@dataclass(frozen=True)
class Network:
    """A network and the shape of a sample."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


NETWORKS = {
    "tiny yolo v3": Network(TinyYoloV3, (3, 16, 16)),
    "u-net, conv transpose": Network(lambda: UNet(bilinear=False), (1, 16, 16)),
    "u-net, bilinear": Network(lambda: UNet(bilinear=True), (1, 16, 16)),
    "shufflenet v2": Network(shufflenet_v2, (3, 32, 32)),
    "vgg16": Network(vgg16, (3, 32, 32)),
    "m5": Network(M5, (1, 2000)),
    "ds-cnn": Network(ds_cnn, (1, 25, 5)),
    "gan discriminator": Network(discriminator, (3, 32, 32)),
    "fsrcnn, conv transpose": Network(lambda: fsrcnn(shuffle=False), (1, 8, 8)),
    "fsrcnn, pixel shuffle": Network(lambda: fsrcnn(shuffle=True), (1, 8, 8)),
    "pointnet": Network(PointNet, (3, 16)),
}


def samples_of(network: Network, count: int) -> Array:
    """Random samples, [count, *shape]."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, *network.shape), dtype=np.float32)


def model_of(network: Network) -> nn.Module:
    """The model in eval mode, its running statistics those of random samples."""
    torch.manual_seed(0)
    model = network.build()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.momentum = None
        model.train()(torch.from_numpy(samples_of(network, 16)))
    return model.eval()


def converted(network: Network, images: Array) -> tuple[Conversion, Quantization]:
    """The conversion at TIME_STEPS steps, and its network of 8-bit integers."""
    recipe = Recipe(name="opi", time_steps=TIME_STEPS)
    conversion = convert(model_of(network), images, recipe)
    options = LatticeOptions(per_layer=True)  # for NIR readers
    return conversion, quantize(conversion.network, images, conversion.ann, options)
