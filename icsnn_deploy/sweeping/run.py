"""Run a sweep: the points that are missing in its folder, one after the other.

Several processes may run the same sweep on one folder, of one machine or of several that share it:
each takes points that nobody works on, and waits for the others at the end. What is in the table
does not depend on how many they were, or on how often they were stopped.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn
from torch.export import ExportedProgram

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.conversion.calibration.samples import CalibrationSource
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import Progress, announce, silent
from icsnn_deploy.progress_display import ProgressOption, shown
from icsnn_deploy.sweeping.estimate import Estimate
from icsnn_deploy.sweeping.faults import SweepFaultError
from icsnn_deploy.sweeping.folder import SweepFolder
from icsnn_deploy.sweeping.inputs import OpenSamples, SweptModel, array_samples, held
from icsnn_deploy.sweeping.options import Point, SweepOptions
from icsnn_deploy.sweeping.result import SweepResult
from icsnn_deploy.sweeping.rows import Measured, Row
from icsnn_deploy.sweeping.step import OnStep, SweepStep, step_line
from icsnn_deploy.sweeping.work import Failed, Work

_WAIT_S = 0.5  # between two looks at what other processes do
_MEASURE = "measure"


def sweep(
    model: nn.Module | ExportedProgram,
    calibration_data: CalibrationSource | Mapping[str, Array],
    images: CalibrationSource | Mapping[str, Array],
    labels: Array | Mapping[str, Array] | None = None,
    options: SweepOptions = SweepOptions(),
    *,
    out: Path | str | None = None,
    normalization: Normalization | None = None,
    limit: int | None = None,
    device: str = "cpu",
    progress: ProgressOption = True,
    on_step: OnStep | None = None,
) -> SweepResult:
    """Measure a model at every combination of recipe, T, weight width and target.

    Each point is what `convert`, `quantize` for its target, `evaluate` and `check` give. A point
    that can't be had (a width that does not certify, a recipe that does not suit the model) is a
    row with the reason.

    Args:
        model: as for convert.
        calibration_data: as for convert: samples [N, *shape] as an array, (X, y), a Dataset or a
            DataLoader; of several inputs an array for each. The recipe hybrid needs labels.
        images: samples to measure, in any of these forms.
        labels: of all images, in their order, as for evaluate; None: those that images come with,
            and without any the agreement with the ANN is measured.
        options: the grid, and what is recommended.
        out: folder that keeps what is measured: a sweep that was stopped goes on from there, and
            other processes may join; None: a temporary one.
        normalization: of pixels in the model's training.
        limit: largest number of images, as for evaluate; None: all.
        device: torch device.
        progress: True shows each finished point and how far it is, None or False nothing, a
            function is called (see convert).
        on_step: called as the sweep begins, and with each finished point.

    Returns:
        The rows, one per point, in the order of the grid; the fronts, and a choice per target.

    Raises:
        UnsupportedOperatorError, ConversionError: the model can't be converted at all.
        DataError: the samples do not fit the model, or the folder can't be used.
    """
    with shown(progress, "sweeping") as reporting:
        samples, calibration_labels = held(
            calibration_data, "calibration data", mixed=True, progress=reporting
        )
        measured, own_labels = held(
            images,
            "images",
            mixed=False,  # labels that are given are in the order of the data set, and of all of it
            limit=limit if labels is None else None,
            keep_labels=labels is None,
            progress=reporting,
        )
        given = SweptModel(
            model=model,
            calibration=samples,
            calibration_labels=calibration_labels,
            normalization=normalization,
            device=device,
        )
        return run_sweep(
            given,
            array_samples(measured, own_labels if labels is None else labels),
            options,
            out=None if out is None else Path(out),
            limit=limit,
            progress=reporting,
            on_step=on_step,
        )


def run_sweep(
    model: SweptModel,
    open_samples: OpenSamples,
    options: SweepOptions,
    *,
    out: Path | None,
    limit: int | None = None,
    progress: Progress = silent,
    on_step: OnStep | None = None,
) -> SweepResult:
    """Measure a model as `sweep` does, on samples that are opened for each network.

    Args:
        model: the model, its calibration samples, and how it is converted.
        open_samples: bundle -> samples and labels that its network is measured on.
        options, out, limit, progress, on_step: as for sweep.
    """
    with ExitStack() as stack:
        if out is None:
            out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="icsnn-sweep-")))
        folder = SweepFolder(out)
        work = Work(model, open_samples, options, limit=limit, folder=folder, progress=progress)
        run = _Run(work, folder, options, on_step, progress)
        try:
            rows = run.rows()
        except SweepFaultError as error:
            raise DataError(error.args[0]) from error
        return SweepResult(rows=rows, options=options, images=work.count, about=work.about)


class _Run:
    """The points of one sweep, and which of them are finished."""

    def __init__(
        self,
        work: Work,
        folder: SweepFolder,
        options: SweepOptions,
        on_step: OnStep | None,
        progress: Progress,
    ) -> None:
        self.work, self.folder, self.progress = work, folder, progress
        self.on_step = on_step
        self.points = options.points()
        self.names = {point: work.cell_name(point) for point in self.points}
        self.cells: dict[Point, dict[str, Any]] = {}
        self.estimate = Estimate()
        self._timed: set[str] = set()

    def rows(self) -> tuple[Row, ...]:
        """Every row; what is missing is measured, here or by another process."""
        self._look()
        self._tell(None)
        while self._missing():
            if not any(self._try(point) for point in self._missing()):
                self.progress("waiting for other processes", len(self.cells), len(self.points))
                time.sleep(_WAIT_S)
            self._look()
        return tuple(self._row(point) for point in self.points)

    def _missing(self) -> list[Point]:
        """What is to be done, least T first: soon there is a figure of each recipe, and a time."""
        missing = [point for point in self.points if point not in self.cells]
        return sorted(missing, key=lambda point: point.time_steps)

    def _look(self) -> None:
        """Read the points that are finished, here or by others."""
        for point in self._missing():
            cell = self.folder.read("cells", self.names[point])
            if cell is not None:
                self._finish(point, cell)

    def _try(self, point: Point) -> bool:
        """Measure a point, unless another process works on it or on its conversion."""
        name = self.work.conversion_name(point)
        conversion = self.work.conversion(point)
        if conversion is None:
            with self.folder.lock(f"convert-{name}") as mine:
                if not mine:
                    return False
                if self.work.conversion(point) is None:
                    self.work.convert(point)
            conversion = self.work.conversion(point)
        assert conversion is not None
        with self.folder.lock(self.names[point]) as mine:
            if not mine:
                return False
            if self.folder.read("cells", self.names[point]) is not None:
                return True  # another process has finished it meanwhile
            self._finish(point, self._measure(point, conversion))
        self._tell(self._row(point))
        return True

    def _measure(self, point: Point, conversion: Bundle | Failed) -> dict[str, Any]:
        if isinstance(conversion, Failed):
            cell, final = {"error": conversion.error, "seconds": 0.0}, True
        else:
            cell, final = self.work.measure(point, conversion)
        if final:
            self.folder.keep("cells", self.names[point], cell)
        return cell

    def _finish(self, point: Point, cell: dict[str, Any]) -> None:
        self.cells[point] = cell
        name = self.work.conversion_name(point)
        conversion = self.work.conversion(point)
        if isinstance(conversion, Bundle):
            self.estimate.add(_MEASURE, point.time_steps, cell["seconds"])
            if name not in self._timed:
                seconds = conversion.report()["seconds"]
                self.estimate.add(point.recipe, point.time_steps, seconds)
        self._timed.add(name)

    def _row(self, point: Point) -> Row:
        cell = self.cells[point]
        if "measured" in cell:
            return Row(point=point, measured=Measured.from_json(cell["measured"]))
        return Row(point=point, error=cell["error"])

    def _tell(self, row: Row | None) -> None:
        step = SweepStep(
            done=len(self.cells), total=len(self.points), row=row, seconds_left=self._left()
        )
        self.progress("points", step.done, step.total)
        line = step_line(step)
        if line:
            announce(self.progress, line)
        if self.on_step is not None:
            self.on_step(step)

    def _left(self) -> float | None:
        """Seconds that the rest takes, shared with the processes that were met."""
        missing = self._missing()
        conversions = {self.work.conversion_name(p): (p.recipe, p.time_steps) for p in missing}
        open_ones = [kind for name, kind in conversions.items() if name not in self._timed]
        seconds = self.estimate.left([*open_ones, *((_MEASURE, p.time_steps) for p in missing)])
        return None if seconds is None else seconds / (1 + len(self.folder.holders))
