"""Faults that stop a sweep: those of its folder and of the samples, which no point is to blame for.

A point that can't be had is a row with the reason, which is kept. What stops a sweep is not kept:
the same command goes on once the fault is mended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from icsnn_deploy.errors import DataError, IcsnnError
from icsnn_deploy.evaluation.samples import DataSet
from icsnn_deploy.graph.neuron import Array


class SweepFaultError(DataError):
    """A damaged file of the folder, or samples that can't be read any more."""


def stops(error: IcsnnError) -> bool:
    """Whether an error is one of folder, samples or file system, and so stops the sweep."""
    return isinstance(error, SweepFaultError) or isinstance(error.__cause__, OSError)


@contextmanager
def stopping() -> Iterator[None]:
    """Turn a DataError of the samples into a SweepFaultError with the same message."""
    try:
        yield
    except DataError as error:
        raise SweepFaultError(error.args[0]) from error


@dataclass(frozen=True, eq=False)
class StoppingSamples:
    """Samples that were read once already: an error of reading them again stops the sweep.

    Args:
        samples: as the sweep opened them.
    """

    samples: DataSet

    @property
    def name(self) -> str:
        """Where the samples are, as messages name it."""
        return self.samples.name

    def __len__(self) -> int:
        return len(self.samples)

    def blank(self) -> Array:
        """As of the samples; raises SweepFaultError."""
        with stopping():
            return self.samples.blank()

    def read(self, start: int, stop: int) -> Array:
        """As of the samples; raises SweepFaultError."""
        with stopping():
            return self.samples.read(start, stop)

    def digest(self) -> str:
        """As of the samples; raises SweepFaultError."""
        with stopping():
            return self.samples.digest()
