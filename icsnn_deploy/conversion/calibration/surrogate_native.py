"""The passes of SurrogateIF in C: one pass over memory each, where PyTorch needs about forty."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from icsnn_deploy.backends.torch.population import is_channels_last
from icsnn_deploy.native.build import load_library
from icsnn_deploy.native.threads import in_threads

_FEWEST_ROWS = 64  # per thread


class _Shape(ctypes.Structure):
    _fields_ = (
        ("steps", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("inner", ctypes.c_int64),
        ("current_step", ctypes.c_int64),
    )


class NativeIF:
    """Calls the library on tensors of one layout."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._forward, self._backward = library.if_forward, library.if_backward
        self._forward.restype = self._backward.restype = None

    def forward(
        self, current: Tensor, v_init: Tensor, rho: Tensor, steps: int, constant: bool
    ) -> tuple[Tensor, Tensor]:
        """Potentials u and spikes times rho, [T B, *shape] each.

        Args:
            current: as `fits` takes it.
            v_init, rho: [C] values.
        """
        shape = _shape_of(current, steps, constant)
        size = (steps * len(current) if constant else len(current), *current.shape[1:])
        layout = _layout(current)
        u, y = (torch.empty(size, memory_format=layout) for _ in range(2))
        starts, amplitudes = v_init.flatten().contiguous(), rho.flatten().contiguous()

        def run(begin: int, end: int) -> None:
            self._forward(
                ctypes.byref(shape),
                *map(_pointer, (current, u, y, starts, amplitudes)),
                ctypes.c_int64(begin),
                ctypes.c_int64(end),
            )

        in_threads(run, shape.rows, _threads(shape.rows), keep=(current, u, y, starts, amplitudes))
        return u, y

    def backward(
        self, u: Tensor, outer: Tensor, rho: Tensor, steps: int, constant: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the current, of v_init [C] and of rho [C]."""
        outer = outer.contiguous(memory_format=_layout(u))
        batch = len(u) // steps
        first = u[:batch]
        shape = _shape_of(first if constant else u, steps, constant)
        of_current = torch.empty_like(first if constant else u)
        amplitudes = rho.flatten().contiguous()
        sums: dict[int, Tensor] = {}

        def run(begin: int, end: int) -> None:
            own = torch.zeros(2, int(shape.channels), dtype=torch.float64)
            self._backward(
                ctypes.byref(shape),
                *map(_pointer, (u, outer, of_current, amplitudes, own[0], own[1])),
                ctypes.c_int64(begin),
                ctypes.c_int64(end),
            )
            sums[begin] = own

        in_threads(run, shape.rows, _threads(shape.rows), keep=(u, outer, of_current, amplitudes))
        parts = [sums[begin] for begin in sorted(sums)]  # one order, whichever ended first
        of_v_init, of_rho = torch.stack(parts).sum(dim=0).to(u.dtype)
        return of_current, of_v_init, of_rho


@cache
def native_if() -> NativeIF | None:
    """The library, if this machine can have it."""
    library = load_library("surrogate_if")
    return None if library is None else NativeIF(library)


def fits(current: Tensor) -> bool:
    """Whether the C code takes a current: float32 in memory, plain or channels last."""
    if current.device.type != "cpu" or current.dtype != torch.float32 or current.ndim < 2:
        return False
    return current.is_contiguous(memory_format=_layout(current))


def _layout(values: Tensor) -> torch.memory_format:
    return torch.channels_last if is_channels_last(values) else torch.contiguous_format


def _shape_of(current: Tensor, steps: int, constant: bool) -> _Shape:
    batch = len(current) if constant else len(current) // steps
    channels = current.shape[1]
    inner = current[0, 0].numel()
    if _layout(current) == torch.channels_last:
        rows, inner = batch * inner, 1
    else:
        rows = batch
    return _Shape(
        steps=steps,
        rows=rows,
        channels=channels,
        inner=inner,
        current_step=0 if constant else rows * channels * inner,
    )


def _pointer(values: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.data_ptr())


def _threads(rows: int) -> int:
    return min(torch.get_num_threads(), rows // _FEWEST_ROWS)
