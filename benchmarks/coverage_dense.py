"""Networks whose output is a map: segmentation, super-resolution, restoration, autoencoders."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from coverage_classifiers import conv_bn
from coverage_zoo import Architecture, handwritten
from torch import Tensor, nn


class UNet(nn.Module):
    """U-Net of two levels.

    Args:
        up: "transpose", "bilinear", "bilinear-corners", "nearest", or "shuffle" (PixelShuffle).
        act: of the convolutions.
        crop: pad the upsampled map to the size of the skip connection, as the original does.
    """

    def __init__(self, up: str, act: type[nn.Module] = nn.ReLU, crop: bool = False) -> None:
        super().__init__()
        self.up, self.crop = up, crop
        self.enter = self._double(3, 8, act)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), self._double(8, 16, act))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), self._double(16, 32, act))
        self.rise2, self.rise1 = self._rise(32, 16), self._rise(16, 8)
        self.up2, self.up1 = self._double(32, 16, act), self._double(16, 8, act)
        self.out = nn.Conv2d(8, 3, 1)

    def _double(self, c_in: int, c_out: int, act: type[nn.Module]) -> nn.Module:
        first = [nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), act()]
        return nn.Sequential(*first, nn.Conv2d(c_out, c_out, 3, padding=1), act())

    def _rise(self, c_in: int, c_out: int) -> nn.Module:
        if self.up == "transpose":
            return nn.ConvTranspose2d(c_in, c_out, 2, stride=2)
        if self.up == "shuffle":
            return nn.Sequential(nn.Conv2d(c_in, 4 * c_out, 1), nn.PixelShuffle(2))
        mode, corners = self.up.partition("-")[0], self.up.endswith("corners") or None
        upsample = nn.Upsample(scale_factor=2, mode=mode, align_corners=corners)
        return nn.Sequential(upsample, nn.Conv2d(c_in, c_out, 1))

    def _join(self, low: Tensor, skip: Tensor) -> Tensor:
        if self.crop:
            high, wide = skip.size(2) - low.size(2), skip.size(3) - low.size(3)
            low = F.pad(low, [wide // 2, wide - wide // 2, high // 2, high - high // 2])
        return torch.cat([skip, low], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        x0 = self.enter(x)
        x1 = self.down1(x0)
        x2 = self.down2(x1)
        y = self.up2(self._join(self.rise2(x2), x1))
        y = self.up1(self._join(self.rise1(y), x0))
        out: Tensor = self.out(y)
        return out


class UNet1d(nn.Module):
    """U-Net for signals."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv1d(1, 8, 9, padding=4), nn.ReLU())
        self.down = nn.Sequential(nn.MaxPool1d(2), nn.Conv1d(8, 16, 9, padding=4), nn.ReLU())
        self.up = nn.ConvTranspose1d(16, 8, 2, stride=2)
        self.out = nn.Conv1d(16, 1, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        first = self.enter(x)
        out: Tensor = self.out(torch.cat([first, F.relu(self.up(self.down(first)))], 1))
        return out


class Fcn8(nn.Module):
    """FCN-8s: scores of three depths, summed after ConvTranspose."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(conv_bn(3, 8), nn.MaxPool2d(2))
        self.b = nn.Sequential(conv_bn(8, 16), nn.MaxPool2d(2))
        self.c = nn.Sequential(conv_bn(16, 16), nn.MaxPool2d(2))
        self.scores = nn.ModuleList(nn.Conv2d(c, 4, 1) for c in (8, 16, 16))
        self.up2 = nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1, bias=False)
        self.up1 = nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(a)
        c = self.c(b)
        score = self.up2(self.scores[2](c)) + self.scores[1](b)
        out: Tensor = self.up1(score) + self.scores[0](a)
        return out


class SegNet(nn.Module):
    """SegNet: unpooling by the indices of the poolings."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = conv_bn(3, 8), nn.Conv2d(8, 4, 3, padding=1)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        self.middle = conv_bn(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        pooled, where = self.pool(self.first(x))
        out: Tensor = self.last(self.unpool(self.middle(pooled), where))
        return out


class Aspp(nn.Module):
    """DeepLab's atrous spatial pyramid pooling on a small backbone, resized to the input."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(3, 8, stride=2), conv_bn(8, 16, stride=2))
        self.rates = nn.ModuleList(nn.Conv2d(16, 8, 3, padding=r, dilation=r) for r in (1, 2, 3))
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU())
        self.out = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.body(x)
        parts = [F.relu(conv(features)) for conv in self.rates]
        whole = F.interpolate(
            self.pooled(features), size=features.shape[-2:], mode="bilinear", align_corners=False
        )
        y = self.out(torch.cat([*parts, whole], 1))
        y = F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return {"out": y}


class PyramidPooling(nn.Module):
    """PSPNet's pyramid pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(3, 8, stride=2), conv_bn(8, 8, stride=2))
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(n), nn.Conv2d(8, 4, 1), nn.ReLU()) for n in (1, 2, 3)
        )
        self.out = nn.Conv2d(20, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        size = (y.shape[2], y.shape[3])
        levels = [F.interpolate(f(y), size, mode="bilinear") for f in self.levels]
        out: Tensor = self.out(torch.cat([y, *levels], 1))
        return out


def srcnn() -> nn.Module:
    up = nn.Upsample(scale_factor=2, mode="bicubic")
    layers = [nn.Conv2d(1, 16, 9, padding=4), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.ReLU()]
    return nn.Sequential(up, *layers, nn.Conv2d(8, 1, 5, padding=2))


def fsrcnn(act: type[nn.Module], shuffle: bool) -> nn.Module:
    """FSRCNN; upsampling by ConvTranspose as published, or by PixelShuffle."""
    body = [nn.Conv2d(1, 16, 5, padding=2), act(), nn.Conv2d(16, 6, 1), act()]
    body += [nn.Conv2d(6, 6, 3, padding=1), act(), nn.Conv2d(6, 16, 1), act()]
    if shuffle:
        return nn.Sequential(*body, nn.Conv2d(16, 4, 3, padding=1), nn.PixelShuffle(2))
    return nn.Sequential(*body, nn.ConvTranspose2d(16, 1, 9, 2, 4, output_padding=1))


def espcn(act: type[nn.Module]) -> nn.Module:
    body = [nn.Conv2d(1, 16, 5, padding=2), act(), nn.Conv2d(16, 8, 3, padding=1), act()]
    return nn.Sequential(*body, nn.Conv2d(8, 9, 3, padding=1), nn.PixelShuffle(3))


class SrResidual(nn.Module):
    """SRResNet with batch norm, or EDSR without and with scaled branches."""

    def __init__(self, act: type[nn.Module], norm: bool) -> None:
        super().__init__()
        self.scale = 1.0 if norm else 0.1
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.ModuleList(self._block(act, norm) for _ in range(2))
        self.tail = nn.Sequential(
            *(nn.Conv2d(8, 32, 3, padding=1), nn.PixelShuffle(2), act()),
            nn.Conv2d(8, 3, 3, padding=1),
        )

    def _block(self, act: type[nn.Module], norm: bool) -> nn.Module:
        def between() -> nn.Module:
            return nn.BatchNorm2d(8) if norm else nn.Identity()

        first = [nn.Conv2d(8, 8, 3, padding=1), between(), act()]
        return nn.Sequential(*first, nn.Conv2d(8, 8, 3, padding=1), between())

    def forward(self, x: Tensor) -> Tensor:
        first = x = self.first(x)
        for block in self.blocks:
            x = x + self.scale * block(x)
        out: Tensor = self.tail(x + first)
        return out


class Restoration(nn.Module):
    """DnCNN and VDSR: the network gives what is subtracted from, or added to, the image."""

    def __init__(self, sign: int) -> None:
        super().__init__()
        self.sign = sign
        middle = [conv_bn(8, 8), conv_bn(8, 8)]
        first = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*first, *middle, nn.Conv2d(8, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x) if self.sign > 0 else x - self.body(x)
        return out


class Style(nn.Module):
    """Fast style transfer: reflection padding, residual blocks, nearest upsampling."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()

        def layer(c_in: int, c_out: int, kernel: int, stride: int) -> nn.Module:
            pad = nn.ReflectionPad2d(kernel // 2)
            return nn.Sequential(pad, nn.Conv2d(c_in, c_out, kernel, stride), norm(c_out))

        self.down = nn.Sequential(layer(3, 8, 5, 1), nn.ReLU(), layer(8, 16, 3, 2), nn.ReLU())
        self.block = nn.Sequential(layer(16, 16, 3, 1), nn.ReLU(), layer(16, 16, 3, 1))
        self.up = nn.Upsample(scale_factor=2)
        self.out = nn.Sequential(layer(16, 8, 3, 1), nn.ReLU(), nn.Conv2d(8, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(x)
        y = y + self.block(y)
        out: Tensor = self.out(self.up(y))
        return out


def conv_autoencoder(end: nn.Module | None) -> nn.Module:
    down = [nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 3, 2, 1), nn.ReLU()]
    up = [nn.ConvTranspose2d(4, 8, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 3, 2, 1, 1)]
    return nn.Sequential(*down, *up, *([end] if end else []))


def mlp_autoencoder() -> nn.Module:
    encoder = [nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 8), nn.ReLU()]
    decoder = [nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 784), nn.Unflatten(1, (1, 28, 28))]
    return nn.Sequential(*encoder, *decoder)


def vae_decoder() -> nn.Module:
    grow = [nn.Linear(8, 16 * 49), nn.ReLU(), nn.Unflatten(1, (16, 7, 7))]
    up = [nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1)]
    return nn.Sequential(*grow, *up, nn.Sigmoid())


def architectures() -> list[Architecture]:
    image, gray, small = ((3, 32, 32),), ((1, 28, 28),), ((1, 16, 16),)
    ups = ("transpose", "bilinear", "bilinear-corners", "nearest", "shuffle")
    unets = {f"unet-{up}": ((lambda up=up: UNet(up)), image) for up in ups}
    return handwritten(
        {
            **unets,
            "unet-padded-skips": (lambda: UNet("bilinear-corners", crop=True), ((3, 36, 36),)),
            "unet-leaky": (lambda: UNet("transpose", nn.LeakyReLU), image),
            "unet-1d": (UNet1d, ((1, 64),)),
            "fcn8": (Fcn8, image),
            "segnet": (SegNet, image),
            "aspp": (Aspp, image),
            "pyramid-pooling": (PyramidPooling, ((3, 48, 48),)),
            "srcnn": (srcnn, small),
            "fsrcnn": (lambda: fsrcnn(nn.PReLU, False), small),
            "fsrcnn-shuffle": (lambda: fsrcnn(nn.ReLU, True), small),
            "espcn-relu": (lambda: espcn(nn.ReLU), small),
            "espcn-tanh": (lambda: espcn(nn.Tanh), small),
            "srresnet": (lambda: SrResidual(nn.PReLU, True), ((3, 16, 16),)),
            "srresnet-relu": (lambda: SrResidual(nn.ReLU, True), ((3, 16, 16),)),
            "edsr": (lambda: SrResidual(nn.ReLU, False), ((3, 16, 16),)),
            "dncnn": (lambda: Restoration(-1), small),
            "vdsr": (lambda: Restoration(1), small),
            "style-transfer": (lambda: Style(nn.InstanceNorm2d), image),
            "style-transfer-batch-norm": (lambda: Style(nn.BatchNorm2d), image),
            "conv-autoencoder": (lambda: conv_autoencoder(None), gray),
            "conv-autoencoder-sigmoid": (lambda: conv_autoencoder(nn.Sigmoid()), gray),
            "mlp-autoencoder": (mlp_autoencoder, gray),
            "vae-decoder": (vae_decoder, ((8,),)),
        }
    )
