"""Convolutions of spikes in float32 that read only the weights of neurons that fired, in C.

PyTorch multiplies every input, and most are 0. The C code (native/event_convolution.c) adds the
same weights in the order in which oneDNN adds them, so that no bit of the result differs. That
order is not documented: each shape and batch size is compared with PyTorch first, and PyTorch is
used where a bit differs. Verdicts are kept like those of integer networks (verdicts.py).

Integer networks use the same code for layers of few spikes. There every order of summation gives
the same sum, and it is proven like an 8-bit kernel (proof.py).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from icsnn_deploy.backends.torch.exact import Geometry
from icsnn_deploy.backends.torch.proof import Convolve, ProofKey, proof_settings
from icsnn_deploy.backends.torch.verdicts import VERDICTS, Verdict
from icsnn_deploy.graph.certificate import FLOAT32_INTEGER
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Conv, Population
from icsnn_deploy.native.build import load_library
from icsnn_deploy.native.threads import in_threads

_CHANNELS = 8  # multiple that input and output channels have to be of
_MOST_VECTORS = 8  # event_convolution.c
_MOST_COLUMNS = 1 << 15  # likewise: column and channel share 32 bits
_SIDE = 3  # of the kernels whose spikes are added to the outputs one by one
_FEWEST_WEIGHTS = 64  # of an output: below, finding the spikes takes longer than PyTorch
_MOST_RATE, _MOST_RATE_ADDED = 0.35, 0.3  # share of inputs that are 1: above, PyTorch is faster
_MOST_RATE_8_BITS = {4: 0.04, 8: 0.12}  # likewise for 8-bit kernels, by vectors of outputs
_PROOF_RATE = 0.15
_FEWEST_OUTPUTS = 1 << 16  # per thread: fewer take less time than a thread's start
_SEED = 20261

Dense = Callable[[Tensor, Tensor, Tensor], Tensor]
"""PyTorch's convolution of float32 inputs with a weight and a bias."""


