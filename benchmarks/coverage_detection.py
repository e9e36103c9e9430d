"""Detection networks: several outputs at several scales, feature pyramids, key points."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from coverage_classifiers import conv_bn
from coverage_zoo import Architecture, handwritten
from torch import Tensor, nn


def conv_leaky(c_in: int, c_out: int, kernel: int = 3) -> nn.Sequential:
    """Darknet's convolution: batch norm and LeakyReLU(0.1)."""
    conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.LeakyReLU(0.1, inplace=True))


class TinyYoloV3(nn.Module):
    """Tiny YOLO v3 at an eighth of its width: two heads, the second after upsampling.

    Args:
        decoded: heads as [B, anchors * cells, 5 + classes], reshaped and permuted.
    """

    def __init__(self, classes: int = 4, decoded: bool = False) -> None:
        super().__init__()
        self.values, self.decoded = 5 + classes, decoded
        plan = [(3, 4), (4, 8), (8, 16), (16, 32)]
        self.body = nn.Sequential(
            *(layer for one in plan for layer in (conv_leaky(*one), nn.MaxPool2d(2)))
        )
        self.middle = conv_leaky(32, 32)
        self.deep = nn.Sequential(
            *(nn.MaxPool2d(2), conv_leaky(32, 64), nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, 1)),
            *(conv_leaky(64, 64), conv_leaky(64, 32, 1)),
        )
        self.head1 = nn.Sequential(conv_leaky(32, 64), nn.Conv2d(64, 3 * self.values, 1))
        self.up = nn.Sequential(conv_leaky(32, 16, 1), nn.Upsample(scale_factor=2, mode="nearest"))
        self.head2 = nn.Sequential(conv_leaky(48, 32), nn.Conv2d(32, 3 * self.values, 1))

    def _boxes(self, x: Tensor) -> Tensor:
        if not self.decoded:
            return x
        b, _, h, w = x.shape
        x = x.view(b, 3, self.values, h, w).permute(0, 1, 3, 4, 2).contiguous()
        return x.view(b, 3 * h * w, self.values)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        middle = self.middle(self.body(x))
        deep = self.deep(middle)
        second = self.head2(torch.cat([self.up(deep), middle], 1))
        return self._boxes(self.head1(deep)), self._boxes(second)


class YoloV2(nn.Module):
    """YOLO v2: the finer map is reorganized into the channels of the coarser one."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(conv_leaky(3, 8), nn.MaxPool2d(2), conv_leaky(8, 8))
        self.coarse = nn.Sequential(nn.MaxPool2d(2), conv_leaky(8, 16))
        self.head = nn.Conv2d(48, 18, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        b, c, h, w = fine.shape
        parts = fine.view(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        parts = parts.reshape(b, 4 * c, h // 2, w // 2)
        out: Tensor = self.head(torch.cat([parts, self.coarse(fine)], dim=1))
        return out


class Focus(nn.Module):
    """YOLO v5's focus: the four phases of the image as channels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_leaky(12, 16), nn.MaxPool2d(5, 1, 2), nn.Conv2d(16, 18, 1))

    def forward(self, x: Tensor) -> Tensor:
        phases = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
        out: Tensor = self.body(torch.cat(phases, 1))
        return out


