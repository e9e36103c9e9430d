"""icsnn convert: make an integrate-and-fire network of a trained model."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Literal

import typer

from icsnn_deploy.bundle.create import SAMPLES_KEPT, check_free
from icsnn_deploy.cli.arguments import (
    BatchSize,
    CalibrationArray,
    CalibrationLimit,
    ChannelsLast,
    Crop,
    InputKey,
    JsonFlag,
    LabelKey,
    OutputBundle,
    Overwrite,
    Replacement,
    Resize,
    Tasks,
)
from icsnn_deploy.cli.convert_options import (
    naming_event_shape,
    parse_activations,
    parse_approximation,
    parse_binning,
    parse_normalization,
    parse_time_steps,
    takes_labels,
)
from icsnn_deploy.cli.input_arrays import load_calibration, take_first
from icsnn_deploy.cli.labeled_samples import load_labeled
from icsnn_deploy.cli.printing import print_json, print_table, progress_bars, report_errors, say
from icsnn_deploy.cli.tasks import declared_tasks
from icsnn_deploy.conversion.frontend.checkpoint_scan import scan_checkpoint
from icsnn_deploy.distributed import open_ranks, own_device
from icsnn_deploy.events.binning import EventBins
from icsnn_deploy.graph.arrangement import pack_inputs
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Encoding
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection

# Spelled out here because the modules of conversion that define them import PyTorch.
Effort = Literal["quick", "short", "standard", "best", "finetune"]


def convert(
    model: Annotated[
        str,
        typer.Argument(
            help="The trained model: package.module:callable, path/to/file.py:callable, or a .pt2 "
            "or .onnx file."
        ),
    ],
    calibration: CalibrationArray,
    out: OutputBundle,
    calibration_labels: Annotated[
        str | None,
        typer.Option(
            help="Recipe hybrid: class indices of the calibration samples in files of arrays, "
            "FILE.npz:array or FILE.npy. Default: the labels that the samples come with."
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="State dict to load; no code in the file is run.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(
            help="Mean per channel, comma-separated: the network takes pixels of 8 bits. Samples "
            "are uint8, or floats in 0..1, which are rounded to pixels."
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Standard deviation per channel, comma-separated.")
    ] = None,
    time_steps: Annotated[
        str,
        typer.Option(
            help="T; or a range, such as 4,32: one network that can stop at any step in it."
        ),
    ] = "8",
    recipe: Annotated[
        str, typer.Option(help="Name of a recipe; see docs/guide/recipes.md.")
    ] = "auto",
    effort: Annotated[
        Effort | None,
        typer.Option(
            help="Recipes auto and hybrid: how long to calibrate. Default: short with auto, "
            "standard with hybrid."
        ),
    ] = None,
    keep_weights: Annotated[
        bool,
        typer.Option(
            "--keep-weights", help="Recipes auto and hybrid: change potentials and biases only."
        ),
    ] = False,
    no_augment: Annotated[
        bool,
        typer.Option(
            "--no-augment",
            help="Recipes auto and hybrid: train on images as they are, not shifted or mirrored.",
        ),
    ] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Recipes auto and hybrid: folder that keeps the state and the curve of "
            "training; the same command goes on from there after an interruption."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Recipes auto and hybrid: seed of the search.")] = 0,
    label_share: Annotated[
        float,
        typer.Option(
            help="Recipe hybrid: share of the labels in the loss of training, above 0 to 1; the "
            "rest is the divergence from the ANN."
        ),
    ] = 0.5,
    activation: Annotated[
        list[str] | None,
        typer.Option(
            help="The model's own clip or QCFS class: CLASS:BOUND or CLASS:BOUND:LEVELS. May be "
            "repeated."
        ),
    ] = None,
    replace_maxpool: Annotated[
        Replacement | None,
        typer.Option(help="Replace max pooling by average pooling, which changes the results."),
    ] = None,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate",
            help="Fit smooth activations and products of tensors by rectifiers, which changes the "
            "results; the errors are reported.",
        ),
    ] = False,
    knots: Annotated[
        int | None,
        typer.Option(help="With --approximate: places where the slope of a fit changes [6]."),
    ] = None,
    task: Tasks = None,
    encoding: Annotated[
        Encoding,
        typer.Option(
            help="Encoding of the network's input. direct: samples are a current. rate: samples in "
            "[0, 1] become spikes. events: the calibration samples are spikes, [T, N, *shape]."
        ),
    ] = "direct",
    rate_seed: Annotated[
        int | None,
        typer.Option(
            help="Rate encoding: seed of Bernoulli spikes. Default: deterministic spikes, evenly "
            "spaced."
        ),
    ] = None,
    event_shape: Annotated[
        str | None,
        typer.Option(
            help="Event recordings: shape C,H,W of the model's input; C is 2 for a channel per "
            "polarity, or 1."
        ),
    ] = None,
    event_bins: Annotated[
        EventBins,
        typer.Option(help="Event recordings: steps of equal duration, or of equal event count."),
    ] = "duration",
    limit: CalibrationLimit = None,
    resize: Resize = None,
    crop: Crop = None,
    input_key: InputKey = None,
    label_key: LabelKey = None,
    channels_last: ChannelsLast = None,
    batch_size: BatchSize = 64,
    trace_limit: Annotated[
        float,
        typer.Option(help="Seconds that tracing the model may take; its forward may not end."),
    ] = 3600.0,
    device: Annotated[str, typer.Option(help="Torch device to calibrate on.")] = "cpu",
    overwrite: Overwrite = False,
    as_json: JsonFlag = False,
) -> None:
    """Convert a trained ReLU network and write a bundle; torchrun's processes share the work."""
    with report_errors(as_json):
        check_free(out, overwrite=overwrite)
        normalization = parse_normalization(mean, std)
        if weights is not None:
            scan_checkpoint(weights)  # before PyTorch is loaded
        given = SourceOptions.parse(
            resize=resize,
            crop=crop,
            input_key=input_key,
            label_key=label_key,
            channels_last=channels_last,
        )
        labeled = takes_labels(recipe, calibration_labels, encoding)
        steps = parse_time_steps(time_steps)
        binning = None if event_shape is None else parse_binning(event_shape, event_bins, steps)
        with progress_bars() as progress:
            reading = Reading(
                options=given, selection=Selection(limit, mixed=True), progress=progress
            )
            samples: Array | dict[str, Array]
            labels = None
            if labeled:
                samples, labels = load_labeled(
                    calibration, calibration_labels, normalization, reading
                )
            else:
                samples = load_calibration(calibration, normalization, reading, encoding, binning)
        with progress_bars():
            from icsnn_deploy.conversion.calibration.augmentation import Augmentation
            from icsnn_deploy.conversion.calibration.recipe import OLD_NAMES, Recipe
            from icsnn_deploy.conversion.convert import convert as run_conversion
            from icsnn_deploy.conversion.frontend.guard import tracing_at_most
            from icsnn_deploy.conversion.frontend.load_model import load_model
            from icsnn_deploy.report.approximation import approximation_lines
            from icsnn_deploy.report.layer_errors import layer_error_lines
            from icsnn_deploy.report.outputs import task_lines
            from icsnn_deploy.report.tables import candidates_table, max_pool_lines

        if recipe in OLD_NAMES:
            typer.echo(f"note: recipe {recipe} is called {OLD_NAMES[recipe]} now", err=True)
        chosen = Recipe(
            name=recipe,
            time_steps=steps,
            batch_size=batch_size,
            effort=effort,
            weights=not keep_weights,
            augmentation=Augmentation() if no_augment else None,
            seed=seed,
            label_share=label_share,
        )
        asked = parse_approximation(approximate, knots)
        tasks = declared_tasks(task or [])
        device = own_device(device)
        notes: list[str] = []
        # what the user's own code prints is not part of the result
        with (
            naming_event_shape(event_shape),
            redirect_stdout(sys.stderr),
            tracing_at_most(trace_limit),
            progress_bars() as progress,
            open_ranks(device) as ranks,
        ):
            result = run_conversion(
                load_model(model, weights, notes.append),
                samples if labels is None else (samples, labels),
                chosen,
                normalization=normalization,
                activations=parse_activations(activation or []),
                replace_max_pool=replace_maxpool,
                approximate=asked,
                task=tasks,
                encoding=encoding,
                rate_seed=rate_seed,
                checkpoints=checkpoint,
                device=device,
                progress=progress,
                ranks=ranks,
            )
        if ranks.rank:
            return
        if isinstance(samples, dict):
            samples = pack_inputs(result.ann, samples)
        kept = take_first(samples, SAMPLES_KEPT, int(encoding == "events"))
        bins = None if binning is None else event_bins
        with progress_bars() as progress:
            progress("writing the bundle", 0, 1)
            bundle = result.save(
                out, kept, event_bins=bins, image_size=given.image_size, overwrite=overwrite
            )
        if as_json:
            written = {"graph_hash": bundle.graph_hash, "report": result.report.to_json()}
            print_json({"bundle": str(out), **written, **({"notes": notes} if notes else {})})
        else:
            print_table(candidates_table(result.report))
            lines = max_pool_lines(result.report.max_pools, result.report.losses)
            lines += approximation_lines(result.report.approximation)
            lines += layer_error_lines(result.report.divergence_without)
            for line in (*lines, *task_lines(result.report.outputs)):
                say(line)
            if result.advice is not None:
                say(result.advice)
            for note in notes:
                say(f"note: {note}")
            say(f"wrote {out}; next: icsnn export {out} --format nir --format onnx")
