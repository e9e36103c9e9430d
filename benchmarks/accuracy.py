"""Accuracy of every recipe over the number of time steps, as tables and figures.

    python benchmarks/accuracy.py --model examples/cifar_models.py:resnet20 --weights resnet20.pt \
        --calibration calib.npz:images --images test.npz:images --labels test.npz:labels \
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --out build/accuracy/resnet20 \
        [--recipes fast,opi,auto,auto:quick:no-weights,auto:4-32] \
        [--time-steps 1,2,4,8,16,32,64,128,256] [--calibration-samples 1024] [--limit 1000] \
        [--calibration-labels calib.npz:labels] [--activation QCFS:bound:levels] \
        [--document docs/measurements/accuracy.md:resnet20]

Each cell of the table is kept in OUT/cells as soon as it is measured and is not measured again:
stop it and start it as you like, with more recipes, more time steps, or two processes at once. The
table shows every cell of this network and data that OUT holds; where a cell was measured on
different numbers of images, the one on most. `--recipes ""` measures nothing and only writes. A
network that does not depend on T is converted and run once, and read after each number of steps.
Cells know the version that measured them, not its code: after changing a recipe, give --again.

Writes OUT/accuracy.md, accuracy.csv, accuracy.png, first_spikes.png and outputs.png (IC-SNN,
figures 6 and 7, on the first 50 images; figures need `pip install icsnn-deploy[plots]`, or
--no-figures). --document puts the tables in a Markdown file, between its comments
`<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path

import numpy as np
import torch
from accuracy_cells import CellFolder, write_whole
from accuracy_measure import Measurement, Sources
from accuracy_recipes import ALL, depends_on_steps, recipe_of
from accuracy_tables import Cells, Circumstances, as_csv, choose, markdown, put_into

from icsnn_deploy import __version__
from icsnn_deploy.conversion.frontend.declared import DeclaredActivation
from icsnn_deploy.conversion.frontend.load_model import load_model
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import BackendUnavailableError, DataError, IcsnnError
from icsnn_deploy.progress_display import open_display


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--model", "--calibration", "--images", "--labels"):
        parser.add_argument(name, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--calibration-labels", help="for the recipe hybrid")
    parser.add_argument("--activation", help="CLASS:BOUND[:LEVELS] of the model")
    parser.add_argument("--mean", type=_floats)
    parser.add_argument("--std", type=_floats)
    parser.add_argument("--recipes", type=_names, default=list(ALL))
    parser.add_argument("--time-steps", type=_integers, default=[8, 4, 16, 32, 2, 1])
    parser.add_argument("--calibration-samples", type=int, default=1024)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--again", action="store_true", help="measure what is there already")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--figure-recipes", type=_names, default=["snn", "ic-snn", "opi"])
    parser.add_argument("--figure-time-steps", type=_integers, default=[8, 16, 32])
    parser.add_argument("--no-figures", action="store_true")
    parser.add_argument("--published", default="ResNet20", help="network of the published rows")
    parser.add_argument("--document", help="FILE.md:NAME")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    if (options.mean is None) != (options.std is None):
        raise SystemExit("--mean and --std go together")
    normalization = None
    if options.mean is not None:
        normalization = Normalization(mean=options.mean, std=options.std)
    with open_display("accuracy") as progress:
        measurement = Measurement(
            load_model(options.model, options.weights),
            Sources(
                calibration=options.calibration,
                images=options.images,
                labels=options.labels,
                calibration_labels=options.calibration_labels,
            ),
            normalization,
            calibration_samples=options.calibration_samples,
            limit=options.limit,
            cells=CellFolder(options.out / "cells"),
            device=options.device,
            progress=progress,
            activations=declared(options.activation),
        )
        measure(measurement, options.recipes, options.time_steps, again=options.again)
        write_tables(measurement, options)
        if not options.no_figures:
            draw(measurement, options)


def measure(
    measurement: Measurement, names: list[str], time_steps: list[int], *, again: bool
) -> None:
    """Every cell, one number of steps after the other, first those that need one run for all."""
    dependent = [name for name in names if depends_on_steps(recipe_of(name, time_steps[0]))]
    jobs = [(name, time_steps) for name in names if name not in dependent]
    jobs += [(name, [t]) for t in time_steps for name in dependent]
    for done, (name, steps) in enumerate(jobs):
        measurement.progress("cells", done, len(jobs))
        for t, result in measurement.cells_of(name, steps, again=again).items():
            print(
                f"T={t:<4} {name:<28} {result.accuracy:6.2f} % (ANN {result.ann_accuracy:.2f} %), "
                f"converted in {result.convert_s:.1f} s",
                flush=True,
            )
    measurement.progress("cells", len(jobs), len(jobs))


def write_tables(measurement: Measurement, options: argparse.Namespace) -> None:
    """Every cell of this network and data, as Markdown and CSV, and in the document."""
    cells = cells_in(measurement, options)
    about = Circumstances(
        command=command(options),
        files={
            Sources.path(getattr(options, name)).name: measurement.hashes[name]
            for name in ("calibration", "images", "labels")
        },
        machine=f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used",
        software=f"icsnn-deploy {__version__}, torch {torch.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}",
        network=options.published,
    )
    tables = markdown(cells, about)
    write_whole(options.out / "accuracy.md", tables)
    write_whole(options.out / "accuracy.csv", as_csv(cells))
    if options.document:
        file, _, name = options.document.rpartition(":")
        try:
            write_whole(Path(file), put_into(Path(file).read_text(), name, tables))
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: {error}") from error


def cells_in(measurement: Measurement, options: argparse.Namespace) -> Cells:
    """The cells of this network and these files, whatever run measured them."""
    fixed = ("ann", "calibration", "images", "labels")
    own = measurement.key(recipe_of("snn", 1), 1)
    found = [
        (key, result)
        for key, result in measurement.cells.all()
        if all(getattr(key, name) == getattr(own, name) for name in fixed)
    ]
    if not found:
        raise DataError(f"{measurement.cells.folder}: no cell of this network and data")
    return choose(found, options.recipes)


def draw(measurement: Measurement, options: argparse.Namespace) -> None:
    """The three figures."""
    try:
        import accuracy_figures as figures
    except ImportError as error:
        raise BackendUnavailableError(
            f"figures can't be drawn ({error}); pip install icsnn-deploy[plots], or --no-figures"
        ) from error
    cells = cells_in(measurement, options)
    accuracies: dict[str, dict[int, float]] = {}
    places = [*ALL, *sorted({name for name, _ in cells} - {*ALL})]
    for (name, t), (_, result) in sorted(
        cells.items(), key=lambda c: (places.index(c[0][0]), c[0][1])
    ):
        accuracies.setdefault(name, {})[t] = result.accuracy
    most = max(cells.values(), key=lambda cell: cell[0].limit)[1]
    title = f"{options.model.rpartition(':')[2]}, {Sources.path(options.images).stem}"
    fewer = sorted({t for (_, t), (key, _) in cells.items() if key.limit < most.images})
    counted = f"{most.images:,} images" + (
        f", fewer at T = {', '.join(map(str, fewer))}" if fewer else ""
    )
    figures.accuracy_figure(
        options.out / "accuracy.png", accuracies, most.ann_accuracy, f"{title}, {counted}"
    )
    folder = CellFolder(options.out / "layers")
    layers = {
        name: {t: measurement.layers_of(name, t, folder) for t in options.figure_time_steps}
        for name in options.figure_recipes
    }
    figures.first_spikes_figure(
        options.out / "first_spikes.png", layers, max(options.figure_time_steps), title
    )
    figures.outputs_figure(options.out / "outputs.png", layers, title)


def command(options: argparse.Namespace) -> str:
    """What makes the tables again, files by their names."""
    parts = [f"python benchmarks/accuracy.py --model {options.model}"]
    parts += [f"--weights {options.weights.name}"] if options.weights else []
    for name in ("calibration", "images", "labels"):
        parts.append(f"--{name} {Path(getattr(options, name)).name}")
    for name in ("calibration_labels", "activation"):
        value = getattr(options, name)
        shown = Path(value).name if value else ""
        parts += [f"--{name.replace('_', '-')} {shown}"] if value else []
    for name in ("mean", "std"):
        values = getattr(options, name)
        parts += [f"--{name} {','.join(map(str, values))}"] if values else []
    return " ".join([*parts, f"--out {options.out.name}"])


def declared(text: str | None) -> list[DeclaredActivation]:
    """The activation class that is named as CLASS:BOUND or CLASS:BOUND:LEVELS."""
    if not text:
        return []
    name, bound, *levels = text.split(":")
    return [DeclaredActivation(class_name=name, bound=bound, levels=levels[0] if levels else None)]


def processor() -> str:
    """Its name where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _names(text: str) -> list[str]:
    return text.split(",") if text else []


def _floats(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _integers(text: str) -> list[int]:
    return list(map(int, text.split(",")))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except IcsnnError as error:
        raise SystemExit(f"error: {error}") from error
