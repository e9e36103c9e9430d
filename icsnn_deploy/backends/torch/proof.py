"""Proof that a library's convolution kernels are exact, before their results are used.

A certificate says that float32 holds every sum of an integer network. It does not say that the
library adds correctly: oneDNN's 8-bit convolution returns wrong sums for some shapes on processors
with AMX, and a convolution by Winograd or FFT rounds. So a kernel is used for a shape only after
two exact comparisons on this machine, in this process or in an earlier one (verdicts.py):

1. Proof of the shape, before the first result, on one sample: random inputs and weights over the
   whole range that the kernel is used for, half of them at the limit, so that saturation is found.
   The key is the shape, the strides in memory, threads, settings and the kernel (ProofKey).
2. Proof of the batch size. Up to SMALL_BATCH the same comparison runs on that size. The result of a
   larger size is compared when it first occurs, before it is returned: its first and its last
   sample. oneDNN may choose another blocking for another batch, but one call runs the same code for
   all its samples, so those between are not compared. If both samples are nearly silent, random
   inputs of the whole size are used instead.

The sizes that occur are T * B and the remainder of the last batch, parts of T if memory is short,
and each number of samples that early exit leaves: too many to prove each at full size. Splitting
calls into a few proven sizes was measured, and takes 15 to 40 % more time for the convolutions of a
ResNet20.

The comparison itself is backends.torch.exact.is_exact. Devices other than the CPU are not proven;
`verify` compares their spikes.

Matrix products (linear layers) are not proven: they add in float32, which the certificate covers,
and no library that torch is built with computes them by a fast transform.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from icsnn_deploy.backends.torch.exact import Geometry, is_exact
from icsnn_deploy.backends.torch.verdicts import VERDICTS, Verdict
from icsnn_deploy.errors import first_line
from icsnn_deploy.graph.certificate import FLOAT32_INTEGER
from icsnn_deploy.graph.nodes import Conv

LOGGER = logging.getLogger(__name__)

SHAPE_BATCH = 1
SMALL_BATCH = 8
DENSE = 0.02
"""Share of inputs other than 0 from which on a result says something about its batch size."""
_SEED = 20261


Convolve = Callable[[Tensor], Tensor]


class Kernel(Protocol):
    """One way to run a convolution of integers."""

    name: str
    dtype: torch.dtype  # of its input

    def prepare(self, weight: Tensor, bias: Tensor, geometry: Geometry) -> Convolve:
        """The convolution with integers, float32 weight [O, C / groups, K, K] and bias [O]."""
        ...

    def limits(self, window: int) -> tuple[int, int, int]:
        """(smallest input, largest input, largest |weight|) to prove, for windows of this size."""
        ...


@dataclass(frozen=True, kw_only=True)
class ProofKey:
    """What a library may choose its code by, apart from the batch size."""

    kernel: str
    geometry: Geometry
    weight: tuple[int, ...]  # [O, C / groups, K, K]
    sample: tuple[int, ...]  # [C, H, W]
    strides: tuple[int, ...]  # of a sample in memory: channels-last or contiguous
    threads: int
    settings: tuple[object, ...]  # of torch, that choose or round in oneDNN

    @cached_property
    def text(self) -> str:
        """What verdicts are found by."""
        return repr(self)


def proof_settings() -> tuple[object, ...]:
    """The settings of torch that choose or round in oneDNN."""
    mkldnn = torch.backends.mkldnn
    precision = torch.get_float32_matmul_precision()
    return (mkldnn.enabled, getattr(mkldnn, "fp32_precision", None), precision)


class ProvenConvolution:
    """A convolution of integers by a kernel that is proven before its results are used.

    Args:
        node: two spatial axes, symmetric padding, integers.
        kernel: what runs it.
    """

    def __init__(self, node: Conv, kernel: Kernel) -> None:
        self._node = node
        self._kernel = kernel
        self._geometry = Geometry.of(node)
        self._prepared: dict[Geometry, Convolve] = {}
        self._last: tuple[object, ProofKey] | None = None  # the last call's key, and what it is of
        self.refused: str | None = None  # why the last call returned None
        self.proven_batches: set[int] = set()

    def __call__(self, x: Tensor) -> Tensor | None:
        """Convolve [N, C, H, W] of the kernel's dtype to float32 [N, O, H, W]; None if refused."""
        geometry, x = pad_by_hand(self._geometry, self._node.kernel, x)
        if not x.numel():
            return None
        given = (geometry, x.shape[1:], x.stride()[1:], torch.get_num_threads(), proof_settings())
        last = self._last
        if last is None or last[0] != given:
            last = given, self._key(*given)
            self._last = last
        try:
            return self._proven(last[1], x)
        except RuntimeError as error:  # no memory, say: nothing about the sums is known by that
            self._refuse(f"torch can't run it ({first_line(error):.200})")
            return None

    def _key(
        self,
        geometry: Geometry,
        sample: torch.Size,
        strides: tuple[int, ...],
        threads: int,
        settings: tuple[object, ...],
    ) -> ProofKey:
        return ProofKey(
            kernel=self._kernel.name,
            geometry=geometry,
            weight=self._node.weight.shape,
            sample=tuple(sample),
            strides=strides,
            threads=threads,
            settings=settings,
        )

    def _proven(self, key: ProofKey, x: Tensor) -> Tensor | None:
        """Run the kernel; None where the verdict on it names a fault."""
        batch = x.shape[0]  # len(x) takes several times longer
        verdict = self._verdict(key, batch)
        if verdict.fault is None:
            y = self._prepare(key.geometry)(x)
            if batch not in verdict.batches:
                self._prove_result(key, verdict, x, y)
            if verdict.fault is None:
                self.proven_batches.add(batch)
                self.refused = None
                return y
        self._refuse(verdict.fault or "")
        return None

    def _verdict(self, key: ProofKey, batch: int) -> Verdict:
        """The verdict for a key; its shape, and the batch size if small, are proven if need be."""
        with VERDICTS.lock:
            verdict = VERDICTS.get(key.text)
            if verdict is None:
                verdict = Verdict(prove(key, self._kernel, SHAPE_BATCH), {SHAPE_BATCH})
                VERDICTS.add(key.text, verdict)
            if verdict.fault is None and batch <= SMALL_BATCH and batch not in verdict.batches:
                verdict.settle(batch, prove(key, self._kernel, batch))
            return verdict

    def _prove_result(self, key: ProofKey, verdict: Verdict, x: Tensor, y: Tensor) -> None:
        """Prove a larger batch size by its first result, before it is returned."""
        with VERDICTS.lock:
            fault, conclusive = prove_result(x, y, *self._integers(), key.geometry)
            if fault is None and not conclusive:
                fault = prove(key, self._kernel, len(x))
            verdict.settle(len(x), fault)

    def _integers(self) -> tuple[Tensor, Tensor]:
        weight = torch.from_numpy(self._node.weight.astype(np.float32))
        return weight, torch.from_numpy(self._node.bias.astype(np.float32))

    def _prepare(self, geometry: Geometry) -> Convolve:
        """The prepared kernel. Made on use: calibration runs few layers of many simulators."""
        if geometry not in self._prepared:
            self._prepared[geometry] = self._kernel.prepare(*self._integers(), geometry)
        return self._prepared[geometry]

    def _refuse(self, fault: str) -> None:
        if self.refused is None and VERDICTS.is_news(f"{self._node.name} {self._kernel.name}"):
            LOGGER.warning(
                "%s: the %s convolution is not used on this machine: %s. The layer is computed by "
                "another kernel, which is exact but slower",
                self._node.name,
                self._kernel.name,
                fault,
            )
        self.refused = fault


