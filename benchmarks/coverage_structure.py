"""Networks of an uncommon structure: several inputs or outputs, policies, mixers, gates."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from coverage_classifiers import conv_bn, head
from coverage_zoo import Architecture, handwritten
from torch import Tensor, nn


def mlp(*widths: int, norm: bool = False) -> nn.Sequential:
    """Fully connected layers with ReLU between them."""
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise(widths):
        layers += [nn.Linear(c_in, c_out), *([nn.BatchNorm1d(c_out)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers[: -2 if norm else -1])


def clipped() -> nn.Module:
    """Clipped rectifiers on sparse features, as in the evaluation of chess engines."""
    return nn.Sequential(nn.Linear(64, 32), nn.Hardtanh(0, 1), nn.Linear(32, 1))


class Siamese(nn.Module):
    """Two inputs through one body; joined by the absolute difference or by concatenation."""

    def __init__(self, difference: bool) -> None:
        super().__init__()
        self.difference = difference
        self.body = nn.Sequential(
            conv_bn(1, 8, stride=2), conv_bn(8, 8, stride=2), nn.Flatten(), nn.Linear(392, 16)
        )
        self.out = nn.Linear(16 if difference else 32, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = self.body(first), self.body(second)
        joined = torch.abs(a - b) if self.difference else torch.cat([a, b], dim=1)
        out: Tensor = self.out(F.relu(joined))
        return out


class ImageAndState(nn.Module):
    """An image and a vector: the driving network of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.eyes = nn.Sequential(conv_bn(3, 8, stride=4), nn.Flatten(), nn.Linear(512, 16))
        self.state, self.out = mlp(4, 8, 8), mlp(24, 16, 2)

    def forward(self, image: Tensor, state: Tensor) -> Tensor:
        out: Tensor = self.out(F.relu(torch.cat((self.eyes(image), self.state(state)), -1)))
        return out


class Scores(NamedTuple):
    """What a multi-task network returns."""

    age: Tensor
    gender: Tensor
    pose: Tensor


