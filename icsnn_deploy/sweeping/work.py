"""The work of one point: convert, quantize, evaluate, and check against the target."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.errors import (
    ConversionError,
    DataError,
    GraphError,
    IcsnnError,
    LatticeError,
    TargetError,
)
from icsnn_deploy.evaluation.activity import Activity, measure_activity
from icsnn_deploy.evaluation.encoded_samples import EncodedSamples
from icsnn_deploy.evaluation.options import EvaluationOptions
from icsnn_deploy.evaluation.run import evaluate
from icsnn_deploy.evaluation.samples import DataSet
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs, to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.progress import Progress
from icsnn_deploy.sources.selection import check_limit
from icsnn_deploy.sweeping.faults import StoppingSamples, stopping, stops
from icsnn_deploy.sweeping.figures import agreement_of, figure_of, over_time
from icsnn_deploy.sweeping.folder import SweepFolder, file_name, key_of
from icsnn_deploy.sweeping.inputs import OpenSamples, SweptModel, digest_of
from icsnn_deploy.sweeping.options import FLOAT, Point, SweepOptions
from icsnn_deploy.sweeping.recipes import describe_recipe
from icsnn_deploy.sweeping.rows import Measured
from icsnn_deploy.targets.check import check
from icsnn_deploy.targets.misfit import Misfit
from icsnn_deploy.targets.profile import TargetProfile
from icsnn_deploy.targets.resources import FLOAT_BITS
from icsnn_deploy.version import __version__

ACTIVITY_SAMPLES = 64
"""Samples that operations and energy are measured on, the first ones."""

REASONS = (ConversionError, DataError, GraphError, LatticeError, TargetError)
"""Errors that say that a point can't be had: its row shows them, and it is not tried again. Not
those that stop the sweep (faults.stops)."""

_PROBED = 64  # calibration samples of the first conversion, which only checks that there can be one
_KEPT = 4  # samples in each bundle, whose golden spikes are computed


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A conversion that failed."""

    error: str


