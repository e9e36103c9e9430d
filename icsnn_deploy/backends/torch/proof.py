"""Convolution kernels of other libraries prove themselves before their results are used.

A certificate says that float32 holds every sum of an integer network. It does not say that the
library adds up correctly: oneDNN's 8-bit convolution returns wrong sums for some shapes on
processors with AMX, and a convolution by Winograd or FFT rounds. So a kernel is used for a shape
only after two exact comparisons on this machine, in this process:

1. Proof of the shape, before the first result: random inputs and weights over the whole range that
   the kernel is used for, and half of them at the limit, so that saturation shows. It runs on one
   sample. Shape, strides in memory, threads and kernel make the key (ProofKey).
2. Proof of the batch size. Up to SMALL_BATCH the same comparison runs on that very size. The result
   of a larger size is compared when it first occurs: its first and its last sample, before anybody
   gets it. oneDNN may choose another blocking for another batch, but one call treats all
   its samples alike, each with the same code. A size counts as proven once these samples were not
   silent.

Sizes that occur are T * B and what remains of it, parts of T where memory is short, and each number
of samples that early exit leaves: too many to prove each at full size. Splitting calls into a few
proven sizes was measured, and takes 15 to 40 % more time for the convolutions of a ResNet20.

The comparison is exact and costs one output channel per group. With random integers r[o],

    sum_o r[o] y[n, o, p]  =  conv(x, sum_o r[o] w[o])[n, p] + sum_o r[o] bias[o]

holds in integers; a wrong y passes with a probability of 1/127 for each wrong position. Both sides
are computed in float64, below 2^53, by matrix products and sums of shifted slices: no convolution
kernel takes part.

Matrix products (linear layers) are not proven: they add up in float32, which the certificate
covers, and no library that torch is built with computes them by a fast transform.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.backends.torch.verdicts import VERDICTS, Verdict
from icsnn_deploy.errors import first_line
from icsnn_deploy.graph.nodes import Conv

LOGGER = logging.getLogger(__name__)

SHAPE_BATCH = 1
SMALL_BATCH = 8
FLOAT32_INTEGER = 2**24  # integers are exact below
_FACTORS = 2**7  # of the random combination of output channels
_SEED = 20261


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a convolution's windows lie, in two spatial axes."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, node: Conv) -> Geometry:
        """The geometry of a node with two spatial axes and symmetric padding."""
        (top, _), (left, _) = node.padding
        stride, dilation = node.stride, node.dilation
        return cls(
            stride=(stride[0], stride[1]),
            padding=(top, left),
            dilation=(dilation[0], dilation[1]),
            groups=node.groups,
        )

    def without_padding(self) -> Geometry:
        """The same for an input that was padded by hand."""
        return Geometry(
            stride=self.stride, padding=(0, 0), dilation=self.dilation, groups=self.groups
        )


Convolve = Callable[[Tensor], Tensor]


class Kernel(Protocol):
    """One way to run a convolution of integers."""

    name: str
    dtype: torch.dtype  # of its input

    def prepare(self, weight: Tensor, bias: Tensor, geometry: Geometry) -> Convolve:
        """The convolution with these integers, float32 [O, C / groups, K, K] and [O]."""
        ...

    def limits(self, window: int) -> tuple[int, int, int]:
        """(least input, largest input, largest |weight|) to prove, for a window of so many."""
        ...


@dataclass(frozen=True, kw_only=True)
class ProofKey:
    """What a kernel's choice of code may depend on, beside the batch size."""

    kernel: str
    geometry: Geometry
    weight: tuple[int, ...]  # [O, C / groups, K, K]
    sample: tuple[int, ...]  # [C, H, W]
    strides: tuple[int, ...]  # of a sample in memory: channels last or contiguous
    threads: int


