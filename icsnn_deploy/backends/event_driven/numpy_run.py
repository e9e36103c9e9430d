"""The queue of events in NumPy: what event_driven.c does, without a compiler."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from icsnn_deploy.backends.event_driven.layers import Layer, Outgoing
from icsnn_deploy.graph.neuron import Array


def run(
    layers: Sequence[Layer], events: Array, first: Array, counts: Array, operations: Array
) -> None:
    """Run samples; see run_events in native/event_driven.c.

    Args:
        layers: of the network, the input first.
        events: int32, the input's events: neurons of [H, W, C], in order.
        first: int64 [B T + 1], where the events of each step begin.
        counts: int32 [B, T, neurons], receives the spikes.
        operations: int64 [B, layers], receives the synaptic operations.
    """
    samples, steps = counts.shape[:2]
    for sample in range(samples):
        queue = _Queue(layers, operations[sample])
        for step in range(steps):
            at = sample * steps + step
            queue.step(events[first[at] : first[at + 1]], counts[sample, step])


class _Queue:
    """The events and potentials of one sample."""

    def __init__(self, layers: Sequence[Layer], operations: Array) -> None:
        self._layers, self._operations = layers, operations
        self._events: deque[tuple[int, int]] = deque()
        self._v = [None if one.v_init is None else one.v_init.copy() for one in layers]

    def step(self, inputs: Array, counts: Array) -> None:
        """One step: the biases, then the input's events and all that follows from them."""
        for number, layer in enumerate(self._layers):
            if layer.bias is not None:
                everywhere = (slice(None), slice(None))
                self._add(number, everywhere, layer.bias, counts)
        self._events.extend((0, int(neuron)) for neuron in inputs)
        while self._events:
            number, neuron = self._events.popleft()
            layer = self._layers[number]
            for outgoing in layer.outgoing:
                self._send(layer, outgoing, neuron, counts)

    def _send(self, source: Layer, by: Outgoing, neuron: int, counts: Array) -> None:
        height, width, channels = source.shape
        pixel, channel = divmod(neuron, channels)
        y, x = pixel // width // by.pool, pixel % width // by.pool
        if y >= height // by.pool or x >= width // by.pool:
            return  # outside of the whole windows
        target = self._layers[by.target]
        rows, taps_y = _reached(y, target.shape[0], by, 0)
        columns, taps_x = _reached(x, target.shape[1], by, 1)
        if not len(rows) or not len(columns):
            return
        weight = by.weight[channel][np.ix_(taps_y, taps_x)]  # [rows, columns, C]
        self._operations[by.target] += weight.size
        self._add(by.target, np.ix_(rows, columns), weight, counts)

    def _add(self, number: int, place: Any, values: Array, counts: Array) -> None:
        """Add to some pixels of a layer; neurons that reach their threshold fire once."""
        layer, v = self._layers[number], self._v[number]
        assert v is not None, "the input has no potentials"
        assert layer.v_threshold is not None, "the input has no threshold"
        v[place] += values
        numbers = np.arange(layer.size).reshape(layer.shape)[place]
        fired = numbers[v[place] >= layer.v_threshold[place]]
        flat = v.reshape(-1)
        if layer.v_reset is None:
            flat[fired] -= layer.v_threshold.reshape(-1)[fired]
        else:
            flat[fired] = layer.v_reset.reshape(-1)[fired]
        counts[layer.offset + fired] += 1
        self._events.extend((number, int(neuron)) for neuron in fired)


def _reached(position: int, size: int, by: Outgoing, axis: int) -> tuple[Array, Array]:
    """The rows (or columns) of the target that an event reaches, and the taps that it takes."""
    places = np.arange(size)
    taps = position + by.padding[axis] - places * by.stride[axis]
    inside = (taps >= 0) & (taps < by.weight.shape[1 + axis])
    return places[inside], taps[inside]
