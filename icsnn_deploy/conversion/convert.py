"""The main path: a trained ReLU network in, a calibrated integrate-and-fire network out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from icsnn_deploy.conversion.calibration import CalibrationSet, CalibrationSource
from icsnn_deploy.conversion.fold import fold_scales, merge_pointwise
from icsnn_deploy.conversion.initial import initialize
from icsnn_deploy.conversion.judge import Judge
from icsnn_deploy.conversion.recipe import Method, Recipe
from icsnn_deploy.conversion.report import CandidateResult, ConversionReport, describe_populations
from icsnn_deploy.conversion.spike import Population, shift_current, spike
from icsnn_deploy.conversion.statistics import Statistics, collect_statistics
from icsnn_deploy.conversion.sweep import correct_bias, spike_norm, sweep
from icsnn_deploy.conversion.threshold import MaxThreshold, SpikeNormThreshold, threshold_of
from icsnn_deploy.conversion.trace import DeclaredActivation, trace, trace_exported
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph import Graph
from icsnn_deploy.neuron import Array
from icsnn_deploy.nodes import IF, Relu, Scale
from icsnn_deploy.progress import Progress, silent


@dataclass(frozen=True, kw_only=True, eq=False)
class Conversion:
    """A converted network, the ANN it comes from as a graph, and the report."""

    graph: Graph
    ann: Graph
    report: ConversionReport


def convert(
    model: nn.Module | ExportedProgram,
    calibration_data: CalibrationSource,
    recipe: Recipe = Recipe(),
    *,
    normalization: Normalization | None = None,
    activations: Sequence[DeclaredActivation] = (),
    device: str = "cpu",
    progress: Progress = silent,
) -> Conversion:
    """Convert a trained ReLU network to an integrate-and-fire network.

    Args:
        model: in eval mode, traceable by torch.fx; or an exported program.
        calibration_data: samples as the model takes them, [N, *shape] floats (an array, a
            DataLoader, an iterable of batches); with a normalization, uint8 pixels [N, C, H, W].
        recipe: thresholds, initial potentials, time steps.
        normalization: what the model's training did to a pixel; it becomes part of the network.
        activations: the model's own clip or QCFS activation classes.
        device: torch device that calibration runs on.
        progress: told how far each stage is.

    Raises:
        UnsupportedOperatorError: lists everything in the model that has no IF equivalent.
        ConversionError: the model can't be traced, or a rule can't be applied.
        DataError: calibration data that does not fit.
    """
    started = time.monotonic()
    calibration = CalibrationSet.of(calibration_data, progress=progress)
    ann = to_ann_graph(model, calibration, normalization, activations)
    held_out = max(1, round(len(calibration) * recipe.held_out))
    fit = calibration.part(0, max(1, len(calibration) - held_out))
    judge = Judge(ann, calibration.part(len(calibration) - held_out, len(calibration)), device)
    statistics = collect_statistics(
        ann, fit, batch_size=recipe.batch_size, device=device, progress=progress
    )
    workbench = _Workbench(ann, statistics, fit, recipe, device, progress)
    results: list[tuple[CandidateResult, Graph]] = []
    for number, method in enumerate(recipe.candidates):
        progress("candidates", number, len(recipe.candidates))
        begun = time.monotonic()
        network = workbench.build(method)
        agreement, divergence = judge.score(network, recipe.batch_size)
        result = CandidateResult(
            method=str(method),
            agreement=agreement,
            divergence=divergence,
            seconds=time.monotonic() - begun,
        )
        results.append((result, network))
    progress("candidates", len(recipe.candidates), len(recipe.candidates))
    # By divergence: shares of a few dozen samples differ by chance where this still tells apart.
    chosen, network = min(results, key=lambda r: (r[0].divergence, -r[0].agreement))
    report = ConversionReport(
        recipe=recipe.name,
        time_steps=recipe.time_steps,
        calibration_samples=len(calibration),
        held_out_samples=held_out,
        chosen=chosen,
        candidates=tuple(result for result, _ in results),
        populations=describe_populations(network),
        seconds=time.monotonic() - started,
    )
    provenance = {"recipe": recipe.name, "method": chosen.method, "ann_hash": ann.hash()}
    return Conversion(graph=replace(network, provenance=provenance), ann=ann, report=report)


def to_ann_graph(
    model: nn.Module | ExportedProgram,
    calibration: CalibrationSet,
    normalization: Normalization | None = None,
    activations: Sequence[DeclaredActivation] = (),
) -> Graph:
    """The model as a graph of Relu nodes, folded, with the normalization as its first node."""
    samples = np.asarray(calibration.samples[:2])
    if normalization is None and samples.dtype.kind != "f":
        raise DataError(
            f"calibration data of type {samples.dtype}: floats as the model takes them are needed, "
            "or uint8 pixels with a normalization"
        )
    if normalization is not None and samples.dtype != np.uint8:
        raise DataError(f"calibration data of type {samples.dtype}: a normalization needs uint8")
    prepared = samples if normalization is None else normalization.apply(samples)
    # A copy: the model may work in place, and a mapped file can't be written to.
    example = torch.from_numpy(np.array(prepared, np.float32, order="C"))
    if isinstance(model, ExportedProgram):
        ann = trace_exported(model, example, activations=activations)
    else:
        ann = trace(model, example, activations=activations)
    if normalization is not None:
        ann = _normalized(ann, normalization)
    return fold_scales(merge_pointwise(ann))


def _normalized(ann: Graph, normalization: Normalization) -> Graph:
    """The graph on uint8 pixels: pixel / (255 std) - mean / std in front of it."""
    shape = (len(normalization.mean), *(1,) * (len(ann.input.shape) - 1))
    mean = np.asarray(normalization.mean, np.float64).reshape(shape)
    std = np.asarray(normalization.std, np.float64).reshape(shape)
    scale = Scale(
        name=ann.fresh_name("normalization"),
        inputs=(ann.input.name,),
        scale=1 / (255 * std),
        shift=-mean / std,
    )
    return ann.replace(replace(ann.input, dtype="uint8")).insert_after(ann.input.name, scale)


class _Workbench:
    """Builds the network of one method after the other from the same statistics."""

    def __init__(
        self,
        ann: Graph,
        statistics: Statistics,
        fit: CalibrationSet,
        recipe: Recipe,
        device: str,
        progress: Progress,
    ) -> None:
        self.ann = ann
        self.statistics = statistics
        self.fit = fit
        self.recipe = recipe
        self.device = device
        self.progress = progress

    def build(self, method: Method) -> Graph:
        network = self._with_thresholds(method)
        if method.bias_shift:
            for node in network.nodes_of(IF):
                channels = network.shape(node.name)[0]
                per_channel = node.v_threshold.astype(np.float64).reshape(-1)
                shift = np.broadcast_to(per_channel / (2 * network.steps), (channels,))
                network = shift_current(network, node.name, shift)
        network = initialize(
            network,
            self.ann,
            method.v_init,
            self.fit,
            batch_size=self.recipe.batch_size,
            device=self.device,
            progress=self.progress,
        )
        if method.bias_correction:
            means = {name: layer.mean for name, layer in self.statistics.layers.items()}
            visit = correct_bias(means, self.statistics.logits_mean, network.readout_start)
            network = sweep(
                network,
                self.fit,
                visit,
                batch_size=self.recipe.batch_size,
                device=self.device,
                stage="bias correction",
                progress=self.progress,
            )
        return fold_scales(network)

    def _with_thresholds(self, method: Method) -> Graph:
        rule = method.threshold
        measured = MaxThreshold() if isinstance(rule, SpikeNormThreshold) else rule
        populations = {}
        for relu in self.ann.nodes_of(Relu):
            layer = self.statistics.layers[relu.name]
            found = threshold_of(measured, relu.name, layer, self.recipe.time_steps)
            v_threshold = _ready(found, len(self.ann.shape(relu.name)))
            populations[relu.name] = Population(
                v_threshold=v_threshold, v_init=np.zeros_like(v_threshold)
            )
        network = replace(
            spike(self.ann, populations, self.recipe.time_steps),
            readout_start=self.recipe.readout_start,
        )
        if not isinstance(rule, SpikeNormThreshold):
            return network
        return sweep(
            network,
            self.fit,
            spike_norm({node.name: node.upper for node in self.ann.nodes_of(Relu)}),
            batch_size=self.recipe.batch_size,
            reset=rule.reset,
            device=self.device,
            stage="SpikeNorm",
            progress=self.progress,
        )


def _ready(values: Array, rank: int) -> Array:
    """[C] or [1] values ready to broadcast over a population of `rank` axes."""
    return values.astype(np.float32).reshape(-1, *(1,) * (rank - 1))