class ProvenConvolution:
    """A convolution of integers by a kernel that proves itself.

    Args:
        node: two spatial axes, symmetric padding, integers.
        kernel: what runs it.
    """

    def __init__(self, node: Conv, kernel: Kernel) -> None:
        self._node = node
        self._kernel = kernel
        self._prepared: dict[Geometry, tuple[Convolve, Tensor, Tensor]] = {}
        self.refused: str | None = None  # why the last call gave None
        self.proven_batches: set[int] = set()

    def __call__(self, x: Tensor) -> Tensor | None:
        """float32 [N, O, H, W] for [N, C, H, W] of the kernel's type; None where it is refused."""
        geometry, x = pad_by_hand(Geometry.of(self._node), self._node.kernel, x)
        if not x.numel():
            return None
        verdict = self._verdict(geometry, x)
        if verdict.fault is None:
            convolve, weight, bias = self._prepare(geometry)
            y = convolve(x)
            if len(x) not in verdict.batches:
                prove_result(verdict, x, y, weight, bias, geometry)
            if verdict.fault is None:
                self.proven_batches.add(len(x))
                self.refused = None
                return y
        self._refuse(verdict.fault)
        return None

    def _verdict(self, geometry: Geometry, x: Tensor) -> Verdict:
        key = ProofKey(
            kernel=self._kernel.name,
            geometry=geometry,
            weight=self._node.weight.shape,
            sample=tuple(x.shape[1:]),
            strides=x.stride()[1:],
            threads=torch.get_num_threads(),
        )
        batch = len(x)
        verdict = VERDICTS.get(repr(key))
        if verdict is None:
            verdict = Verdict(prove(key, self._kernel, SHAPE_BATCH), {SHAPE_BATCH})
            VERDICTS.add(repr(key), verdict)
        if verdict.fault is None and batch <= SMALL_BATCH and batch not in verdict.batches:
            verdict.fault = prove(key, self._kernel, batch)
            verdict.batches.add(batch)
        return verdict

    def _prepare(self, geometry: Geometry) -> tuple[Convolve, Tensor, Tensor]:
        """Packed on use: calibration makes many simulators and runs few layers of each."""
        if geometry not in self._prepared:
            weight = torch.from_numpy(self._node.weight.astype(np.float32))
            bias = torch.from_numpy(self._node.bias.astype(np.float32))
            convolve = self._kernel.prepare(weight, bias, geometry)
            self._prepared[geometry] = convolve, weight, bias
        return self._prepared[geometry]

    def _refuse(self, fault: str) -> None:
        if self.refused is None:
            LOGGER.warning(
                "%s: the %s convolution is not used on this machine: %s. The layer runs another "
                "way, exactly and more slowly",
                self._node.name,
                self._kernel.name,
                fault,
            )
        self.refused = fault


def pad_by_hand(geometry: Geometry, kernel: tuple[int, ...], x: Tensor) -> tuple[Geometry, Tensor]:
    """Pad x where the padding holds a whole window, which a kernel then never sees.

    Such paddings are rare in trained networks and little tested in libraries; a channels-last
    convolution of torch has crashed the process on some of them.
    """
    reaches = [d * (k - 1) + 1 for d, k in zip(geometry.dilation, kernel, strict=True)]
    if all(p < reach for p, reach in zip(geometry.padding, reaches, strict=True)):
        return geometry, x
    (high, wide) = geometry.padding
    return geometry.without_padding(), functional.pad(x, (wide, wide, high, high))


