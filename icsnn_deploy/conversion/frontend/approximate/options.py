"""What a user asks for: how many knots, and the samples that the fits see."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from icsnn_deploy.conversion.frontend.example_inputs import Example
from icsnn_deploy.errors import ConversionError

DEFAULT_KNOTS = 6
_LEAST, _MOST = 2, 64
_VALUES = 2**23
"""Values of all samples together, which bounds the memory of the run: 32 MiB in float32."""
_LEAST_SAMPLES, _MOST_SAMPLES = 16, 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Approximation:
    """Fit smooth activations, and products of two tensors, by functions that are linear in pieces.

    The result is another network than the trained one. How far each fit and the outputs are from
    the model is measured on samples that the fits have not seen, and reported.

    Args:
        knots: K, the places at which the slope of a fit changes: about as many populations as each
            activation becomes.
        samples: a batch [N, ...] as the model takes it, or one for each input by name, as an
            example of `trace`. `convert` takes them from its calibration data; `trace` takes its
            example where there are none.

    Raises:
        ConversionError: knots outside 2 to 64.
    """

    knots: int = DEFAULT_KNOTS
    samples: Example | None = None

    def __post_init__(self) -> None:
        whole = isinstance(self.knots, int) and not isinstance(self.knots, bool)
        if not whole or not _LEAST <= self.knots <= _MOST:
            raise ConversionError(
                f"approximation with {self.knots} knots (--knots): {_LEAST} to {_MOST} are allowed"
            )

    @staticmethod
    def check(asked: object) -> None:
        """Raise ConversionError unless it is None or an Approximation."""
        if asked is not None and not isinstance(asked, Approximation):
            raise ConversionError(
                f"approximate={asked!r}: Approximation(knots=...), or leaving it out, is allowed"
            )

    def on(self, samples: Example) -> Approximation:
        """The same with these samples, unless it has its own."""
        return self if self.samples is not None else replace(self, samples=samples)


def sample_count(available: int, values: int) -> int:
    """How many samples a fit uses.

    Args:
        available: samples that there are.
        values: of one sample.
    """
    affordable = max(_LEAST_SAMPLES, min(_MOST_SAMPLES, _VALUES // max(values, 1)))
    return min(available, affordable)


def evenly(available: int, count: int) -> torch.Tensor:
    """The numbers of `count` samples, spread evenly over all of them."""
    return torch.arange(count) * available // count
