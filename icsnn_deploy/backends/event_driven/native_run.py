"""native/event_driven.c as a function of arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from icsnn_deploy.backends.event_driven.layers import Layer, Outgoing
from icsnn_deploy.errors import SimulationError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.native.build import load_library
from icsnn_deploy.native.threads import in_threads, usual_threads


class _Connection(ctypes.Structure):
    """connection_t of event_driven.c."""

    _fields_ = (
        ("target", ctypes.c_int64),
        ("pool", ctypes.c_int64),
        ("kernel", ctypes.c_int64 * 2),
        ("stride", ctypes.c_int64 * 2),
        ("padding", ctypes.c_int64 * 2),
        ("weight", ctypes.c_void_p),
    )


class _Layer(ctypes.Structure):
    """layer_t of event_driven.c."""

    _fields_ = (
        ("height", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("channels", ctypes.c_int64),
        ("connections", ctypes.c_int64),
        ("connection", ctypes.c_void_p),
        ("v_init", ctypes.c_void_p),
        ("v_threshold", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("v_reset", ctypes.c_void_p),
        ("offset", ctypes.c_int64),
    )


class _Network(ctypes.Structure):
    """network_t of event_driven.c."""

    _fields_ = (
        ("layers", ctypes.c_int64),
        ("steps", ctypes.c_int64),
        ("neurons", ctypes.c_int64),
        ("layer", ctypes.c_void_p),
    )


def is_available() -> bool:
    """Whether the library could be compiled on this machine."""
    return load_library("event_driven") is not None


def run(
    layers: Sequence[Layer], events: Array, first: Array, counts: Array, operations: Array
) -> None:
    """Run samples; see numpy_run.run.

    Raises:
        SimulationError: memory is exhausted.
    """
    library = load_library("event_driven")
    assert library is not None, "is_available says so"
    function = library.run_events
    function.restype = ctypes.c_int64
    samples, steps, neurons = counts.shape
    kept: list[object] = []  # what the structures point to
    structures = (_Layer * len(layers))(*(_structure(layer, kept) for layer in layers))
    network = _Network(len(layers), steps, neurons, ctypes.addressof(structures))
    arrays = [ctypes.c_void_p(each.ctypes.data) for each in (events, first, counts, operations)]
    failed: list[int] = []

    def part(begin: int, end: int) -> None:
        works = function(ctypes.byref(network), *arrays, ctypes.c_int64(begin), ctypes.c_int64(end))
        if not works:
            failed.append(begin)

    keep = (kept, structures, events, first, counts, operations)
    in_threads(part, samples, usual_threads(), keep=keep)
    if failed:
        raise SimulationError(
            "event-driven: memory is exhausted by waiting events; run fewer samples at a time"
        )


def _structure(layer: Layer, kept: list[object]) -> _Layer:
    connections = (_Connection * len(layer.outgoing))(*map(_connection, layer.outgoing))
    kept.append(connections)
    height, width, channels = layer.shape
    state = (layer.v_init, layer.v_threshold, layer.bias, layer.v_reset)
    return _Layer(
        height,
        width,
        channels,
        len(layer.outgoing),
        ctypes.addressof(connections),
        *(None if each is None else each.ctypes.data for each in state),
        layer.offset,
    )


def _connection(by: Outgoing) -> _Connection:
    return _Connection(
        by.target,
        by.pool,
        (ctypes.c_int64 * 2)(*by.weight.shape[1:3]),
        (ctypes.c_int64 * 2)(*by.stride),
        (ctypes.c_int64 * 2)(*by.padding),
        by.weight.ctypes.data,
    )