class Work:
    """The work of a sweep on its folder.

    Args:
        model: the model and its calibration samples.
        open_samples: the samples that are measured.
        options: of the sweep.
        limit: largest number of samples that are measured; None: all.
        folder: of the sweep.
        progress: called as each stage advances.

    Raises:
        UnsupportedOperatorError, ConversionError, DataError: the model can't be converted at all,
            or the samples do not fit it.
    """

    def __init__(
        self,
        model: SweptModel,
        open_samples: OpenSamples,
        options: SweepOptions,
        *,
        limit: int | None,
        folder: SweepFolder,
        progress: Progress,
    ) -> None:
        check_limit(limit)
        self.model, self.options, self.folder = model, options, folder
        self.progress = _without_lines(progress)
        self._open = open_samples
        probe = self._probe()
        samples, labels = open_samples(probe)
        self.count = min(len(samples), limit or len(samples))
        read = samples.frames if isinstance(samples, EncodedSamples) else samples
        _check(probe.network(), samples)
        self._base = {
            "software": f"icsnn-deploy {__version__}",
            "ann": str(probe.ann_hash),
            "calibration": model.digest(),
        }
        self._data = digest_of(read, labels, self.count, progress)

    @property
    def about(self) -> dict[str, str]:
        """The software, and hashes of the ANN and of the samples."""
        return {**self._base, "data": self._data}

    def conversion_name(self, point: Point) -> str:
        """What files of a point's conversion are called."""
        told = {**self._base, "recipe": describe_recipe(self.options.recipe(point))}
        return file_name(f"T{point.time_steps}", key_of(told))

    def network_name(self, point: Point) -> str:
        """What files of a point's integer network are called."""
        told = {
            "conversion": self.conversion_name(point),
            "bits": point.bits,
            "profile": self._profile(point).to_json(),
            "effort": self.options.quantize_effort,
            "seed": self.options.seed,
        }
        return file_name(self._place(point), key_of(told))

    def cell_name(self, point: Point) -> str:
        """What the file of a point's figures is called."""
        told = {
            "network": self.network_name(point),
            "data": self._data,
            "host_first_layer": self.options.host_first_layer,
        }
        return file_name(self._place(point), key_of(told))

    def conversion(self, point: Point) -> Bundle | Failed | None:
        """The finished conversion of a point; None where it is not there yet."""
        name = self.conversion_name(point)
        failed = self.folder.read("conversions", name)
        if failed is not None:
            return Failed(error=failed["error"])
        path = self.folder.path / "conversions" / name
        return open_bundle(path) if path.is_dir() else None

    def convert(self, point: Point) -> None:
        """Convert with the recipe of a point, and keep the bundle or the reason why not.

        Raises:
            IcsnnError: the folder can't be written.
        """
        name = self.conversion_name(point)
        path = self.folder.path / "conversions" / name
        checkpoints = path.with_name(f"{name}.training")
        recipe = self.options.recipe(point)
        try:
            conversion = self._converted(recipe, checkpoints)
        except REASONS as error:
            if stops(error):
                raise
            self.folder.keep("conversions", name, {"error": f"conversion: {error}"})
        else:
            self.model.save(conversion, path, _KEPT)
        shutil.rmtree(checkpoints, ignore_errors=True)

    def measure(self, point: Point, conversion: Bundle) -> tuple[dict[str, Any], bool]:
        """Quantize, evaluate and check one point.

        Returns:
            Its cell, {"measured": ...} or {"error": ...}, with "seconds"; and whether that is
            final, so that it can be kept.

        Raises:
            IcsnnError: the folder is damaged or full, or the samples can't be read.
        """
        started = time.monotonic()
        final = True
        cell: dict[str, Any]
        try:
            bundle = self._network(point, conversion)
            cell = {"measured": self._measured(point, bundle, conversion).to_json()}
        except REASONS as error:
            if stops(error):
                raise
            cell = {"error": str(error)}
        except IcsnnError:
            raise
        except (RuntimeError, ArithmeticError, MemoryError) as error:  # of torch, of this machine
            cell, final = {"error": f"{type(error).__name__}: {error}"}, False
        return {**cell, "seconds": round(time.monotonic() - started, 2)}, final

    def _probe(self) -> Bundle:
        """The model converted at T = 1 on few samples: what can't work is reported at once."""
        recipe = Recipe(name="opi", time_steps=1, batch_size=self.options.batch_size)
        conversion = self.model.convert(recipe, self.progress, samples=_PROBED)
        name = key_of({"ann": conversion.ann.hash(), "model": self.model.digest()})
        path = self.folder.path / "probe" / name
        return open_bundle(path) if path.is_dir() else self.model.save(conversion, path, _KEPT)

    def _converted(self, recipe: Recipe, checkpoints: Path) -> Any:
        resumed = checkpoints.exists()
        try:
            return self.model.convert(recipe, self.progress, checkpoints=checkpoints)
        except ConversionError as error:
            if not resumed or stops(error):
                raise
        # the state may be of another machine or number of threads
        shutil.rmtree(checkpoints, ignore_errors=True)
        return self.model.convert(recipe, self.progress, checkpoints=checkpoints)

    def _network(self, point: Point, conversion: Bundle) -> Bundle:
        """The bundle of a point's network, quantized where it is not there yet."""
        if not isinstance(point.bits, int):
            return conversion
        path = self.folder.path / "networks" / self.network_name(point)
        if path.is_dir():
            return open_bundle(path)
        profile = self._profile(point)
        options = LatticeOptions.for_target(
            profile,
            bits=point.bits,
            per_layer=False,
            input_bits=8,
            effort=self.options.quantize_effort,
            seed=self.options.seed,
        )
        quantization = quantize(
            conversion,
            self.model.packed_for(conversion),
            options=options,
            profile=profile,
            device=self.model.device,
            progress=self.progress,
        )
        return quantization.save(path, conversion.samples(), overwrite=True)

    def _measured(self, point: Point, bundle: Bundle, conversion: Bundle) -> Measured:
        network, report = bundle.network(), bundle.report()
        lattice: Mapping[str, Any] = report.get("lattice", {})
        widths = list(lattice.get("bits", {}).values()) or [FLOAT_BITS]
        profile = self._profile(point)
        result = check(network, profile, host_first_layer=self.options.host_first_layer)
        return Measured(
            **self._figures(bundle),
            memory_bits=result.resources.memory_bits,
            narrowest=min(widths),
            widest=max(widths),
            fits=result.ok,
            misfits=tuple(map(str, result.misfits)),
            over=_over(result.misfits),
            cores=result.cores_used,
            method=report["chosen"]["method"],
            lattice=lattice.get("kept", ""),
            folder=str(bundle.path.relative_to(self.folder.path)),
            graph_hash=bundle.graph_hash,
        )

    def _figures(self, bundle: Bundle) -> dict[str, Any]:
        """Figures, spikes and operations of a network; targets that share it measure it once."""
        told = {**self._base, "graph": bundle.graph_hash, "data": self._data}
        name = file_name(key_of(told))
        found = self.folder.read("runs", name)
        if found is None:
            found = self._run(bundle)
            self.folder.keep("runs", name, found)
        return {key: value for key, value in found.items() if key != "format"}

    def _run(self, bundle: Bundle) -> dict[str, Any]:
        with stopping():
            opened, labels = self._open(bundle)
        samples = StoppingSamples(opened)
        options = EvaluationOptions(
            batch_size=self.options.batch_size, device=self.model.device, backend=self._backend
        )
        evaluation = evaluate(
            bundle, samples, labels, options, limit=self.count, progress=self.progress
        )
        figure, agreement = figure_of(evaluation), agreement_of(evaluation)
        activity = self._activity(bundle.network(), samples)
        return {
            "figure": figure.name,
            "images": self.count,
            "value": 100 * figure.value,
            "ann_value": 100 * figure.ann,
            "agreement": None if agreement is None else 100 * agreement,
            **over_time(evaluation, figure),
            "spikes": evaluation.spikes,
            "acs": activity.acs,
            "macs": activity.macs_once,
            "low_nanojoule": activity.energy.low_nanojoule,
            "high_nanojoule": activity.energy.high_nanojoule,
            "activity_samples": activity.samples,
        }

    def _activity(self, network: Graph, samples: DataSet) -> Activity:
        """Operations of the first samples, run in batches of the evaluation's size."""
        simulator = TorchSimulator(network, device=self.model.device)
        count = min(ACTIVITY_SAMPLES, self.count)
        parts: dict[str, list[Array]] = {node.name: [] for node in network.nodes_of(Population)}
        inputs = []
        for start in range(0, count, self.options.batch_size):
            stop = min(start + self.options.batch_size, count)
            x = to_input_units(network, samples.read(start, stop))
            recording = simulator.run(x, Record(spikes=False, counts=True))
            for name, array in recording.spike_counts().items():
                parts[name].append(array)
            inputs.append(x)
        counts = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        axis = network.input.batch_axis
        return measure_activity(network, counts, np.concatenate(inputs, axis=axis))

    @property
    def _backend(self) -> str:
        return "torch" if self.model.device == "cpu" else f"torch:{self.model.device}"

    def _profile(self, point: Point) -> TargetProfile:
        return self.options.profiles[point.target]

    @staticmethod
    def _place(point: Point) -> str:
        width = FLOAT if point.bits == FLOAT else f"{point.bits}bit"
        return f"T{point.time_steps}-{width}-{point.target}"


def _without_lines(progress: Progress) -> Progress:
    """The stages of a progress alone: what one conversion says of itself is not of interest."""

    def stages(stage: str, done: int, total: int | None) -> None:
        progress(stage, done, total)

    return stages


def _check(network: Graph, samples: DataSet) -> None:
    """Raise DataError if samples do not fit the network; no sample is read of files."""
    try:
        check_inputs(network, to_input_units(network, samples.blank()))
    except DataError as error:
        raise DataError(f"{samples.name}: {error}") from error


def _over(misfits: Sequence[Misfit]) -> str:
    """Misfits in a few words, each kind once."""
    found = [f"{one.what}, {one.over} over" if one.over else one.what for one in misfits]
    return "; ".join(dict.fromkeys(found))