def pad_by_hand(geometry: Geometry, kernel: tuple[int, ...], x: Tensor) -> tuple[Geometry, Tensor]:
    """Pad x here if the padding holds a whole window, so that no kernel gets such a padding.

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
    """Compare a kernel with exact sums, on random and on extreme integers; returns the fault.

    Args:
        key: the shape.
        kernel: to be proven.
        batch: samples of the call.

    Raises:
        RuntimeError: torch can't run it.
    """
    rng = np.random.default_rng(_SEED)
    low, high, weight_limit = kernel.limits(math.prod(key.weight[1:]))
    bias = torch.from_numpy(rng.integers(-99, 100, key.weight[0]).astype(np.float32))
    size = math.prod(key.sample)
    x = torch.empty_strided((batch, *key.sample), (size, *key.strides), dtype=kernel.dtype)
    x.copy_(torch.from_numpy(rng.integers(low, high + 1, x.shape, dtype=np.int16)))
    x[:, :, : key.sample[1] // 2] = high
    for weight in _weights(key.weight, weight_limit, rng):
        y = kernel.prepare(weight, bias, key.geometry)(x)
        if not is_exact(x, y, weight, bias, key.geometry):
            return (
                f"wrong sums for input {[batch, *key.sample]}, kernel {list(key.weight[2:])}, "
                f"{key.weight[0]} output channels"
            )
    return None


def _weights(shape: tuple[int, ...], limit: int, rng: np.random.Generator) -> list[Tensor]:
    """Random weights with two output channels at the limits; separate if there are few outputs."""
    if limit == 127:
        raw = np.frombuffer(rng.bytes(math.prod(shape)), np.int8)
        random = torch.from_numpy(np.maximum(raw, -127).reshape(shape)).float()
    else:
        raw = rng.integers(-limit, limit, shape, np.int16, endpoint=True)
        random = torch.from_numpy(raw).float()
    # Neighboring weights have one sign, because 8-bit kernels add in pairs. If the sum of all with
    # one sign exceeds what float32 holds, the sign changes with each tap and every four channels.
    extreme = torch.full(shape[1:], float(limit))
    if limit * limit * extreme.numel() >= FLOAT32_INTEGER:
        groups_of_four = torch.arange(shape[1])[:, None, None] // 4
        taps = torch.arange(math.prod(shape[2:])).reshape(1, *shape[2:])
        extreme[(groups_of_four + taps) % 2 == 1] *= -1
    if shape[0] < 4:
        return [random, extreme.expand(shape).contiguous()]
    random[0], random[-1] = extreme, -extreme
    return [random]


@torch.no_grad()
def prove_result(
    x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, geometry: Geometry
) -> tuple[str | None, bool]:
    """Compare the first and the last sample of a result.

    Returns:
        the fault, and whether the comparison is conclusive: it is not if both samples are nearly
        silent, or if float32 can't hold the sums (a network without a certificate).
    """
    ends = slice(None, None, max(1, len(x) - 1))
    some = x[ends]
    largest = float(some.abs().max() if some.is_floating_point() else some.max())
    if not largest or largest * float(weight.abs().flatten(1).sum(1).max()) >= FLOAT32_INTEGER:
        return None, False
    if not is_exact(some, y[ends], weight, bias, geometry):
        return f"wrong sums for input {list(x.shape)}", True
    return None, int(torch.count_nonzero(some)) >= DENSE * some.numel()
