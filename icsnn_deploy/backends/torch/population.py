"""A population's time steps in C, in one pass over memory; bit for bit what PyTorch computes.

PyTorch needs a pass for each step's addition, comparison, reset and conversion to bytes, and one
for each sum and scale before them. The C code (native/population.c) reads the currents once, as the
convolutions left them, and writes the spikes once, as the next convolution takes them.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from icsnn_deploy.native.build import load_library
from icsnn_deploy.native.threads import in_threads

MOST_TERMS = 4  # population.c
_FEWEST_VALUES = 1 << 16  # per thread: fewer take less time than a thread's start


@dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """A part of a population's current: values, or scale * values + shift.

    Args:
        values: [T, B, *shape], currents or spikes; may be a view expanded over T.
        scale, shift: broadcastable to [B, *shape]; None: the values are the current.
    """

    values: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None


class _Term(ctypes.Structure):
    _fields_ = (
        ("values", ctypes.c_void_p),
        ("is_bytes", ctypes.c_int64),
        ("step_size", ctypes.c_int64),
        ("scale", ctypes.c_void_p),
        ("shift", ctypes.c_void_p),
    )


class _Population(ctypes.Structure):
    _fields_ = (
        ("steps", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("terms", ctypes.c_int64),
        ("term", _Term * MOST_TERMS),
        ("v_threshold", ctypes.c_void_p),
        ("v_reset", ctypes.c_void_p),
        ("v_init", ctypes.c_void_p),
        ("v", ctypes.c_void_p),
        ("spikes", ctypes.c_void_p),
        ("spike_bytes", ctypes.c_void_p),
        ("u", ctypes.c_void_p),
    )


@cache
def native_library() -> ctypes.CDLL | None:
    """The compiled functions, if this machine can have them."""
    library = load_library("population")
    if library is not None:
        library.run_population.restype = None
    return library


def fire_native(
    terms: Sequence[Term],
    v: Tensor,
    v_threshold: Tensor,
    v_reset: Tensor | None = None,
    *,
    keep_potentials: bool = False,
    as_bytes: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Run several steps of a population, as ops.integrate_and_fire does for the sum of the terms.

    Args:
        terms: added in this order.
        v: potential before the first step: a parameter, or [B, *shape].
        v_threshold: of the shape of a parameter (graph.node.broadcast_shapes).
        v_reset: likewise; None for soft reset.
        keep_potentials: return u, the potential before the reset, as well.
        as_bytes: return spikes as uint8.

    Returns:
        (spikes [T, B, *shape], v [B, *shape], u [T, B, *shape] or None); None where there is no C
        code, or it does not take these values.
    """
    library = native_library()
    parameters = [v_threshold] if v_reset is None else [v_threshold, v_reset]
    for term in terms:
        parameters += [p for p in (term.scale, term.shift) if p is not None]
    if library is None or not _fits(terms, v, parameters):
        return None
    steps, first = terms[0].values.shape[0], terms[0].values[0]  # [B, *shape]
    v_after = torch.empty_like(first, dtype=torch.float32)
    spikes = empty_over_time(first, steps, torch.uint8 if as_bytes else torch.float32)
    u = empty_over_time(first, steps, torch.float32) if keep_potentials else None
    starts_from_parameter = v.ndim < first.ndim
    if starts_from_parameter:
        parameters.append(v)
    else:
        v_after.copy_(v.expand(first.shape))
    layout = _ParameterLayout(first, parameters)
    population = _Population(
        steps=steps,
        rows=first.numel() // layout.channels,
        channels=layout.channels,
        terms=len(terms),
        term=tuple(_term(term, layout) for term in terms),
        v_threshold=layout.pointer(v_threshold),
        v_reset=layout.pointer(v_reset),
        v_init=layout.pointer(v) if starts_from_parameter else None,
        v=v_after.data_ptr(),
        spikes=None if as_bytes else spikes.data_ptr(),
        spike_bytes=spikes.data_ptr() if as_bytes else None,
        u=None if u is None else u.data_ptr(),
    )

    def run(begin: int, end: int) -> None:
        library.run_population(ctypes.byref(population), ctypes.c_int64(begin), ctypes.c_int64(end))

    threads = min(torch.get_num_threads(), spikes.numel() // _FEWEST_VALUES)
    keep = (terms, v, v_after, spikes, u, layout)
    in_threads(run, int(population.rows), threads, keep=keep)
    return spikes, v_after, u


class _ParameterLayout:
    """Parameters in the order of the neurons in memory, per channel if all are, else per neuron.

    Args:
        step: values of one step, [B, *shape].
        parameters: all that the C code gets, of shapes that broadcast to a sample's.
    """

    def __init__(self, step: Tensor, parameters: Sequence[Tensor]) -> None:
        self._shape = step.shape[1:]
        self._channels_last = is_channels_last(step)
        channel = (self._shape[0], *(1,) * (len(self._shape) - 1))
        self._per_channel = (self._channels_last or len(self._shape) == 1) and all(
            p.numel() == p.shape[0] for p in parameters
        )
        if self._per_channel:
            self._shape = torch.Size(channel)
        self.channels = math.prod(self._shape)
        self._kept: list[Tensor] = []  # until the C function returns

    def pointer(self, parameter: Tensor | None) -> int | None:
        """Address of a parameter's values in that order; None (NULL) for None."""
        if parameter is None:
            return None
        if parameter.numel() == self.channels and self._per_channel:
            values = parameter
        else:
            values = parameter.expand(self._shape)
        if self._channels_last and not self._per_channel:
            values = values.permute(1, 2, 0)  # [H, W, C]
        self._kept.append(values.contiguous())
        return self._kept[-1].data_ptr()


def _term(term: Term, layout: _ParameterLayout) -> _Term:
    return _Term(
        values=term.values.data_ptr(),
        is_bytes=not term.values.is_floating_point(),
        step_size=term.values.stride(0) if term.values.shape[0] > 1 else 0,
        scale=layout.pointer(term.scale),
        shift=layout.pointer(term.shift),
    )


def _fits(terms: Sequence[Term], v: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether the C code takes these values: float32 or bytes on the CPU, in one memory order."""
    shape = terms[0].values.shape
    if len(terms) > MOST_TERMS or len(shape) < 3 or not shape[0]:
        return False
    differentiated = torch.is_grad_enabled()
    for p in (v, *parameters):
        if not p.is_cpu or p.dtype != torch.float32 or (differentiated and p.requires_grad):
            return False
    if v.ndim not in (len(shape) - 2, len(shape) - 1):
        return False
    if any(p.ndim != len(shape) - 2 for p in parameters):
        return False
    last = is_channels_last(terms[0].values[0])
    order = torch.channels_last if last else torch.contiguous_format
    for values in (term.values for term in terms):
        if not values.is_cpu or values.shape != shape or (differentiated and values.requires_grad):
            return False
        if values.dtype not in (torch.float32, torch.uint8):
            return False
        if not values[0].is_contiguous(memory_format=order):
            return False
    return True


def is_channels_last(step: Tensor) -> bool:
    """Whether the channels of [B, C, H, W] come last in memory."""
    return step.ndim == 4 and step.is_contiguous(memory_format=torch.channels_last)


def empty_over_time(step: Tensor, steps: int, dtype: torch.dtype | None = None) -> Tensor:
    """An empty tensor [T, B, *shape] whose steps have the memory format of `step` [B, *shape]."""
    folded = torch.empty(
        (steps * step.shape[0], *step.shape[1:]),
        dtype=dtype or step.dtype,
        device=step.device,
        memory_format=torch.channels_last if is_channels_last(step) else torch.contiguous_format,
    )
    return folded.view(steps, *step.shape)
