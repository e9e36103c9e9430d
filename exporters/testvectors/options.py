"""Options of test vectors."""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.options import ExportOptions


@dataclass(frozen=True, kw_only=True)
class VectorOptions(ExportOptions):
    """What of the samples is written.

    Args:
        samples: samples at most, >= 1; fewer where fewer are there.
        spikes_only: leave out the currents and potentials of the populations, most of the bytes.

    Raises:
        ExportError: `samples` is below 1.
    """

    samples: int = 2
    spikes_only: bool = False

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ExportError(f"test vectors of {self.samples} samples: 1 or more are needed")