class _Convolution(ctypes.Structure):
    _fields_ = (
        ("channels", ctypes.c_int64),
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("out_height", ctypes.c_int64),
        ("out_width", ctypes.c_int64),
        ("kernel", ctypes.c_int64 * 2),
        ("stride", ctypes.c_int64 * 2),
        ("padding", ctypes.c_int64 * 2),
        ("row_dilation", ctypes.c_int64),
        ("vectors", ctypes.c_int64),
        ("adds_one_by_one", ctypes.c_int64),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


@cache
def native_library() -> ctypes.CDLL | None:
    """The compiled functions, if this machine can have them."""
    if sys.byteorder != "little":  # the C code reads 8 spikes as one integer
        return None
    library = load_library("event_convolution")
    if library is not None:
        library.count_spikes.restype = ctypes.c_int64
    return library


def takes(node: Conv) -> bool:
    """Whether the C code can run a convolution of spikes."""
    if len(node.kernel) != 2 or node.groups != 1 or node.dilation[1] != 1:
        return False
    if any(before != after for before, after in node.padding):
        return False
    outputs, channels = node.weight.shape[:2]
    if channels % _CHANNELS or outputs % _CHANNELS or channels >= _MOST_COLUMNS:
        return False
    if any(p >= k for (p, _), k in zip(node.padding, node.kernel, strict=True)):
        return False
    return node.weight[0].size >= _FEWEST_WEIGHTS and native_library() is not None


class EventConvolution:
    """A convolution of spikes that gives the bits of PyTorch's, or leaves it to PyTorch.

    Args:
        node: a convolution that `takes` it.
        weight: float32 [O, C, KH, KW].
        bias: float32 [O].
        dense: PyTorch's convolution.
    """

    def __init__(self, node: Conv, weight: Tensor, bias: Tensor, dense: Dense) -> None:
        self._geometry = Geometry.of(node)
        self._shape = tuple(weight.shape)
        self._kernel = _Kernel(self._geometry, weight, bias)
        self._dense = dense
        self._last: tuple[object, str] | None = None  # the last call's key, and what it is of

    def __call__(self, x: Tensor) -> Tensor | None:
        """float32 [N, O, H, W] of spikes uint8 [N, C, H, W]; None where PyTorch is to be used."""
        if x.dtype != torch.uint8 or not x.numel():
            return None
        if not x.is_contiguous(memory_format=torch.channels_last) or x.shape[3] >= _MOST_COLUMNS:
            return None
        if self._kernel.rate(x) > self._kernel.most_rate or not self._has_same_bits(x):
            return None
        return self._kernel(x)

    def _has_same_bits(self, x: Tensor) -> bool:
        given = (x.shape[1:], torch.get_num_threads(), proof_settings())
        if self._last is None or self._last[0] != given:
            key = ProofKey(
                kernel="events, float32",
                geometry=self._geometry,
                weight=self._shape,
                sample=tuple(x.shape[1:]),
                strides=(),
                threads=given[1],
                settings=given[2],
            )
            self._last = given, key.text
        text = self._last[1]
        verdict = VERDICTS.get(text)
        if verdict is None or (verdict.fault is None and x.shape[0] not in verdict.batches):
            with VERDICTS.lock:
                verdict = verdict or Verdict(None)
                verdict.settle(x.shape[0], self._fault(tuple(x.shape)))
                VERDICTS.add(text, verdict)
        return verdict.fault is None

    def _fault(self, shape: tuple[int, ...]) -> str | None:
        """Compare with PyTorch on random spikes and weights of every magnitude."""
        generator = torch.Generator().manual_seed(_SEED)
        weight = torch.randn(self._shape, generator=generator)
        weight *= 2.0 ** torch.randint(-6, 7, self._shape, generator=generator)
        weight = weight.contiguous(memory_format=torch.channels_last)
        bias = torch.randn(self._shape[0], generator=generator)
        x = torch.rand(shape, generator=generator) < _PROOF_RATE
        x = x.to(torch.uint8).contiguous(memory_format=torch.channels_last)
        found = _Kernel(self._geometry, weight, bias)(x)
        same = torch.equal(found, self._dense(x.float(), weight, bias))
        return None if same else "PyTorch adds in another order"


class EventKernel:
    """The C code as a kernel of proof.ProvenConvolution, for integers that float32 holds."""

    name = "events"
    dtype = torch.uint8

    def prepare(self, weight: Tensor, bias: Tensor, geometry: Geometry) -> Convolve:
        """The convolution with this weight and bias, which are integers; its result is float32."""
        return _Kernel(geometry, weight, bias)

    def limits(self, window: int) -> tuple[int, int, int]:
        """Spikes, and weights so large that float32 just holds the sums."""
        return 0, 1, min(127, (FLOAT32_INTEGER - 1000) // window)


def is_faster_than_8_bits(node: Conv, x: Tensor) -> bool:
    """Whether a convolution that `takes` it has so few spikes that no 8-bit kernel is faster.

    Args:
        node: the convolution.
        x: spikes uint8.
    """
    most = _MOST_RATE_8_BITS.get(_vectors(len(node.weight)), 0.0)
    return most > 0 and x.numel() > 0 and _Kernel.rate(x) <= most


def _vectors(outputs: int) -> int:
    """Vectors of 8 outputs that are summed up at once."""
    return next(n for n in range(_MOST_VECTORS, 0, -1) if outputs // _CHANNELS % n == 0)


class _Kernel:
    """The C code with packed weights."""

    def __init__(self, geometry: Geometry, weight: Tensor, bias: Tensor) -> None:
        outputs, channels, *kernel = weight.shape
        vectors = _vectors(outputs)
        one_by_one = (
            outputs == vectors * _CHANNELS
            and vectors <= 2  # more sums than a spike's place holds in registers
            and kernel == [_SIDE, _SIDE]
            and geometry.stride == geometry.dilation == (1, 1)
        )
        self.most_rate = _MOST_RATE_ADDED if one_by_one else _MOST_RATE
        if one_by_one:
            self._packed = weight.permute(1, 2, 3, 0).flip(2).contiguous()  # [C, KH, -KW, O]
        else:
            blocks = weight.reshape(-1, vectors * _CHANNELS, channels, *kernel)
            self._packed = blocks.permute(0, 3, 4, 2, 1).contiguous()  # [O / 8 V, KH, KW, C, 8 V]
        self._bias = bias.contiguous()
        self._geometry, self._outputs, self._kernel = geometry, outputs, kernel
        self._vectors, self._one_by_one = vectors, one_by_one

    @staticmethod
    def rate(x: Tensor) -> float:
        """The share of inputs that are 1."""
        library = native_library()
        assert library is not None, "takes() asks for it"
        count = library.count_spikes(ctypes.c_void_p(x.data_ptr()), ctypes.c_int64(x.numel()))
        return int(count) / x.numel()

    def __call__(self, x: Tensor) -> Tensor:
        library = native_library()
        assert library is not None, "takes() asks for it"
        count, channels, *shape = x.shape
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                shape,
                self._kernel,
                self._geometry.stride,
                self._geometry.padding,
                self._geometry.dilation,
                strict=True,
            )
        ]
        convolution = _Convolution(
            *(channels, *shape, self._outputs, *size, tuple(self._kernel)),
            *(self._geometry.stride, self._geometry.padding, self._geometry.dilation[0]),
            *(self._vectors, self._one_by_one, self._packed.data_ptr(), self._bias.data_ptr()),
        )
        y = torch.empty((count, self._outputs, *size), memory_format=torch.channels_last)

        def run(begin: int, end: int) -> None:
            if library.convolve_events(
                ctypes.byref(convolution),
                ctypes.c_void_p(x.data_ptr()),
                ctypes.c_void_p(y.data_ptr()),
                ctypes.c_int64(begin),
                ctypes.c_int64(end),
            ):
                raise MemoryError("not enough memory for the list of spikes")

        threads = min(torch.get_num_threads(), y.numel() // _FEWEST_OUTPUTS)
        in_threads(run, count, threads, keep=(x, y, self._packed, self._bias))
        return y


def event_convolutions(graph: Graph, device: torch.device, dtype: torch.dtype) -> frozenset[str]:
    """The convolutions of a float network that can read spikes as events, by name.

    Args:
        graph: the network; the result is empty for an integer network, which runs in 8 bits.
        device: the result is empty unless it is the CPU.
        dtype: the result is empty unless it is float32.
    """
    if device.type != "cpu" or dtype != torch.float32 or graph.is_integer:
        return frozenset()
    return frozenset(
        node.name
        for node in graph.nodes_of(Conv)
        if isinstance(graph.node(node.inputs[0]), Population) and takes(node)
    )