class SpatialPyramid(nn.Module):
    """SPP and SPPF: max poolings of several sizes, side by side or in a row."""

    def __init__(self, fast: bool) -> None:
        super().__init__()
        self.enter, self.fast = conv_bn(3, 8, stride=2), fast
        self.pools = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in ((5,) if fast else (5, 9)))
        self.out = nn.Conv2d(24, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        if self.fast:
            once = self.pools[0](x)
            parts = [x, once, self.pools[0](once)]
        else:
            parts = [x, *(pool(x) for pool in self.pools)]
        out: Tensor = self.out(torch.cat(parts, 1))
        return out


class FeaturePyramid(nn.Module):
    """FPN with RetinaNet's heads: {"cls": [...], "reg": [...]}; the heads are shared."""

    def __init__(self, dictionary: bool) -> None:
        super().__init__()
        self.dictionary = dictionary
        stages = [(3, 8), (8, 16), (16, 16)]
        self.stages = nn.ModuleList(conv_bn(i, o, stride=2) for i, o in stages)
        self.lateral = nn.ModuleList(nn.Conv2d(c, 8, 1) for c in (8, 16, 16))
        self.smooth = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.cls = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 1))
        self.reg = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))

    def forward(self, x: Tensor) -> dict[str, list[Tensor]] | list[Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        levels = [lateral(f) for lateral, f in zip(self.lateral, features, strict=True)]
        for i in (1, 0):
            levels[i] = levels[i] + F.interpolate(levels[i + 1], scale_factor=2.0, mode="nearest")
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        if self.dictionary:
            return {"cls": [self.cls(p) for p in levels], "reg": [self.reg(p) for p in levels]}
        return levels


class Ssd(nn.Module):
    """SSD: boxes of two scales, flattened and joined."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(conv_bn(3, 8, stride=2), conv_bn(8, 8))
        self.b = conv_bn(8, 16, stride=2)
        self.boxes = nn.ModuleList(nn.Conv2d(c, 12, 3, padding=1) for c in (8, 16))
        self.scores = nn.ModuleList(nn.Conv2d(c, 9, 3, padding=1) for c in (8, 16))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = [self.a(x)]
        maps.append(self.b(maps[0]))
        boxes, scores = [], []
        for one, box, score in zip(maps, self.boxes, self.scores, strict=True):
            boxes.append(box(one).permute(0, 2, 3, 1).reshape(len(one), -1, 4))
            scores.append(score(one).permute(0, 2, 3, 1).reshape(len(one), -1, 3))
        return torch.cat(boxes, 1), torch.cat(scores, 1)


class Hourglass(nn.Module):
    """Stacked hourglass: heat maps of each stack, the first fed into the second."""

    def __init__(self, depth: int = 2) -> None:
        super().__init__()
        self.enter = conv_bn(3, 8, stride=2)
        self.downs = nn.ModuleList(conv_bn(8, 8) for _ in range(2 * depth))
        self.ups = nn.ModuleList(conv_bn(8, 8) for _ in range(2 * depth))
        self.maps = nn.ModuleList(nn.Conv2d(8, 4, 1) for _ in range(2))
        self.back, self.depth = nn.Conv2d(4, 8, 1), depth

    def _stack(self, x: Tensor, first: int) -> Tensor:
        skips = []
        for down in list(self.downs)[first : first + self.depth]:
            skips.append(x)
            x = F.max_pool2d(down(x), 2, stride=2)
        for up in list(self.ups)[first : first + self.depth]:
            x = F.interpolate(up(x), scale_factor=2) + skips.pop()
        return x

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.enter(x)
        y = self._stack(x, 0)
        first = self.maps[0](y)
        y = self._stack(x + y + self.back(first), self.depth)
        return [first, self.maps[1](y)]


class HighResolution(nn.Module):
    """HRNet's exchange between two resolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.high, self.low = conv_bn(3, 8), conv_bn(8, 16, stride=2)
        self.up = nn.Sequential(nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8), nn.Upsample(scale_factor=2))
        self.down = conv_bn(8, 16, stride=2, act=False)
        self.out = nn.Conv2d(24, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.high(x)
        low = self.low(high)
        fused, deep = F.relu(high + self.up(low)), F.relu(low + self.down(high))
        deep = F.interpolate(deep, size=fused.shape[2:], mode="bilinear", align_corners=True)
        out: Tensor = self.out(torch.cat([fused, deep], 1))
        return out


class CenterNet(nn.Module):
    """CenterNet: heat map with a sigmoid, offsets and sizes, as a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(3, 8, stride=2), conv_bn(8, 16, stride=2))
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.heads = nn.ModuleDict({"hm": nn.Conv2d(8, 3, 1), "wh": nn.Conv2d(8, 2, 1)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.up(self.body(x))
        maps = {name: layer(y) for name, layer in self.heads.items()}
        maps["hm"] = torch.sigmoid(maps["hm"])
        return maps


def architectures() -> list[Architecture]:
    image = ((3, 32, 32),)
    return handwritten(
        {
            "tiny-yolo-v3": (TinyYoloV3, ((3, 64, 64),)),
            "tiny-yolo-v3-boxes": (lambda: TinyYoloV3(decoded=True), ((3, 64, 64),)),
            "yolo-v2-reorg": (YoloV2, image),
            "yolo-v5-focus": (Focus, image),
            "spp": (lambda: SpatialPyramid(False), image),
            "sppf": (lambda: SpatialPyramid(True), image),
            "fpn": (lambda: FeaturePyramid(False), image),
            "retinanet": (lambda: FeaturePyramid(True), image),
            "ssd": (Ssd, image),
            "hourglass": (Hourglass, image),
            "hrnet": (HighResolution, image),
            "centernet": (CenterNet, image),
        }
    )
