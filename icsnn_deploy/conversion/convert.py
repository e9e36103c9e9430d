"""Convert a trained ReLU network to a calibrated integrate-and-fire network."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn
from torch.export import ExportedProgram

from icsnn_deploy.bundle.create import SAMPLES_KEPT
from icsnn_deploy.conversion.announcement import (
    Estimate,
    advice,
    estimate_for,
    starting_line,
)
from icsnn_deploy.conversion.calibration.agreement import AgreementScorer
from icsnn_deploy.conversion.calibration.candidates import CandidateRunner
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.samples import CalibrationSource
from icsnn_deploy.conversion.conversion import Conversion
from icsnn_deploy.conversion.frontend.approximate.loss import APPROXIMATED, approximation_losses
from icsnn_deploy.conversion.frontend.approximate.options import Approximation
from icsnn_deploy.conversion.frontend.max_pool_cost import losses, max_pool_costs
from icsnn_deploy.conversion.frontend.replace_max_pool import Replacement
from icsnn_deploy.conversion.frontend.trace import DeclaredActivation
from icsnn_deploy.conversion.preparation import Given, Prepared, prepare
from icsnn_deploy.conversion.report import ConversionReport, describe_populations
from icsnn_deploy.data import Normalization
from icsnn_deploy.distributed import SINGLE, Ranks
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.encoder import InputEncoder
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Encoding
from icsnn_deploy.graph.tasks import Task
from icsnn_deploy.progress import announce, announces
from icsnn_deploy.progress_display import ProgressOption, shown


def convert(
    model: nn.Module | ExportedProgram,
    calibration_data: CalibrationSource | Mapping[str, Array],
    recipe: Recipe = Recipe(),
    *,
    normalization: Normalization | None = None,
    activations: Sequence[DeclaredActivation] = (),
    replace_max_pool: Replacement | None = None,
    approximate: Approximation | None = None,
    task: Task | Mapping[str, Task] | None = None,
    input_key: str | None = None,
    label_key: str | None = None,
    samples: int | None = None,
    channels_last: bool | None = None,
    encoding: Encoding = "direct",
    rate_seed: int | None = None,
    checkpoints: Path | str | None = None,
    device: str = "cpu",
    progress: ProgressOption = True,
    ranks: Ranks = SINGLE,
) -> Conversion:
    """Convert a trained ReLU network to an integrate-and-fire network.

    Args:
        model: in eval mode, traceable by torch.fx or torch.export; an exported program; or an ONNX
            model of `read_onnx`.
        calibration_data: samples as the model takes them, [N, *shape] floats (an array, (X, y), a
            Dataset, a DataLoader, an iterable of batches); with a normalization, uint8 pixels
            [N, C, H, W], or floats in 0..1, which are rounded to pixels (pixels.as_pixels).
            Of a model of several inputs, an array for each, by the names of forward's arguments.
            The recipe "hybrid" needs (X, y), or a data set or loader of pairs: y are class indices.
        recipe: thresholds, initial potentials, time steps.
        normalization: of pixels in the model's training; it becomes part of the network.
        activations: clip or QCFS activation classes of the model.
        replace_max_pool: None converts max pooling exactly, to populations; "average" replaces it
            by average pooling, which makes another network.
        approximate: fits smooth activations and products of tensors on the calibration data, which
            makes another network; the report has the errors.
        task: what the output is, which decides how candidates are compared with the ANN and which
            figures are measured: "classification", "binary", "regression", "segmentation" or
            "detection"; of several outputs, by name. What is not given is detected
            (calibration.tasks.find_tasks), and the report says so.
        input_key: of dict batches, the entry that holds the samples.
        label_key: of dict batches, the entry that holds the labels.
        samples: use at most this many calibration samples, of a Dataset and a DataLoader of one
            evenly spread over all, otherwise the first; None: all. Thresholds are chosen, and
            candidates compared, on at most preparation.SAMPLES_USED in any case; training uses all.
        channels_last: the order of the axes of samples: True [N, *positions, C], False
            [N, C, *positions]; None: as pixels.is_channels_last finds.
        encoding: of the network's input. "direct": the samples are a current. "rate": the samples,
            in [0, 1] or uint8 pixels, are the rate of spikes over the T steps. "events": the
            calibration data is spikes, 0 or 1, [T, N, *shape], and the ANN takes their mean over T.
        rate_seed: rate encoding: seed of Bernoulli spikes; None: deterministic, evenly spaced.
        checkpoints: folder that long stages keep their state in; the same conversion, started again
            after it was interrupted, goes on from there. None keeps none.
        device: torch device that calibration runs on.
        progress: True shows on standard error what is done, about how long it takes and how far it
            is, if it takes more than three seconds: bars on a terminal or in a notebook, else one
            line a minute. None or False shows nothing. A function is called as each stage advances
            (progress.Progress).
        ranks: the processes that share the calibration; each returns the same network.

    Raises:
        UnsupportedOperatorError: lists everything in the model that has no IF equivalent.
        ConversionError: the model cannot be traced, or a rule cannot be applied.
        DataError: calibration data that does not fit the model, or without labels that the recipe
            needs.
        RankError: a process was lost, or processes were given different inputs.
    """
    _check_kinds(model, recipe)
    Approximation.check(approximate)
    encoder = InputEncoder(encoding=encoding, time_steps=recipe.steps, seed=rate_seed)
    with shown(progress, "converting", first=ranks.rank == 0) as reporting:
        given = Given(
            model=model,
            calibration_data=calibration_data,
            recipe=recipe,
            normalization=normalization,
            activations=activations,
            replace_max_pool=replace_max_pool,
            approximate=approximate,
            task=task,
            input_key=input_key,
            label_key=label_key,
            samples=samples,
            channels_last=channels_last,
            encoder=encoder,
            device=device,
            progress=reporting,
            ranks=ranks,
        )
        result = _converted(given, None if checkpoints is None else Path(checkpoints))
        if result.advice and not callable(progress):
            announce(reporting, result.advice)
    return result


def _converted(given: Given, checkpoints: Path | None) -> Conversion:
    """The work of `convert`."""
    started = time.monotonic()
    prepared = prepare(given)
    estimate = _announced(given, prepared)
    recipe, ann, held_out = given.recipe, prepared.ann, prepared.held_out
    runner = CandidateRunner(
        ann,
        prepared.used,
        AgreementScorer(ann, held_out, recipe.readout_steps, recipe.strategy.objective(held_out)),
        readout_steps=recipe.readout_steps,
        readout_start=recipe.readout_start,
        training=prepared.training,
        checkpoints=checkpoints,
    )
    recipe.strategy.run(runner)
    chosen = runner.best()
    report = ConversionReport(
        recipe=recipe.name,
        time_steps=recipe.steps,
        readout_steps=recipe.readout_steps,
        calibration_samples=len(prepared.samples),
        held_out_samples=len(held_out),
        chosen=chosen.result,
        candidates=runner.results(),
        populations=describe_populations(chosen.network),
        max_pools=max_pool_costs(ann),
        losses=(*losses(ann), *approximation_losses(ann)),
        outputs=prepared.outputs,
        approximation=ann.provenance.get(APPROXIMATED, {}),
        curves=runner.curves,
        divergence_without=runner.divergence_without,
        seconds=time.monotonic() - started,
    )
    provenance = {
        **ann.provenance,
        "recipe": recipe.name,
        "method": chosen.result.method,
        "ann_hash": ann.hash(),
    }
    network = replace(
        chosen.network,
        calibrated_steps=recipe.readout_steps,
        max_pools=ann.max_pools,
        provenance=provenance,
    )
    return Conversion(
        network=network,
        ann=ann,
        report=report,
        normalization=given.normalization,
        rate_seed=given.encoder.seed,
        samples=np.array(prepared.samples.inputs(slice(SAMPLES_KEPT))),  # not a view of all
        advice=advice(recipe, report, estimate),
    )


def _announced(given: Given, prepared: Prepared) -> Estimate | None:
    """Say what will be done and about how long it takes; None where nothing is shown."""
    progress = given.progress
    if not announces(progress):
        return None
    progress("timing this machine", 0, 1)
    held_out = len(prepared.held_out)
    estimate = estimate_for(given.recipe, prepared.ann, prepared.used, held_out, given.ranks.size)
    progress("timing this machine", 1, 1)
    line = starting_line(given.recipe, estimate)
    if line is not None:
        announce(progress, line)
    return estimate


def _check_kinds(model: object, recipe: object) -> None:
    """Raise ConversionError unless the model is a module or a program, and the recipe a Recipe."""
    if not isinstance(model, (nn.Module, ExportedProgram)):
        raise ConversionError(
            f"a model of type {type(model).__name__}: an nn.Module with its weights loaded, or a "
            "program of torch.export, is needed"
        )
    if not isinstance(recipe, Recipe):
        raise ConversionError(
            f"a recipe of type {type(recipe).__name__}: Recipe(name=..., time_steps=...) is needed"
        )
