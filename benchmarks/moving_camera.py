"""A simulation of an event camera that moves over handwritten digits. These are not recordings.

scikit-learn's 8 x 8 digits, enlarged to 16 x 16 on a dark canvas, are seen by 20 x 20 pixels while
the camera makes three saccades along a triangle, as the camera of N-MNIST did. A pixel sends an
event each time its log intensity has moved by its threshold from its level at the last event (the
model of ESIM and v2e); thresholds differ by a few percent, and noise adds events at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icsnn_deploy.graph.neuron import Array

SENSOR = 20
DURATION_US = 300_000

_CANVAS = 28
_STEPS = 60  # positions of the camera
_AMPLITUDE = 2.0  # pixels that a saccade covers
_DARKEST = 0.1  # intensity of the canvas; the brightest stroke is 1.1
_CORNERS = ((0.0, 0.0), (1.0, 1.0), (1.0, -1.0), (0.0, 0.0))  # x, y of the saccades

EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])


@dataclass(frozen=True, kw_only=True)
class Camera:
    """The sensor.

    Args:
        threshold: change of the log intensity that sends an event.
        mismatch: standard deviation of the thresholds over the pixels, relative.
        noise: events that every pixel sends at random during a recording, on average.
    """

    threshold: float = 0.4
    mismatch: float = 0.03
    noise: float = 0.05

    def record(self, images: Array, seed: int) -> list[Array]:
        """Record each image.

        Args:
            images: [N, 8, 8], values in [0, 1].
            seed: of thresholds, noise and times.

        Returns:
            For each image a structured array of t in microseconds, x, y and p, in order of t.
        """
        return [
            self._record(image, np.random.default_rng([seed, number]))
            for number, image in enumerate(images)
        ]

    def _record(self, image: Array, generator: np.random.Generator) -> Array:
        shape = (SENSOR, SENSOR)
        threshold = self.threshold * (1 + self.mismatch * generator.standard_normal(shape))
        canvas = _canvas(image)
        level = np.log(_seen(canvas, 0.0, 0.0))
        parts = []
        for step, (dx, dy) in enumerate(_path()):
            moved = (np.log(_seen(canvas, dx, dy)) - level) / threshold
            count = np.fix(moved).astype(np.int64)  # events of each pixel; negative: darker
            level += count * threshold
            y, x = np.nonzero(count)
            sent = np.abs(count[y, x])
            rows, columns, p = (np.repeat(v, sent) for v in (y, x, count[y, x] > 0))
            times = generator.uniform(step, step + 1, len(p))
            parts.append(_events(times, columns, rows, p))
        noise = int(generator.poisson(self.noise * SENSOR * SENSOR))
        columns, rows = generator.integers(0, SENSOR, (2, noise))
        times = generator.uniform(0, _STEPS, noise)
        parts.append(_events(times, columns, rows, generator.integers(0, 2, noise)))
        found = np.concatenate(parts)
        return found[np.argsort(found["t"], kind="stable")]


def _events(step: Array, x: Array, y: Array, p: Array) -> Array:
    found = np.empty(len(x), EVENT)
    found["t"] = step * DURATION_US / _STEPS
    found["x"], found["y"], found["p"] = x, y, p
    return found


def _canvas(image: Array) -> Array:
    """The digit, 16 x 16, in the middle of the canvas."""
    positions = (np.arange(16) + 0.5) / 2 - 0.5
    large = _sampled(np.pad(image, 1, mode="edge"), positions + 1, positions + 1)
    return np.pad(large, (_CANVAS - 16) // 2) + _DARKEST


def _seen(canvas: Array, dx: float, dy: float) -> Array:
    """What the sensor sees when the camera has moved by (dx, dy) pixels."""
    first = (_CANVAS - SENSOR) / 2 + np.arange(SENSOR)
    return _sampled(canvas, first + dy, first + dx)


def _sampled(image: Array, rows: Array, columns: Array) -> Array:
    """The image at fractional rows and columns, bilinear."""
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = (rows - top)[:, None], columns - left
    upper, lower = image[top], image[top + 1]
    blended = upper * (1 - down) + lower * down
    result: Array = blended[:, left] * (1 - right) + blended[:, left + 1] * right
    return result


def _path() -> list[tuple[float, float]]:
    """Positions (dx, dy) of the camera, in pixels."""
    corners = np.array(_CORNERS) * _AMPLITUDE
    at = np.linspace(0, len(corners) - 1, _STEPS + 1)[1:]
    x, y = (np.interp(at, np.arange(len(corners)), corners[:, axis]) for axis in (0, 1))
    return list(zip(x.tolist(), y.tolist(), strict=True))


def save_recordings(folder: Path, recordings: list[Array], labels: Array) -> None:
    """Write each recording as FOLDER/CLASS/NUMBER.npy."""
    for number, (events, label) in enumerate(zip(recordings, labels, strict=True)):
        path = folder / str(label) / f"{number:05}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, events)
