"""Accuracy of every recipe over the number of time steps, as tables and figures.

    python benchmarks/accuracy.py --model examples/cifar_models.py:resnet20 --weights resnet20.pt \
        --calibration calib.npz:images --images test.npz:images --labels test.npz:labels \
        --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --out build/accuracy/resnet20 \
        [--recipes fast,opi,auto,auto:quick:no-weights,auto:4-32] \
        [--time-steps 1,2,4,8,16,32,64,128,256] [--calibration-samples 1024] [--limit 1000] \
        [--calibration-labels calib.npz:labels] [--activation QCFS:bound:levels] \
        [--document docs/measurements/accuracy.md:resnet20]

Measures by sweeps (icsnn sweep) of float networks, whose folder is OUT: what is measured there is
not measured again. Stop it and start it as you like, with more recipes, more time steps, or two
processes at once. The table shows these rows and those that OUT/accuracy.csv has already of this
network and data; where a cell was measured on different numbers of images, the one on most.
`--recipes ""` measures nothing and only writes. A network that does not depend on T is converted
and run once, and read after each number of steps. What is kept knows the version that measured it,
not its code: after changing a recipe, give --again, which deletes what OUT holds.

Writes OUT/accuracy.md, accuracy.csv, accuracy.png, first_spikes.png and outputs.png (IC-SNN,
figures 6 and 7, on the first 50 images; figures need `pip install icsnn-deploy[plots]`, or
--no-figures). --document puts the tables in a Markdown file, between its comments
`<!-- begin NAME -->` and `<!-- end NAME -->`.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accuracy_layers import layers_of
from accuracy_recipes import ALL
from accuracy_rows import Cell, Cells, Place, Table, as_csv, usual_weight, with_kept
from accuracy_tables import Circumstances, markdown, put_into

from icsnn_deploy import __version__
from icsnn_deploy.bundle.manifest import sha256_of
from icsnn_deploy.conversion.frontend.declared import DeclaredActivation
from icsnn_deploy.conversion.frontend.load_model import load_model
from icsnn_deploy.data import Normalization, load_images, load_labels
from icsnn_deploy.errors import BackendUnavailableError, DataError, IcsnnError
from icsnn_deploy.progress import Progress
from icsnn_deploy.progress_display import open_display
from icsnn_deploy.sweeping.folder import write_file
from icsnn_deploy.sweeping.inputs import SweptModel

FILES = ("calibration", "images", "labels")


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
    if options.again:
        for name in ("cells", "conversions", "runs", "layers"):
            shutil.rmtree(options.out / name, ignore_errors=True)
    with open_display("accuracy") as progress:
        table = opened(options, progress)
        cells: dict[Place, Cell] = {}
        if options.recipes:
            cells = table.measured(options.recipes, options.time_steps)
        cells = with_kept(cells, options.out / "accuracy.csv")
        if not cells:
            raise DataError(f"{options.out}: no cell of this network and data")
        write_tables(cells, table.hashes, options)
        if not options.no_figures:
            draw(cells, table, options)


def opened(options: argparse.Namespace, progress: Progress) -> Table:
    """The network and the data of the command line."""
    normalization = None
    if options.mean is not None:
        normalization = Normalization(mean=options.mean, std=options.std)
    calibration = load_images(options.calibration, normalization)[: options.calibration_samples]
    labels = None
    if options.calibration_labels is not None:
        labels = load_labels(options.calibration_labels, len(calibration))[: len(calibration)]
    images = load_images(options.images, normalization)[: options.limit]
    return Table(
        model=SweptModel(
            model=load_model(options.model, options.weights),
            calibration=calibration,
            calibration_labels=labels,
            normalization=normalization,
            activations=declared(options.activation),
            device=options.device,
        ),
        images=images,
        labels=load_labels(options.labels, len(images))[: len(images)],
        hashes={name: sha256_of(file_of(getattr(options, name))) for name in FILES},
        out=options.out,
        progress=progress,
    )


def write_tables(cells: Cells, hashes: Mapping[str, str], options: argparse.Namespace) -> None:
    """Every cell of this network and data, as Markdown and CSV, and in the document."""
    about = Circumstances(
        command=command(options, cells),
        files={file_of(getattr(options, name)).name: hashes[name] for name in FILES},
        machine=f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used",
        software=f"icsnn-deploy {__version__}, torch {torch.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}",
        network=options.published,
    )
    tables = markdown(cells, about)
    write_file(options.out / "accuracy.md", tables.encode())
    write_file(options.out / "accuracy.csv", as_csv(cells).encode())
    if options.document:
        file, _, name = options.document.rpartition(":")
        try:
            write_file(Path(file), put_into(Path(file).read_text(), name, tables).encode())
        except (OSError, ValueError) as error:
            raise DataError(f"{file}: {error}") from error


def draw(cells: Cells, table: Table, options: argparse.Namespace) -> None:
    """The three figures."""
    try:
        import accuracy_figures as figures
    except ImportError as error:
        raise BackendUnavailableError(
            f"figures can't be drawn ({error}); pip install icsnn-deploy[plots], or --no-figures"
        ) from error
    accuracies: dict[str, dict[int, float]] = {}
    places = [*ALL, *sorted({name for name, _ in cells} - {*ALL})]
    for (name, t), cell in sorted(cells.items(), key=lambda c: (places.index(c[0][0]), c[0][1])):
        accuracies.setdefault(name, {})[t] = cell.accuracy
    most = max(cells.values(), key=lambda cell: cell.images)
    title = f"{options.model.rpartition(':')[2]}, {file_of(options.images).stem}"
    fewer = sorted({t for (_, t), cell in cells.items() if cell.images < most.images})
    counted = f"{most.images:,} images" + (
        f", fewer at T = {', '.join(map(str, fewer))}" if fewer else ""
    )
    figures.accuracy_figure(
        options.out / "accuracy.png", accuracies, most.ann_accuracy, f"{title}, {counted}"
    )
    folder = options.out / "layers"
    layers = {
        name: {
            t: layers_of(table.model, table.images, name, t, folder, table.progress)
            for t in options.figure_time_steps
        }
        for name in options.figure_recipes
    }
    figures.first_spikes_figure(
        options.out / "first_spikes.png", layers, max(options.figure_time_steps), title
    )
    figures.outputs_figure(options.out / "outputs.png", layers, title)


def file_of(spec: str) -> Path:
    """The file of FILE.npz:array or FILE.npy."""
    return Path(spec if spec.endswith(".npy") else spec.rpartition(":")[0])


def command(options: argparse.Namespace, cells: Cells) -> str:
    """What measures most cells of the tables, files by their names."""
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
    images, samples = usual_weight(cells)
    parts += [f"--calibration-samples {samples} --limit {images} --published {options.published}"]
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
