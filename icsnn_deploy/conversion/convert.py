"""The main path: a trained ReLU network in, a calibrated integrate-and-fire network out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram

from icsnn_deploy.conversion.calibration.agreement import AgreementScorer
from icsnn_deploy.conversion.calibration.auto import run_stages
from icsnn_deploy.conversion.calibration.candidates import CandidateRunner
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.samples import CalibrationSet, CalibrationSource
from icsnn_deploy.conversion.calibration.statistics import collect_statistics
from icsnn_deploy.conversion.frontend.max_pool_cost import losses, max_pool_costs
from icsnn_deploy.conversion.frontend.max_pool_neurons import relay_max_pools
from icsnn_deploy.conversion.frontend.replace_max_pool import Replacement
from icsnn_deploy.conversion.frontend.trace import DeclaredActivation, trace, trace_exported
from icsnn_deploy.conversion.report import ConversionReport, describe_populations
from icsnn_deploy.data import Normalization
from icsnn_deploy.distributed import SINGLE, Ranks
from icsnn_deploy.errors import ConversionError, DataError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import ChannelAffine
from icsnn_deploy.passes.edit import fresh_name, insert_after
from icsnn_deploy.passes.fold_scales import fold_scales
from icsnn_deploy.passes.merge_pointwise import merge_pointwise
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
    replace_max_pool: Replacement | None = None,
    device: str = "cpu",
    progress: Progress = silent,
    ranks: Ranks = SINGLE,
) -> Conversion:
    """Convert a trained ReLU network to an integrate-and-fire network.

    Args:
        model: in eval mode, traceable by torch.fx; or an exported program.
        calibration_data: samples as the model takes them, [N, *shape] floats (an array, a
            DataLoader, an iterable of batches); with a normalization, uint8 pixels [N, C, H, W].
        recipe: thresholds, initial potentials, time steps.
        normalization: what the model's training did to a pixel; it becomes part of the network.
        activations: the model's own clip or QCFS activation classes.
        replace_max_pool: None: max pooling becomes populations, exactly; "average": average pooling
            takes its place, which is another network.
        device: torch device that calibration runs on.
        progress: told how far each stage is.
        ranks: the processes that share the calibration; each gets the same network.

    Raises:
        UnsupportedOperatorError: lists everything in the model that has no IF equivalent.
        ConversionError: the model can't be traced, or a rule can't be applied.
        DataError: calibration data that does not fit.
        RankError: processes that lost each other, or that were not given the same.
    """
    _check_kinds(model, recipe)
    started = time.monotonic()
    calibration = CalibrationSet.of(calibration_data, progress=progress, ranks=ranks)
    ann = to_ann_graph(
        model, calibration, normalization, activations, replace_max_pool=replace_max_pool
    )
    ranks.require_equal("the traced ANN", ann.hash)
    held_out = max(1, round(len(calibration) * recipe.held_out))
    fit = calibration.part(0, max(1, len(calibration) - held_out))
    judged = calibration.part(len(calibration) - held_out, len(calibration))
    judge = AgreementScorer(ann, judged, device, recipe.readout_steps)
    statistics = collect_statistics(
        ann, fit, batch_size=recipe.batch_size, device=device, progress=progress
    )
    runner = CandidateRunner(ann, statistics, fit, judge, recipe, device, progress)
    run_stages(runner) if recipe.is_auto else runner.try_all(recipe.candidates)
    chosen = runner.best()
    network = chosen.network
    report = ConversionReport(
        recipe=recipe.name,
        time_steps=recipe.steps,
        counted=recipe.readout_steps,
        calibration_samples=len(calibration),
        held_out_samples=held_out,
        chosen=chosen.result,
        candidates=tuple(candidate.result for candidate in runner.candidates),
        populations=describe_populations(network),
        max_pools=max_pool_costs(ann),
        losses=losses(ann),
        seconds=time.monotonic() - started,
    )
    provenance = {
        **ann.provenance,
        "recipe": recipe.name,
        "method": chosen.result.method,
        "ann_hash": ann.hash(),
        "counted": list(recipe.readout_steps),
    }
    return Conversion(graph=replace(network, provenance=provenance), ann=ann, report=report)


def _check_kinds(model: object, recipe: object) -> None:
    """Raise ConversionError where a name, a class or a state dict stands for what it names."""
    if not isinstance(model, (nn.Module, ExportedProgram)):
        raise ConversionError(
            f"a model of type {type(model).__name__}: an nn.Module with its weights loaded, or a "
            "program of torch.export, is needed"
        )
    if not isinstance(recipe, Recipe):
        raise ConversionError(
            f"a recipe of type {type(recipe).__name__}: Recipe(name=..., time_steps=...) is needed"
        )


def to_ann_graph(
    model: nn.Module | ExportedProgram,
    calibration: CalibrationSet,
    normalization: Normalization | None = None,
    activations: Sequence[DeclaredActivation] = (),
    *,
    replace_max_pool: Replacement | None = None,
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
        ann = trace_exported(
            model, example, activations=activations, replace_max_pool=replace_max_pool
        )
    else:
        ann = trace(model, example, activations=activations, replace_max_pool=replace_max_pool)
    if normalization is not None:
        ann = _normalized(ann, normalization)
    return fold_scales(relay_max_pools(merge_pointwise(ann)))


def _normalized(ann: Graph, normalization: Normalization) -> Graph:
    """The graph on uint8 pixels: pixel / (255 std) - mean / std in front of it."""
    shape = (len(normalization.mean), *(1,) * (len(ann.input.shape) - 1))
    mean = np.asarray(normalization.mean, np.float64).reshape(shape)
    std = np.asarray(normalization.std, np.float64).reshape(shape)
    scale = ChannelAffine(
        name=fresh_name(ann, "normalization"),
        inputs=(ann.input.name,),
        scale=1 / (255 * std),
        shift=-mean / std,
    )
    pixels = ann.replace(replace(ann.input, dtype="uint8"))
    return insert_after(pixels, ann.input.name, scale)
