"""Convolution kernels of other libraries prove themselves before their results are used.

A certificate says that float32 holds every sum of an integer network. It does not say that the
library adds up correctly: oneDNN's 8-bit convolution returns wrong sums for some shapes on
processors with AMX, and a convolution by Winograd or FFT rounds. So a kernel is used for a shape
only after two exact comparisons on this machine, in this process:

1. Proof of the shape, before the first result: random inputs and weights over the whole range that
   the kernel is used for, and all of them at the limit, so that saturation shows; batches of
   PROOF_BATCHES. Shape, strides in memory, number of threads and kernel make the key (ProofKey).
2. Proof of the batch size, at the first result of each size: oneDNN may choose another blocking for
   another batch, but within one call it treats all samples alike. So some samples of the result
   (the first, the last, some between) are compared, and the result is dropped if they differ. A
   size counts as proven only once these samples were not silent.

Sizes that occur are T * B and what remains of it, parts of T where memory is short, and each number
of samples that early exit leaves: too many to prove each at full size before it is used. Splitting
calls into a few proven sizes was measured and takes 15 to 40 % more time on a ResNet20.

The comparison is exact and costs one output channel per group. With random integers r[o],

    sum_o r[o] y[n, o, p]  =  conv(x, sum_o r[o] w[o])[n, p] + sum_o r[o] bias[o]

holds in integers; a wrong y passes with a probability of 2^-12 for each wrong position. Both sides
are computed in float64, below 2^53, by matrix products and sums of shifted slices: no convolution
kernel takes part.

Matrix products (linear layers) are not proven: they add up in float32, which the certificate
covers, and no library that torch is built with computes them by a fast transform.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.errors import first_line
from icsnn_deploy.graph.nodes import Conv

LOGGER = logging.getLogger(__name__)

PROOF_BATCHES = (1, 4)
FLOAT32_INTEGER = 2**24  # integers are exact below
_FACTORS = 2**12  # of the random combination of output channels
_ROWS = 6  # samples of a result that are compared at a new batch size
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


@dataclass
class Verdict:
    """What the proof of a key came to."""

    fault: str | None  # None: proven
    batches: set[int] = field(default_factory=set)  # sizes that were proven


VERDICTS: dict[ProofKey, Verdict] = {}
"""Of this process. Not kept on disk: a proof takes about a millisecond a shape, and the file would
have to know the processor, its microcode, torch, oneDNN and their environment variables."""


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
                _prove_batch(verdict, x, y, weight, bias, geometry)
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
        if key not in VERDICTS:
            VERDICTS[key] = prove(key, self._kernel)
        return VERDICTS[key]

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
def prove(key: ProofKey, kernel: Kernel) -> Verdict:
    """Compare a kernel with exact sums, on random and on extreme integers of one shape."""
    generator = torch.Generator().manual_seed(_SEED)
    low, high, weight_limit = kernel.limits(key.weight[1] * key.weight[2] * key.weight[3])
    bias = torch.randint(-99, 100, key.weight[:1], generator=generator).float()
    for weight in _weights(key.weight, weight_limit, generator):
        try:
            convolve = kernel.prepare(weight, bias, key.geometry)
        except RuntimeError as error:
            return Verdict(fault=f"torch can't run it ({first_line(error):.200})")
        for batch in PROOF_BATCHES:
            x = _input(key, kernel.dtype, batch, (low, high), generator)
            try:
                y = convolve(x)
            except RuntimeError as error:
                return Verdict(fault=f"torch can't run it ({first_line(error):.200})")
            if not is_exact(x, y, weight, bias, key.geometry):
                return Verdict(
                    fault=f"wrong sums for shape {[batch, *key.sample]}, kernel "
                    f"{list(key.weight[2:])}, {key.weight[0]} outputs"
                )
    return Verdict(fault=None, batches=set(PROOF_BATCHES))


def _weights(shape: tuple[int, ...], limit: int, generator: torch.Generator) -> list[Tensor]:
    """Random weights with some output channels at the limits; apart where there are few outputs."""
    random = torch.randint(-limit, limit + 1, shape, generator=generator).float()
    # Neighboring inputs, which 8-bit kernels add up in pairs, have one sign. Where all of one sign
    # would leave what float32 holds, the sign changes every four channels.
    extreme = torch.full(shape[1:], float(limit))
    if limit * limit * extreme.numel() >= FLOAT32_INTEGER:
        extreme[(torch.arange(shape[1]) // 4) % 2 == 1] *= -1
    if shape[0] < 4:
        return [random, extreme.expand(shape).contiguous()]
    random[0], random[-1] = extreme, -extreme
    return [random]


def _input(
    key: ProofKey,
    dtype: torch.dtype,
    batch: int,
    limits: tuple[int, int],
    generator: torch.Generator,
) -> Tensor:
    """Random integers that lie in memory as the key says; the last of several samples extreme."""
    low, high = limits
    size = key.sample[0] * key.sample[1] * key.sample[2]
    x = torch.empty_strided((batch, *key.sample), (size, *key.strides), dtype=dtype)
    x.copy_(torch.randint(low, high + 1, x.shape, generator=generator))
    if batch > 1:
        x[-1] = high
    return x


@torch.no_grad()
def _prove_batch(
    verdict: Verdict, x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, geometry: Geometry
) -> None:
    """Compare some samples of a result of a batch size that is new."""
    count = min(len(x), _ROWS)
    rows = torch.linspace(0, len(x) - 1, count).round().long()
    some = x[rows]
    largest = float(some.abs().max() if some.is_floating_point() else some.max())
    if largest * float(weight.abs().flatten(1).sum(1).max()) >= FLOAT32_INTEGER:
        return  # a network without certificate: float32 does not hold its sums
    if not is_exact(some, y[rows], weight, bias, geometry):
        verdict.fault = f"wrong sums for shape {list(x.shape)} of input"
    elif largest:
        verdict.batches.add(len(x))


def is_exact(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, geometry: Geometry) -> bool:
    """Whether y is the convolution of x, by one random combination of the output channels."""
    groups = geometry.groups
    outputs = len(weight) // groups
    generator = torch.Generator().manual_seed(_SEED + len(weight))
    factors = torch.randint(1, _FACTORS, (groups, outputs), generator=generator).double()
    flat = weight.double().reshape(groups, outputs, -1)
    combined = torch.bmm(factors.unsqueeze(1), flat).reshape(groups, *weight.shape[1:])
    shift = (factors * bias.double().reshape(groups, outputs)).sum(1)
    expected = exact_convolution(x, combined, shift, geometry)  # [N, groups, H, W]
    if y.shape[2:] != expected.shape[2:] or y.shape[1] != len(weight):
        return False
    channels_last = y.permute(0, 2, 3, 1).reshape(-1, groups, outputs).double()  # [N H W, g, O / g]
    got = torch.einsum("pgo,go->pg", channels_last, factors)
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
    # [groups, N H W, C / groups] times [groups, C / groups, K K O / groups]
    left = padded.reshape(-1, groups, channels).transpose(0, 1)
    taps = weight.double().reshape(groups, each, channels, -1).permute(0, 2, 3, 1)
    products = torch.bmm(left, taps.reshape(groups, channels, -1))
    products = products.reshape(groups, n, rows, columns, height * width, each)
    total = bias.double().reshape(groups, 1, 1, 1, each).expand(groups, n, out_h, out_w, each)
    for tap in range(height * width):
        top, start = gap_h * (tap // width), gap_w * (tap % width)
        total = (
            total
            + products[
                :,
                :,
                top : top + down * (out_h - 1) + 1 : down,
                start : start + right * (out_w - 1) + 1 : right,
                tap,
            ]
        )
    return total.permute(1, 0, 4, 2, 3).reshape(n, outputs, out_h, out_w)
