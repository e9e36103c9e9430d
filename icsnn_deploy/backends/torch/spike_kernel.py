"""Convolutions of spikes in C, for processors with AVX2 that have no 8-bit dot products (VNNI).

oneDNN's 8-bit kernel takes inputs up to 127, and so adds in 32 bits. A spike is 0 or 1, and 16 bits
hold the sums of many weights: two instructions where oneDNN needs three (native/
spike_convolution.c). With VNNI one instruction does all of it, and oneDNN's kernel is used.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from icsnn_deploy.backends.torch.exact import Geometry
from icsnn_deploy.backends.torch.proof import Convolve
from icsnn_deploy.graph.nodes import Conv
from icsnn_deploy.native.build import load_library
from icsnn_deploy.native.threads import in_threads

_INPUTS, _OUTPUTS = 4, 8  # multiples that the channels have to be of
_INT16 = 2**15 - 1
_FEWEST_PRODUCTS = 1 << 20  # per thread: fewer take less time than a thread's start


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
        ("dilation", ctypes.c_int64 * 2),
        ("weight", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("in_16_bits", ctypes.c_int64),
    )


@cache
def avx2_library() -> ctypes.CDLL | None:
    """The compiled functions, if this machine can have them and its processor has AVX2."""
    library = load_library("spike_convolution")
    return library if library is not None and library.can_convolve_spikes() else None


def native_library() -> ctypes.CDLL | None:
    """The compiled functions, where they are the fastest that the processor has."""
    library = avx2_library()
    return None if library is None or library.has_dot_products() else library


def takes(node: Conv) -> bool:
    """Whether the C code can run a convolution of spikes with 8-bit weights on this machine."""
    outputs, channels = node.weight.shape[:2]
    whole = channels % _INPUTS == 0 and outputs % _OUTPUTS == 0
    return whole and node.groups == 1 and native_library() is not None


class SpikeKernel:
    """The C code as a kernel of proof.ProvenConvolution: inputs uint8, 0 or 1, channels last.

    Args:
        node: a convolution that `takes` it.
    """

    dtype = torch.uint8

    def __init__(self, node: Conv) -> None:
        weight = torch.from_numpy(node.weight.astype("int8"))
        self._in_16_bits = _largest_sum(_packed(weight)) <= _INT16
        self.name = f"spikes, sums of {16 if self._in_16_bits else 32} bits"

    def limits(self, window: int) -> tuple[int, int, int]:
        """Spikes, and weights so large that 16 bits just hold the sums if they are relied on."""
        most = _INT16 // -(-window // 2) if self._in_16_bits else 127
        return 0, 1, min(127, most)

    def prepare(self, weight: Tensor, bias: Tensor, geometry: Geometry) -> Convolve:
        """The convolution with this weight and bias, which are integers; its result is float32."""
        library = native_library()
        packed, shifts = _packed(weight.to(torch.int8)), bias.to(torch.int32)
        outputs, channels, *kernel = weight.shape
        window = weight[0].numel()

        @cache
        def described(height: int, width: int) -> tuple[_Convolution, list[int]]:
            size = [
                (n + 2 * p - d * (k - 1) - 1) // s + 1
                for n, k, s, p, d in zip(
                    (height, width),
                    kernel,
                    geometry.stride,
                    geometry.padding,
                    geometry.dilation,
                    strict=True,
                )
            ]
            return _Convolution(
                *(channels, height, width, outputs, *size, tuple(kernel)),
                *(geometry.stride, geometry.padding, geometry.dilation),
                *(packed.data_ptr(), shifts.data_ptr(), self._in_16_bits),
            ), size

        def convolve(x: Tensor) -> Tensor:
            if library is None or not x.is_contiguous(memory_format=torch.channels_last):
                raise RuntimeError("spikes with channels last in memory are needed")
            count, _, height, width = x.shape
            convolution, size = described(height, width)
            y = torch.empty((count, outputs, *size), memory_format=torch.channels_last)

            def run(begin: int, end: int) -> None:
                if library.convolve_spikes(
                    ctypes.byref(convolution),
                    ctypes.c_void_p(x.data_ptr()),
                    ctypes.c_void_p(y.data_ptr()),
                    ctypes.c_int64(begin),
                    ctypes.c_int64(end),
                ):
                    raise RuntimeError("not enough memory for the padded spikes")

            products = y.numel() * window
            threads = min(torch.get_num_threads(), products // _FEWEST_PRODUCTS)
            in_threads(run, count, threads, keep=(x, y, packed, shifts))
            return y

        return convolve


def _packed(weight: Tensor) -> Tensor:
    """int8 [O, C, KH, KW] as the C code reads it, [O / 8, KH, KW, C / 4, 8, 4]."""
    outputs, channels, *kernel = weight.shape
    parts = weight.reshape(outputs // _OUTPUTS, _OUTPUTS, channels // _INPUTS, _INPUTS, *kernel)
    return parts.permute(0, 4, 5, 2, 1, 3).contiguous()


def _largest_sum(packed: Tensor) -> int:
    """The largest |sum| that a 16-bit register can reach, of one pair of every four inputs."""
    pairs = packed.abs().to(torch.int32).reshape(len(packed), -1, _OUTPUTS, 2, 2)
    return int(pairs.sum(dim=(1, 4)).max())
