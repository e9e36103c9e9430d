"""icsnn convert: make an integrate-and-fire network of a trained model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from icsnn_deploy.bundle.bundle import SAMPLES_KEPT, check_free
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
    Resize,
    Tasks,
)
from icsnn_deploy.cli.input_arrays import load_calibration, take_first
from icsnn_deploy.cli.labeled_samples import load_labeled
from icsnn_deploy.cli.printing import print_json, print_table, progress_bars, report_errors
from icsnn_deploy.cli.tasks import declared_tasks
from icsnn_deploy.conversion.frontend.checkpoint_scan import scan_checkpoint
from icsnn_deploy.data import Normalization
from icsnn_deploy.distributed import open_ranks, own_device
from icsnn_deploy.errors import ConversionError, DataError, UnsupportedOperatorError
from icsnn_deploy.events.binning import EventBinning, EventBins
from icsnn_deploy.graph.arrangement import pack_inputs
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Encoding
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection

if TYPE_CHECKING:
    from icsnn_deploy.conversion.frontend.approximate.options import Approximation
    from icsnn_deploy.conversion.frontend.declared import DeclaredActivation

# Spelled out here because the modules of conversion that define them import PyTorch.
Effort = Literal["quick", "standard", "best", "finetune"]
Replacement = Literal["average"]

_LABELED = "hybrid"

# Up to this T the recipe auto is worth its minutes (docs/measurements/accuracy.md).
_FEW_STEPS = 16


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
    ] = "default",
    effort: Annotated[
        Effort, typer.Option(help="Recipes auto and hybrid: how long to calibrate.")
    ] = "standard",
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
    device: Annotated[str, typer.Option(help="Torch device to calibrate on.")] = "cpu",
    overwrite: Overwrite = False,
    as_json: JsonFlag = False,
) -> None:
    """Convert a trained ReLU network and write a bundle; torchrun's processes share the work."""
    with report_errors(as_json):
        check_free(out, overwrite=overwrite)
        normalization = _normalization(mean, std)
        if weights is not None:
            scan_checkpoint(weights)  # before PyTorch is loaded
        given = SourceOptions.parse(
            resize=resize,
            crop=crop,
            input_key=input_key,
            label_key=label_key,
            channels_last=channels_last,
        )
        labeled = _takes_labels(recipe, calibration_labels, encoding)
        steps = _time_steps(time_steps)
        binning = None if event_shape is None else _binning(event_shape, event_bins, steps)
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
        from icsnn_deploy.conversion.calibration.augmentation import Augmentation
        from icsnn_deploy.conversion.calibration.recipe import Recipe
        from icsnn_deploy.conversion.convert import convert as run_conversion
        from icsnn_deploy.conversion.frontend.load_model import load_model
        from icsnn_deploy.report.approximation import approximation_lines
        from icsnn_deploy.report.layer_errors import layer_error_lines
        from icsnn_deploy.report.outputs import task_lines
        from icsnn_deploy.report.tables import candidates_table, max_pool_lines

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
        asked = _approximation(approximate, knots)
        tasks = declared_tasks(task or [])
        device = own_device(device)
        # what the user's own code prints is not part of the result
        with (
            _naming_event_shape(event_shape),
            redirect_stdout(sys.stderr),
            progress_bars() as progress,
            open_ranks(device) as ranks,
        ):
            result = run_conversion(
                load_model(model, weights),
                samples if labels is None else (samples, labels),
                chosen,
                normalization=normalization,
                activations=_declared(activation or []),
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
        bundle = result.save(
            out, kept, event_bins=bins, image_size=given.image_size, overwrite=overwrite
        )
        if as_json:
            written = {"graph_hash": bundle.graph_hash, "report": result.report.to_json()}
            print_json({"bundle": str(out), **written})
        else:
            print_table(candidates_table(result.report))
            lines = max_pool_lines(result.report.max_pools, result.report.losses)
            lines += approximation_lines(result.report.approximation)
            lines += layer_error_lines(result.report.divergence_without)
            for line in (*lines, *task_lines(result.report.outputs)):
                typer.echo(line)
            if chosen.name == "default" and result.network.steps <= _FEW_STEPS:
                typer.echo("--recipe auto takes minutes and loses less at so few time steps")
            typer.echo(f"wrote {out}; next: icsnn export {out} --format nir --format onnx")


def _approximation(asked: bool, knots: int | None) -> Approximation | None:
    from icsnn_deploy.conversion.frontend.approximate.options import Approximation

    if not asked:
        if knots is not None:
            raise DataError(f"--knots {knots} without --approximate: give both, or neither")
        return None
    return Approximation() if knots is None else Approximation(knots=knots)


def _takes_labels(recipe: str, labels: str | None, encoding: Encoding) -> bool:
    if recipe != _LABELED:
        if labels is not None:
            raise DataError(
                f"--calibration-labels {labels} with --recipe {recipe}: only the recipe "
                f"{_LABELED} uses labels; leave them out, or choose it"
            )
        return False
    if encoding == "events":
        raise DataError(
            f"--recipe {_LABELED} with --encoding events: call icsnn_deploy.convert with "
            "(spikes, labels), or choose the recipe auto"
        )
    return True


def _time_steps(text: str) -> int | tuple[int, int]:
    fields = text.split(",")
    if len(fields) > 2 or not all(field.strip().isdecimal() for field in fields):
        raise DataError(f"--time-steps {text}: a number, or the two ends of a range, such as 4,32")
    numbers = [int(field) for field in fields]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _binning(shape: str, bins: EventBins, steps: int | tuple[int, int]) -> EventBinning:
    sizes = shape.split(",")
    if len(sizes) != 3 or not all(size.strip().isdecimal() for size in sizes):
        raise DataError(f"--event-shape {shape}: three numbers C,H,W are needed, such as 2,34,34")
    last = steps if isinstance(steps, int) else steps[1]
    return EventBinning(time_steps=last, shape=tuple(map(int, sizes)), bins=bins)


@contextmanager
def _naming_event_shape(shape: str | None) -> Iterator[None]:
    """Where a conversion of recordings fails, say what shape they were given to the model in."""
    try:
        yield
    except ConversionError as error:
        if shape is None or isinstance(error, UnsupportedOperatorError):
            raise
        raise ConversionError(
            f"{error}. The recordings became images [{shape}], as --event-shape says: give the "
            "shape of the model's input, C,H,W"
        ) from error


def _normalization(mean: str | None, std: str | None) -> Normalization | None:
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise DataError("--mean and --std go together: give one value per channel in each")
    try:
        return Normalization(
            mean=tuple(float(n) for n in mean.split(",")),
            std=tuple(float(n) for n in std.split(",")),
        )
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"--mean {mean} --std {std}: comma-separated numbers are needed") from error


def _declared(texts: list[str]) -> list[DeclaredActivation]:
    from icsnn_deploy.conversion.frontend.declared import DeclaredActivation

    found = []
    for text in texts:
        fields = text.split(":")
        if len(fields) not in (2, 3) or not all(fields):
            raise DataError(f"--activation {text}: CLASS:BOUND or CLASS:BOUND:LEVELS is needed")
        levels = fields[2] if len(fields) == 3 else None
        found.append(DeclaredActivation(class_name=fields[0], bound=fields[1], levels=levels))
    return found
