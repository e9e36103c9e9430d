"""Random operators that only move values: reshape, permute, slice, split, repeat, pad."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

from tests.support.random_expressions import Expression, Maker, Shape, expression, module


def _divisor(rng: random.Random, number: int, least: int = 2) -> int | None:
    """A divisor of at least `least`."""
    found = [d for d in range(least, number + 1) if number % d == 0]
    return rng.choice(found) if found else None


def _axis(rng: random.Random, shape: Shape) -> int:
    """An axis of a sample, counted with the batch, at times from the end."""
    axis = rng.randint(1, len(shape))
    return axis if rng.random() < 0.7 else axis - len(shape) - 1


def _length(shape: Shape, axis: int) -> int:
    return shape[axis - 1] if axis > 0 else shape[axis]


def _chunk(rng: random.Random, shape: Shape) -> nn.Module | None:
    axis = _axis(rng, shape)
    if _length(shape, axis) < 2:
        return None
    count = len(torch.chunk(torch.zeros(2, *shape), 2, axis))
    assert count == 2
    return Expression(
        rng.choice(
            [
                f"torch.cat(x.chunk(2, {axis})[::-1], {axis})",
                f"x.chunk(2, {axis})[1]",
                f"(lambda a, b: torch.cat([a, F.relu(b)], {axis}))(*torch.chunk(x, 2, {axis}))",
                *(
                    [
                        f"(lambda a, b: a + b)(*x.chunk(2, {axis}))",
                        f"(lambda a, b: torch.max(a, b))(*x.chunk(2, dim={axis}))",
                        f"torch.stack(x.chunk(2, {axis}), 1).sum(1)",
                    ]
                    if _length(shape, axis) % 2 == 0
                    else []
                ),
            ]
        )
    )


def _split(rng: random.Random, shape: Shape) -> nn.Module | None:
    axis = _axis(rng, shape)
    length = _length(shape, axis)
    if length < 2:
        return None
    first = rng.randint(1, length - 1)
    sizes = [first, length - first]
    return Expression(
        rng.choice(
            [
                f"x.split({sizes}, {axis})[{rng.randint(0, 1)}]",
                f"torch.cat([torch.split(x, {sizes}, {axis})[1], x], {axis})",
                f"torch.split(x, {first}, {axis})[0]",
                f"torch.tensor_split(x, {length}, {axis})[-1]",
                f"x.narrow({axis}, {first}, {length - first})",
            ]
        )
    )


def _unbind(rng: random.Random, shape: Shape) -> nn.Module | None:
    axis = rng.randint(1, len(shape))
    length = shape[axis - 1]
    if length < 2 or len(shape) < 2:
        return None
    order = rng.sample(range(length), length)
    picked = ", ".join(f"p[{i}]" for i in order)
    at = rng.randint(1, len(shape))
    return Expression(
        rng.choice(
            [
                f"(lambda p: torch.stack([{picked}], {at}))(x.unbind({axis}))",
                f"(lambda p: p[0] - 2 * p[{length - 1}])(torch.unbind(x, {axis}))",
                f"x.select({axis}, {rng.randrange(length)})",
                f"torch.cat([x.select({axis}, {order[0]}), x.select({axis}, {order[1]})], 1)",
            ]
        )
    )


def _permute(rng: random.Random, shape: Shape) -> nn.Module | None:
    if len(shape) == 1:
        return None
    order = [0, *rng.sample(range(1, len(shape) + 1), len(shape))]
    first, second = rng.sample(range(1, len(shape) + 1), 2)
    return Expression(
        rng.choice(
            [
                f"x.permute({order})",
                f"torch.permute(x, {order}).contiguous()",
                f"x.transpose({first}, {second})",
                f"x.swapaxes({first}, {second})",
                f"x.movedim({first}, {second})",
            ]
        )
    )


def _regroup(rng: random.Random, shape: Shape) -> nn.Module | None:
    """Channels in groups, and back or reduced."""
    groups = _divisor(rng, shape[0])
    if groups is None:
        return None
    each, space = shape[0] // groups, ", ".join(map(str, shape[1:]))
    view = f"x.view(x.size(0), {groups}, {each}, {space})"
    return Expression(
        rng.choice(
            [
                f"{view}.transpose(1, 2).reshape(x.size(0), {shape[0]}, {space})",
                f"{view}.transpose(1, 2).contiguous().flatten(1, 2)",
                f"{view}.flip(1).reshape(x.shape)",
                f"{view}.amax(2)",
                f"{view}.mean(1)",
                f"{view}.sum(2)",
                f"{view}[:, {groups - 1}]",
                f"x.unflatten(1, ({groups}, {each})).max(2)[0]",
            ]
        )
    )


def _channel_shuffle(rng: random.Random, shape: Shape) -> nn.Module | None:
    groups = _divisor(rng, shape[0])
    return nn.ChannelShuffle(groups) if groups and len(shape) == 3 else None


def _reshape(rng: random.Random, shape: Shape) -> nn.Module | None:
    """Another shape of the same elements, with one to three axes."""
    size = math.prod(shape)
    first = _divisor(rng, size, 1)
    assert first is not None
    second = _divisor(rng, size // first, 1)
    whole = rng.choice([f"{first}, -1", f"{first}, {second}, -1", "-1", f"{shape[0]}, -1"])
    return Expression(
        rng.choice([f"x.reshape(x.shape[0], {whole})", f"torch.reshape(x, (x.size(0), {whole}))"])
    )


def _unflatten(rng: random.Random, shape: Shape) -> nn.Module | None:
    channels = _divisor(rng, shape[0], 1)
    assert channels is not None
    rows = _divisor(rng, shape[0] // channels, 1)
    assert rows is not None
    return nn.Unflatten(
        1, rng.choice([(channels, -1), (channels, rows, shape[0] // channels // rows)])
    )


def _squeeze(rng: random.Random, shape: Shape) -> nn.Module | None:
    ones = [axis for axis, length in enumerate(shape, 1) if length == 1]
    if ones and len(shape) > 1 and rng.random() < 0.7:
        return Expression(f"x.squeeze({rng.choice(ones)})")
    return Expression(f"x.unsqueeze({rng.randint(1, len(shape) + 1)})") if len(shape) < 3 else None


def _repeat(rng: random.Random, shape: Shape) -> nn.Module | None:
    axis = rng.randint(1, len(shape))
    times = [1] * (len(shape) + 1)
    times[axis] = rng.choice([2, 2, 3])
    texts = [
        f"x.repeat({times})",
        f"torch.tile(x, {times})",
        f"x.repeat_interleave({times[axis]}, {axis})",
        f"torch.repeat_interleave(x, {times[axis]}, dim={axis})",
    ]
    if 1 in shape:
        sizes = [-1, *(rng.choice([2, 3]) if length == 1 else -1 for length in shape)]
        texts += [f"x.expand({sizes})"] * 3
    if len(shape) < 3:
        texts.append(f"x.unsqueeze(-1).expand({[-1] * (len(shape) + 1)} + [{times[axis]}])")
    return Expression(rng.choice(texts))


def _flip(rng: random.Random, shape: Shape) -> nn.Module | None:
    axes = rng.sample(range(1, len(shape) + 1), rng.randint(1, min(2, len(shape))))
    return Expression(f"x.flip({axes})")


def _roll(rng: random.Random, shape: Shape) -> nn.Module | None:
    axes = rng.sample(range(1, len(shape) + 1), rng.randint(1, min(2, len(shape))))
    return Expression(f"torch.roll(x, {[rng.randint(-3, 3) for _ in axes]}, {axes})")


def _index(rng: random.Random, shape: Shape) -> nn.Module | None:
    axis = rng.randint(1, len(shape))
    length = shape[axis - 1]
    picked = [rng.randrange(length) for _ in range(rng.randint(1, length))]
    before = ":, " * axis
    if len(shape) > 1 and rng.random() < 0.2:
        return Expression(f"x[{before}{picked[0]}]")
    return Expression(
        rng.choice(
            [
                f"x[{before}{picked}]",
                f"x.index_select({axis}, torch.tensor({picked}))",
                f"torch.index_select(x, {axis}, torch.tensor({sorted(set(picked))}))",
                f"x[{before}::2]",
                f"x[..., {rng.randrange(shape[-1])}:]",
                "x[:, None]" if len(shape) < 3 else f"x[{before}{picked}]",
            ]
        )
    )


def _pad(rng: random.Random, shape: Shape) -> nn.Module | None:
    mode = rng.choice(["constant", "constant", "reflect", "replicate", "circular"])
    axes = len(shape) - 1
    if mode == "constant":
        ends = [rng.randint(-1, 2) for _ in range(2 * rng.randint(1, len(shape)))]
        value = rng.choice([0, 0, round(rng.uniform(-1, 1), 2)])
        return Expression(f"F.pad(x, {ends}, value={value})")
    if axes == 0 or min(shape[1:]) < 3:
        return None
    ends = [rng.randint(0, 2) for _ in range(2 * axes)]
    return Expression(f"F.pad(x, {ends}, mode={mode!r})")


def _pad_module(rng: random.Random, shape: Shape) -> nn.Module | None:
    if len(shape) == 1 or min(shape[1:]) < 3:
        return None
    axes = len(shape) - 1
    ends = tuple(rng.randint(0, 2) for _ in range(2 * axes))
    kind = rng.choice(["ReflectionPad", "ReplicationPad", "CircularPad", "ZeroPad", "ConstantPad"])
    value = (0.25,) if kind == "ConstantPad" else ()
    found: nn.Module = getattr(nn, f"{kind}{axes}d")(ends, *value)
    return found


def _pixel_shuffle(rng: random.Random, shape: Shape) -> nn.Module | None:
    factors = [r for r in (2, 3) if len(shape) == 3 and shape[0] % r**2 == 0]
    return nn.PixelShuffle(rng.choice(factors)) if factors else None


def _pixel_unshuffle(rng: random.Random, shape: Shape) -> nn.Module | None:
    factors = [r for r in (2, 3) if len(shape) == 3 and all(n % r == 0 for n in shape[1:])]
    return nn.PixelUnshuffle(rng.choice(factors)) if factors else None


MOVES: dict[str, Maker] = {
    "chunk": _chunk,
    "split": _split,
    "unbind": _unbind,
    "stack": expression("torch.stack([x, F.relu(x)], 2).flatten(1, 2)"),
    "permute": _permute,
    "regroup": _regroup,
    "channel shuffle": _channel_shuffle,
    "reshape": _reshape,
    "unflatten": module(_unflatten, 1),
    "squeeze": _squeeze,
    "repeat": _repeat,
    "flip": _flip,
    "roll": _roll,
    "index": _index,
    "pad": _pad,
    "pad module": _pad_module,
    "pixel shuffle": _pixel_shuffle,
    "pixel unshuffle": _pixel_unshuffle,
    "tokens": expression("x.flatten(2).transpose(1, 2)", 3),
    "channels last": expression("x.permute(0, 2, 3, 1)", 3),
    "channels first": expression("x.permute(0, 3, 1, 2)", 3),
}
"""Operators that add no computation."""