@torch.no_grad()
def prove(key: ProofKey, kernel: Kernel, batch: int) -> str | None:
    """Compare a kernel with exact sums, on random and on extreme integers; what is wrong with it.

    Args:
        key: the shape.
        kernel: to be proven.
        batch: samples of the call.
    """
    rng = np.random.default_rng(_SEED)
    low, high, weight_limit = kernel.limits(math.prod(key.weight[1:]))
    bias = torch.from_numpy(rng.integers(-99, 100, key.weight[0]).astype(np.float32))
    size = math.prod(key.sample)
    x = torch.empty_strided((batch, *key.sample), (size, *key.strides), dtype=kernel.dtype)
    x.copy_(torch.from_numpy(rng.integers(low, high + 1, x.shape, dtype=np.int16)))
    x[:, :, : key.sample[1] // 2] = high
    for weight in _weights(key.weight, weight_limit, rng):
        try:
            y = kernel.prepare(weight, bias, key.geometry)(x)
        except RuntimeError as error:
            return f"torch can't run it ({first_line(error):.200})"
        if not is_exact(x, y, weight, bias, key.geometry):
            return (
                f"wrong sums for input {[batch, *key.sample]}, kernel {list(key.weight[2:])}, "
                f"{key.weight[0]} output channels"
            )
    return None


def _weights(shape: tuple[int, ...], limit: int, rng: np.random.Generator) -> list[Tensor]:
    """Random weights with some output channels at the limits; apart where there are few outputs."""
    if limit == 127:
        raw = np.frombuffer(rng.bytes(math.prod(shape)), np.int8)
        random = torch.from_numpy(np.maximum(raw, -127).reshape(shape)).float()
    else:
        raw = rng.integers(-limit, limit, shape, np.int16, endpoint=True)
        random = torch.from_numpy(raw).float()
    # Neighboring inputs, which 8-bit kernels add up in pairs, have one sign. Where all of one sign
    # would leave what float32 holds, the sign changes every four channels.
    extreme = torch.full(shape[1:], float(limit))
    if limit * limit * extreme.numel() >= FLOAT32_INTEGER:
        extreme[(torch.arange(shape[1]) // 4) % 2 == 1] *= -1
    if shape[0] < 4:
        return [random, extreme.expand(shape).contiguous()]
    random[0], random[-1] = extreme, -extreme
    return [random]


@torch.no_grad()
def prove_result(
    verdict: Verdict, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, geometry: Geometry
) -> None:
    """Compare some samples of a result of a batch size that is new; the verdict takes it down."""
    ends = slice(None, None, max(1, len(x) - 1))  # the first and the last
    some = x[ends]
    largest = float(some.abs().max() if some.is_floating_point() else some.max())
    if largest * float(weight.abs().flatten(1).sum(1).max()) >= FLOAT32_INTEGER:
        return  # a network without certificate: float32 does not hold its sums
    if not is_exact(some, y[ends], weight, bias, geometry):
        verdict.fault = f"wrong sums for input {list(x.shape)}"
    elif largest:
        verdict.batches.add(len(x))


def is_exact(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, geometry: Geometry) -> bool:
    """Whether y is the convolution of x, by one random combination of the output channels."""
    groups = geometry.groups
    outputs = len(weight) // groups
    rng = np.random.default_rng(_SEED)
    factors = torch.from_numpy(rng.integers(1, _FACTORS, (groups, outputs)).astype(np.float32))
    # float32 holds the combined weights of 1,000 outputs of 7 bits
    kind = torch.float32 if _FACTORS * float(weight.abs().max()) * outputs < 2**24 else torch.double
    flat = weight.to(kind).reshape(groups, outputs, -1)
    combined = torch.bmm(factors.to(kind).unsqueeze(1), flat).reshape(groups, *weight.shape[1:])
    factors = factors.double()
    shift = (factors * bias.double().reshape(groups, outputs)).sum(1)
    expected = exact_convolution(x, combined, shift, geometry)  # [N, groups, H, W]
    if y.shape[1] != len(weight) or y.shape[2:] != expected.shape[2:]:
        return False
    channels_last = y.permute(0, 2, 3, 1).reshape(-1, groups, outputs).double()  # [N H W, g, O / g]
    got = (channels_last * factors).sum(2) if groups > 1 else channels_last[:, 0] @ factors.T
    return torch.equal(got, expected.permute(0, 2, 3, 1).reshape(-1, groups))


def exact_convolution(x: Tensor, weight: Tensor, bias: Tensor, geometry: Geometry) -> Tensor:
    """float64 [N, O, H, W] by matrix products and shifted sums, no convolution kernel.

    Args:
        x: integers [N, C, H, W].
        weight: integers [O, C / groups, K, K].
        bias: integers [O].
        geometry: of the convolution.
    """
    groups = geometry.groups
    outputs, channels, height, width = weight.shape
    each = outputs // groups
    (high, wide), (down, right), (gap_h, gap_w) = (
        geometry.padding,
        geometry.stride,
        geometry.dilation,
    )
    padded = functional.pad(x, (wide, wide, high, high)).permute(0, 2, 3, 1).double()
    n, rows, columns, _ = padded.shape
    out_h = (rows - gap_h * (height - 1) - 1) // down + 1
    out_w = (columns - gap_w * (width - 1) - 1) // right + 1
    left = padded.reshape(-1, groups, channels).transpose(0, 1)  # [groups, N H W, C / groups]
    taps = weight.double().reshape(groups, each, channels, -1).permute(0, 3, 1, 2)
    products = torch.bmm(taps.reshape(groups, -1, channels), left.transpose(1, 2))
    products = products.reshape(groups, height * width, each, n, rows, columns)
    total = bias.double().reshape(groups, each, 1, 1, 1).repeat(1, 1, n, out_h, out_w)
    for tap in range(height * width):
        top, start = gap_h * (tap // width), gap_w * (tap % width)
        bottom, end = top + down * (out_h - 1) + 1, start + right * (out_w - 1) + 1
        total += products[:, tap, :, :, top:bottom:down, start:end:right]
    return total.permute(2, 0, 1, 3, 4).reshape(n, outputs, out_h, out_w)
