"""Keep the state of a long calibration on disk, so that it can be interrupted and resumed."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.conversion.report import CurvePoint
from icsnn_deploy.errors import ConversionError, first_line


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedState:
    """The state of an optimization after some iterations."""

    iteration: int
    seconds: float
    state: list[Tensor]
    optimizer: dict[str, Any]
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class Checkpoint:
    """The file that one stage of a calibration keeps its state in, and its curve beside it.

    Args:
        folder: where the files are; it is made if it does not exist.
        stage: begins the names of the files, STAGE.pt and STAGE.csv.
        origin: what the stage starts from: networks, options, data. The state of another origin
            is refused.
    """

    folder: Path
    stage: str
    origin: str

    @property
    def path(self) -> Path:
        """The file of the state."""
        return self.folder / f"{self.stage}.pt"

    @property
    def _digest(self) -> str:
        return hashlib.sha256(self.origin.encode()).hexdigest()

    def save(
        self,
        *,
        iteration: int,
        seconds: float,
        state: list[Tensor],
        optimizer: dict[str, Any],
        curve: Sequence[CurvePoint],
    ) -> None:
        """Replace the state; a process that is killed meanwhile leaves the old one."""
        self._write(
            self.path,
            lambda draft: torch.save(
                {
                    "origin": self._digest,
                    "iteration": iteration,
                    "seconds": seconds,
                    "state": [value.detach().cpu() for value in state],
                    "optimizer": optimizer,
                    "curve": [asdict(point) for point in curve],
                },
                draft,
            ),
        )

    def load(self) -> SavedState | None:
        """The state that was saved last; None if there is none.

        Raises:
            ConversionError: a file that is no such state, or the state of another calibration.
        """
        if not self.path.exists():
            return None
        try:
            found = torch.load(self.path, map_location="cpu", weights_only=True)
            saved = SavedState(
                iteration=int(found["iteration"]),
                seconds=float(found["seconds"]),
                state=list(found["state"]),
                optimizer=dict(found["optimizer"]),
                curve=tuple(CurvePoint(**point) for point in found["curve"]),
            )
            origin = found["origin"]
        except Exception as error:  # whatever unpickling a foreign file raises
            raise ConversionError(
                f"{self.path}: not a checkpoint of icsnn ({first_line(error)}); delete it, or "
                "give another folder"
            ) from error
        if origin != self._digest:
            raise ConversionError(
                f"{self.path}: the checkpoint of another calibration (other model, weights, "
                "calibration data or options); delete it, or give another folder"
            )
        return saved

    def write_curve(self, curve: Sequence[CurvePoint]) -> None:
        """Write the curve as STAGE.csv, one row per point."""

        def write(draft: Path) -> None:
            with draft.open("w", newline="") as file:
                writer = csv.DictWriter(file, [field.name for field in fields(CurvePoint)])
                writer.writeheader()
                writer.writerows(asdict(point) for point in curve)

        self._write(self.folder / f"{self.stage}.csv", write)

    def _write(self, path: Path, write: Any) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as draft:
                write(draft)
        except OSError as error:
            raise ConversionError(f"{path}: cannot be written ({first_line(error)})") from error