class MultiTask(nn.Module):
    """Several heads: as a named tuple, a tuple, a dictionary, or nested."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.body = nn.Sequential(conv_bn(3, 8, stride=2), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.age, self.gender, self.pose = mlp(128, 8, 1), nn.Linear(128, 2), nn.Linear(128, 3)

    def forward(self, x: Tensor) -> object:
        y = self.body(x)
        scores = Scores(self.age(y), self.gender(y), self.pose(y))
        if self.kind == "tuple":
            return tuple(scores)
        if self.kind == "dict":
            return scores._asdict()
        return {"tasks": [scores.age, (scores.gender, scores.pose)], "features": y}


class Dueling(nn.Module):
    """Dueling DQN: Q = V + A - mean(A)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(4, 8, 8, 4), nn.ReLU(), nn.Conv2d(8, 16, 4, 2), nn.ReLU(), nn.Flatten()),
        )
        self.value, self.advantage = mlp(256, 16, 1), mlp(256, 16, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        advantage = self.advantage(y)
        q: Tensor = self.value(y) + advantage - advantage.mean(dim=1, keepdim=True)
        return q


class ActorCritic(nn.Module):
    """A policy with tanh at its end, and a value squeezed to [B]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(mlp(8, 32, 32), nn.ReLU())
        self.actor, self.critic = nn.Linear(32, 2), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(x)
        return torch.tanh(self.actor(y)), self.critic(y).squeeze(-1)


class Mixer(nn.Module):
    """MLP-Mixer with ReLU and batch norm, [B, tokens, channels] between transposes."""

    def __init__(self, layer_norm: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.norm: nn.Module = nn.LayerNorm(16) if layer_norm else nn.Identity()
        self.tokens, self.channels = mlp(16, 32, 16), mlp(16, 32, 16)
        self.out = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)  # [B, tokens, channels]
        y = y + self.tokens(self.norm(y).transpose(1, 2)).transpose(1, 2)
        y = y + self.channels(self.norm(y))
        out: Tensor = self.out(y.mean(dim=1))
        return out


class Maxout(nn.Module):
    """Maxout units: the largest of k linear pieces."""

    def __init__(self, pair: bool) -> None:
        super().__init__()
        self.pair = pair
        self.first, self.last = nn.Linear(784, 64), nn.Linear(32 if pair else 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x.flatten(1))
        if self.pair:
            a, b = y.chunk(2, dim=1)
            y = torch.maximum(a, b)
        else:
            y = y.view(y.size(0), 16, 4).amax(dim=2)
        out: Tensor = self.last(y)
        return out


class CRelu(nn.Module):
    """Concatenated rectifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 8, 3, 2, 1, bias=False), head(16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        out: Tensor = self.out(F.relu(torch.cat([y, -y], dim=1)))
        return out


class CoordConv(nn.Module):
    """Two channels of coordinates, made in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(5, 8, stride=2), head(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        rows = torch.linspace(-1, 1, h, dtype=x.dtype).view(1, 1, h, 1).expand(b, 1, h, w)
        columns = torch.linspace(-1, 1, w, dtype=x.dtype).view(1, 1, 1, w).expand(b, 1, h, w)
        out: Tensor = self.body(torch.cat([x, rows, columns], dim=1))
        return out


class Excitation(nn.Module):
    """Squeeze and excitation: a product of two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.out = conv_bn(3, 8), head(8)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        out: Tensor = self.out(y * self.gate(y))
        return out


class Attention(nn.Module):
    """A transformer encoder layer on patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.out = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(self.patches(x).flatten(2).transpose(1, 2))
        out: Tensor = self.out(y.mean(1))
        return out


class SoftThreshold(nn.Module):
    """LISTA: unrolled iterations of soft thresholding."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.again = nn.Linear(32, 24, bias=False), nn.Linear(24, 24, bias=False)
        self.shrink = nn.Softshrink(0.1)

    def forward(self, x: Tensor) -> Tensor:
        drive: Tensor = self.enter(x)
        z: Tensor = self.shrink(drive)
        for _ in range(3):
            z = self.shrink(drive + self.again(z))
        return z


class Checked(nn.Module):
    """A forward that checks shapes and asserts, as published code does."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = conv_bn(3, 8, stride=2), nn.Linear(8 * 16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4, "images [B, C, H, W]"
        if x.shape[-1] != 32 or x.shape[1] not in (1, 3):
            raise ValueError(f"images of shape {tuple(x.shape)}")
        y = self.body(x)
        out: Tensor = self.out(y.view(y.size(0), -1))
        return out


def architectures() -> list[Architecture]:
    image, digits = ((3, 32, 32),), ((1, 28, 28),)
    table: dict[str, tuple[type[nn.Module], tuple[object, ...], tuple[tuple[int, ...], ...]]] = {
        "siamese-difference": (Siamese, (True,), digits * 2),
        "siamese-concatenation": (Siamese, (False,), digits * 2),
        "image-and-state": (ImageAndState, (), (*image, (4,))),
        "multi-task-tuple": (MultiTask, ("tuple",), image),
        "multi-task-dict": (MultiTask, ("dict",), image),
        "multi-task-nested": (MultiTask, ("nested",), image),
        "dueling-dqn": (Dueling, (), ((4, 44, 44),)),
        "actor-critic": (ActorCritic, (), ((8,),)),
        "mixer-relu": (Mixer, (), image),
        "mixer-layer-norm": (Mixer, (True,), image),
        "maxout-pairs": (Maxout, (True,), digits),
        "maxout-groups": (Maxout, (False,), digits),
        "crelu": (CRelu, (), image),
        "coordconv": (CoordConv, (), image),
        "squeeze-excitation": (Excitation, (), image),
        "transformer-encoder": (Attention, (), image),
        "lista": (SoftThreshold, (), ((32,),)),
        "shape-checks": (Checked, (), image),
    }
    plain = handwritten(
        {
            "mlp": (lambda: mlp(784, 64, 32, 10), ((784,),)),
            "mlp-norm-regression": (lambda: mlp(13, 32, 16, 1, norm=True), ((13,),)),
            "clipped-evaluation": (clipped, ((64,),)),
        }
    )
    return plain + [
        Architecture(name=f"plain/{name}", build=partial(model, *args), inputs=inputs)
        for name, (model, args, inputs) in table.items()
    ]
