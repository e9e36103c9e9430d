"""icsnn sweep: how few time steps and bits a model can take, and whether it fits a target."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from icsnn_deploy.cli.arguments import (
    SOURCE_FORMS,
    BatchSize,
    CalibrationArray,
    CalibrationLimit,
    ChannelsLast,
    Crop,
    ImageLimit,
    InputKey,
    JsonFlag,
    LabelKey,
    LatticeEffort,
    Replacement,
    Resize,
    Tasks,
)
from icsnn_deploy.cli.convert_options import (
    parse_activations,
    parse_approximation,
    parse_normalization,
)
from icsnn_deploy.cli.evaluate import open_data_set
from icsnn_deploy.cli.input_arrays import load_calibration
from icsnn_deploy.cli.labeled_samples import load_labeled
from icsnn_deploy.cli.printing import print_json, print_table, progress_bars, report_errors, say
from icsnn_deploy.cli.sweep_options import Problems, parse_bits, parse_names, parse_numbers
from icsnn_deploy.cli.tasks import declared_tasks
from icsnn_deploy.conversion.frontend.checkpoint_scan import scan_checkpoint
from icsnn_deploy.distributed import is_first, own_device
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.nodes import Encoding
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection

# Spelled out here because the modules that define them import PyTorch.
Cost = Literal["reads", "steps", "operations", "memory", "energy"]
SweptEncoding = Literal["direct", "rate"]


def sweep(
    model: Annotated[
        str,
        typer.Argument(
            help="The trained model: package.module:callable, path/to/file.py:callable, or a .pt2 "
            "or .onnx file."
        ),
    ],
    calibration: CalibrationArray,
    images: Annotated[str, typer.Option(help=f"Images to measure: {SOURCE_FORMS}")],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the table, the page and everything that was measured; the same "
            "command continues from it, and several processes may share it."
        ),
    ],
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labels of the images, as for icsnn evaluate. Default: the labels that images "
            "come with; none: compare with the ANN alone."
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="State dict to load; no code in the file is run.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Mean per channel, comma-separated, as for icsnn convert.")
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Standard deviation per channel, comma-separated.")
    ] = None,
    time_steps: Annotated[str, typer.Option(help="Numbers of time steps.")] = "2,4,8,16",
    bits: Annotated[
        str, typer.Option(help="Bits per weight, 2 to 16; float: also without quantization.")
    ] = "4,6,8",
    recipes: Annotated[
        str,
        typer.Option(
            help="Names of recipes; of auto and hybrid with an effort and no-weights, "
            "auto:standard:no-weights."
        ),
    ] = "auto",
    targets: Annotated[
        str, typer.Option(help="Hardware targets that each network is quantized for and checked.")
    ] = "generic",
    max_loss: Annotated[
        float,
        typer.Option(help="Percentage points that the recommended point may lose against the ANN."),
    ] = 1.0,
    cheapest: Annotated[
        Cost,
        typer.Option(
            help="What the recommended point has least of; reads: bits of weights that its "
            "operations read."
        ),
    ] = "reads",
    host_first_layer: Annotated[
        bool,
        typer.Option(
            "--host-first-layer",
            help="The host computes the analog first layer and sends its spikes.",
        ),
    ] = False,
    quantize_effort: Annotated[
        LatticeEffort,
        typer.Option(help="As icsnn quantize --effort: all but quick train every network."),
    ] = "quick",
    seed: Annotated[int, typer.Option(help="Seed of recipes and of training.")] = 0,
    calibration_labels: Annotated[
        str | None,
        typer.Option(help="Recipe hybrid: class indices of calibration samples in array files."),
    ] = None,
    activation: Annotated[
        list[str] | None,
        typer.Option(help="The model's own clip or QCFS class, as for icsnn convert."),
    ] = None,
    replace_maxpool: Annotated[
        Replacement | None,
        typer.Option(help="Replace max pooling by average pooling, which changes the results."),
    ] = None,
    approximate: Annotated[
        bool,
        typer.Option("--approximate", help="Fit smooth activations, as for icsnn convert."),
    ] = False,
    knots: Annotated[
        int | None, typer.Option(help="With --approximate: knots of each fit [6].")
    ] = None,
    task: Tasks = None,
    encoding: Annotated[
        SweptEncoding, typer.Option(help="Encoding of the input, as for icsnn convert.")
    ] = "direct",
    rate_seed: Annotated[int | None, typer.Option(help="Rate encoding: seed of spikes.")] = None,
    limit: ImageLimit = None,
    calibration_limit: CalibrationLimit = None,
    resize: Resize = None,
    crop: Crop = None,
    input_key: InputKey = None,
    label_key: LabelKey = None,
    channels_last: ChannelsLast = None,
    batch_size: BatchSize = 64,
    device: Annotated[str, typer.Option(help="Torch device.")] = "cpu",
    as_json: JsonFlag = False,
) -> None:
    """Measure recipes, T, weight widths and targets; recommend the cheapest point that will do."""
    with report_errors(as_json):
        problems = Problems()
        normalization = problems.parsed(lambda: parse_normalization(mean, std), None)
        given = problems.parsed(
            lambda: SourceOptions.parse(
                resize=resize,
                crop=crop,
                input_key=input_key,
                label_key=label_key,
                channels_last=channels_last,
            ),
            SourceOptions(),
        )
        names = problems.parsed(lambda: parse_names("--recipes", recipes), ("opi",))
        grid: dict[str, Any] = {
            "time_steps": problems.parsed(lambda: parse_numbers("--time-steps", time_steps), (1,)),
            "bits": problems.parsed(lambda: parse_bits(bits), ("float",)),
            "recipes": names,
            "targets": problems.parsed(lambda: parse_names("--targets", targets), ("generic",)),
        }
        tasks = problems.parsed(lambda: declared_tasks(task or []), None)
        if weights is not None:
            problems.parsed(lambda: scan_checkpoint(weights), None)  # before PyTorch is loaded
        from icsnn_deploy.sweeping.options import SweepOptions

        options = problems.parsed(
            lambda: SweepOptions(
                **grid,
                max_loss=max_loss,
                cheapest=cheapest,
                host_first_layer=host_first_layer,
                quantize_effort=quantize_effort,
                seed=seed,
                batch_size=batch_size,
            ),
            SweepOptions(),
        )
        activations = problems.parsed(lambda: parse_activations(activation or []), ())
        asked = problems.parsed(lambda: parse_approximation(approximate, knots), None)
        labeled = any(name.split(":")[0] == "hybrid" for name in names)
        problems.parsed(lambda: _labels_are_used(calibration_labels, labeled, encoding), None)
        problems.report()
        from icsnn_deploy.conversion.frontend.load_model import load_model
        from icsnn_deploy.sweeping.inputs import SweptModel
        from icsnn_deploy.sweeping.page import check_packages, write_files
        from icsnn_deploy.sweeping.run import run_sweep
        from icsnn_deploy.sweeping.table import choice_lines, target_table

        check_packages()
        with _interruptible(out), redirect_stdout(sys.stderr), progress_bars() as progress:

            def reading(count: int | None, **more: Any) -> Reading:
                return Reading(options=given, selection=Selection(count, **more), progress=progress)

            calibrating = reading(calibration_limit, mixed=True)
            found: Any = None
            samples: Any
            if labeled:
                samples, found = load_labeled(
                    calibration, calibration_labels, normalization, calibrating
                )
            else:
                samples = load_calibration(calibration, normalization, calibrating)
            swept = SweptModel(
                model=load_model(model, weights),
                calibration=samples,
                calibration_labels=found,
                normalization=normalization,
                activations=activations,
                replace_max_pool=replace_maxpool,
                approximate=asked,
                task=tasks,
                encoding=encoding,
                rate_seed=rate_seed,
                image_size=given.image_size,
                device=own_device(device),
            )

            result = run_sweep(
                swept,
                lambda bundle: open_data_set(
                    bundle, bundle.network(), images, labels, reading(limit)
                ),
                options,
                out=out,
                limit=limit,
                progress=progress,
            )
        if not is_first():
            return
        files = write_files(result, out)
        if as_json:
            print_json({**result.to_json(), "files": [str(path) for path in files]})
        else:
            for target in options.profiles:
                print_table(target_table(result, target))
            for line in choice_lines(result):
                say(line)
            say(f"wrote {', '.join(str(path) for path in files)}")
        if any(choice.row is None for choice in result.choices):
            raise typer.Exit(1)


def _labels_are_used(labels: str | None, labeled: bool, encoding: Encoding) -> None:
    if labels is not None and not labeled:
        raise DataError(
            f"--calibration-labels {labels}: only the recipe hybrid uses labels; leave them out, "
            "or add it to --recipes"
        )
    if labeled and encoding == "rate":
        raise DataError("--recipes hybrid with --encoding rate: choose auto, or --encoding direct")


@contextmanager
def _interruptible(out: Path) -> Iterator[None]:
    """On Ctrl-C, say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        if is_first():
            print(f"interrupted: the same command continues from what {out} holds", file=sys.stderr)
        raise
