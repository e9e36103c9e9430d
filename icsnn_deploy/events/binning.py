"""Bin the events of a recording to the time steps of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.events.recording import Events
from icsnn_deploy.graph.neuron import Array

EventBins = Literal["duration", "count"]
"""Steps of equal duration, or with equal numbers of events."""

_MOST_VALUES = 1 << 31  # of the spikes of one recording, a byte each


@dataclass(frozen=True, kw_only=True)
class EventBinning:
    """How a recording becomes the input of a network.

    Args:
        time_steps: T.
        shape: of the network's input: (2, H, W) for a channel per polarity, darker first, or
            (1, H, W) for both in one.
        bins: "duration": T parts of the time from the first event to the last; "count": T parts
            with equal numbers of events.

    Raises:
        DataError: another shape, no such way of binning, no step, or spikes of more than 2 GiB.
    """

    time_steps: int
    shape: tuple[int, ...]
    bins: EventBins = "duration"

    def __post_init__(self) -> None:
        if self.bins not in get_args(EventBins):
            raise DataError(f"events binned by {self.bins!r}: duration or count is allowed")
        if len(self.shape) != 3 or self.shape[0] not in (1, 2) or min(self.shape) < 1:
            raise DataError(
                f"recordings for a network input of shape {list(self.shape)}: [2, H, W], a channel "
                "per polarity, or [1, H, W] is needed"
            )
        if self.time_steps < 1:
            raise DataError(f"events binned to T = {self.time_steps} steps: at least 1 is needed")
        values = self.time_steps * math.prod(self.shape)
        if values > _MOST_VALUES:
            raise DataError(
                f"recordings binned to {[self.time_steps, *self.shape]}: {values:,} values each; "
                f"at most {_MOST_VALUES:,} are possible. Scale the recordings to fewer pixels"
            )

    def spikes(self, events: Events, name: str = "recording") -> Array:
        """The events as spikes: 1 where a pixel sent at least one event in a step.

        Args:
            events: of a recording.
            name: of the recording, for messages.

        Returns:
            uint8 [T, C, H, W].

        Raises:
            DataError: an event outside the H x W pixels.
        """
        channels, height, width = self.shape
        beyond = (events.x >= width) | (events.y >= height)
        if beyond.any():
            first = int(beyond.argmax())
            raise DataError(
                f"{name}: an event at x = {events.x[first]}, y = {events.y[first]}, outside the "
                f"{width} x {height} pixels (W x H) that the network takes; crop or scale the "
                "recording"
            )
        found = np.zeros((self.time_steps, *self.shape), np.uint8)
        channel = events.p if channels == 2 else 0
        found[self.step_of(events), channel, events.y, events.x] = 1
        return found

    def step_of(self, events: Events) -> Array:
        """The step of each event, [N], 0 to T - 1."""
        count, steps = len(events), self.time_steps
        since = events.t - events.t[0]
        last = since[-1]
        step: Array
        if self.bins == "count":
            step = np.arange(count) * steps // count
        elif since.dtype.kind == "i" and int(last) < 2**62 // steps - 1:
            step = since * steps // (last + 1)  # exact
        else:
            step = np.minimum((since / (last or 1) * steps).astype(np.int64), steps - 1)
        return step
