"""The icsnn command.

Results go to standard output, progress and errors to standard error. Exit code 0: good; 1: parity
fails; 2: bad usage or input.
"""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icsnn_deploy.bundle import Bundle, check_free, create_bundle, open_bundle
from icsnn_deploy.cli_hardware import SAMPLES_KEPT, check, quantize, targets
from icsnn_deploy.cli_output import JsonFlag, print_json, print_table, progress_bars, reporting
from icsnn_deploy.data import Normalization, load_images, load_labels
from icsnn_deploy.errors import DataError
from icsnn_deploy.exporters import FORMATS, export_into
from icsnn_deploy.exporters.onnx_format import OnnxOptions
from icsnn_deploy.neuron import Array
from icsnn_deploy.simulate import BACKENDS, find_backend
from icsnn_deploy.version import __version__

if TYPE_CHECKING:
    from icsnn_deploy.convert.declared import DeclaredActivation

app = typer.Typer(
    name="icsnn",
    help="Convert trained PyTorch networks to integrate-and-fire networks, export and verify them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

BundlePath = Annotated[Path, typer.Argument(help="A bundle, as icsnn convert makes it.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"icsnn-deploy {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def convert(
    model: Annotated[
        str,
        typer.Argument(help="package.module:callable, path/to/file.py:callable, or a .pt2 file."),
    ],
    calibration: Annotated[
        str, typer.Option(help="Calibration samples: FILE.npz:array or FILE.npy.")
    ],
    out: Annotated[Path, typer.Option(help="The bundle to write.")],
    weights: Annotated[Path | None, typer.Option(help="State dict; no code in it is run.")] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="Comma-separated mean per channel; makes the input uint8 images."),
    ] = None,
    std: Annotated[str | None, typer.Option(help="Comma-separated std per channel.")] = None,
    time_steps: Annotated[int, typer.Option(help="T.")] = 8,
    recipe: Annotated[str, typer.Option(help="A named recipe; see docs/recipes.md.")] = "default",
    activation: Annotated[
        list[str] | None,
        typer.Option(help="The model's clip or QCFS class: CLASS:BOUND or CLASS:BOUND:LEVELS."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Use at most this many calibration samples.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Samples run at once.")] = 64,
    device: Annotated[str, typer.Option(help="Torch device that calibration runs on.")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the bundle.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Convert a trained ReLU network and write a bundle."""
    with reporting(as_json):
        check_free(out, overwrite=overwrite)
        normalization = _normalization(mean, std)
        samples = _first(load_images(calibration, normalization), limit)
        from icsnn_deploy.convert.convert import convert as run_conversion
        from icsnn_deploy.convert.load_model import load_model
        from icsnn_deploy.convert.recipe import Recipe
        from icsnn_deploy.report.tables import candidates_table

        chosen = Recipe(name=recipe, time_steps=time_steps, batch_size=batch_size)
        # what the user's own code prints is not the result
        with redirect_stdout(sys.stderr), progress_bars() as progress:
            result = run_conversion(
                load_model(model, weights),
                samples,
                chosen,
                normalization=normalization,
                activations=_declared(activation or []),
                device=device,
                progress=progress,
            )
        bundle = create_bundle(
            out,
            network=result.graph,
            ann=result.ann,
            samples=samples[:SAMPLES_KEPT],
            report=result.report.to_json(),
            normalization=normalization,
            overwrite=overwrite,
        )
        if as_json:
            print_json(
                {
                    "bundle": str(out),
                    "graph_hash": bundle.graph_hash,
                    "report": result.report.to_json(),
                }
            )
            return
        print_table(candidates_table(result.report))
        typer.echo(f"wrote {out}; next: icsnn export {out} --format nir --format onnx")


@app.command(name="export")
def export_command(
    bundle: BundlePath,
    export_format: Annotated[
        list[str], typer.Option("--format", help=f"One of {', '.join(FORMATS)}; may be repeated.")
    ],
    logits_t: Annotated[
        bool, typer.Option("--logits-t", help="ONNX: also the running mean of the logits.")
    ] = False,
    spike_counts: Annotated[
        bool, typer.Option("--spike-counts", help="ONNX: also the spike count of each neuron.")
    ] = False,
    raw_spikes: Annotated[
        bool, typer.Option("--raw-spikes", help="ONNX: also every spike, for debugging.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write exports of a bundle's network into the bundle."""
    with reporting(as_json):
        options = OnnxOptions(logits_t=logits_t, spike_counts=spike_counts, raw_spikes=raw_spikes)
        opened = export_into(open_bundle(bundle), *export_format, options=options)
        written: dict[str, dict[str, Any]] = {
            name: {"file": str(bundle / file), "bytes": opened.files[file].size}
            for name, file in opened.exports.items()
            if name in export_format
        }
        if as_json:
            print_json({"bundle": str(bundle), "exports": written})
            return
        for name, result in written.items():
            typer.echo(f"{name}: {result['file']} ({result['bytes']:,} bytes)")


@app.command()
def verify(
    bundle: BundlePath,
    backend: Annotated[
        list[str] | None,
        typer.Option(help=f"NAME or NAME:OPTION; {', '.join(BACKENDS)}. May be repeated."),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="FILE.npz:array or FILE.npy; default: the bundle's own samples."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Class indices, FILE.npz:array or FILE.npy.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many images.")] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="An .npz recording: logits, and spikes [T, N, ...] by layer name."),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Float networks: allowed |u - v_threshold| / v_threshold.")
    ] = 1e-4,
    as_json: JsonFlag = False,
) -> None:
    """Compare backends with the reference, spike for spike."""
    with reporting(as_json):
        opened = open_bundle(bundle)
        backends = backend or ([] if against else _default_backends(opened))
        for spec in backends:  # a missing export is told before anything is loaded
            needed = find_backend(spec)[0].export
            if needed is not None:
                opened.export(needed)
        given = load_images(images, opened.normalization) if images else opened.samples()
        inputs = _first(given, limit)
        if labels and not images:
            raise DataError("--labels needs --images: the bundle's own samples have no labels")
        classes = load_labels(labels, len(inputs)) if labels else None
        from icsnn_deploy.parity import Tolerance
        from icsnn_deploy.report.tables import parity_table
        from icsnn_deploy.verify import load_recording
        from icsnn_deploy.verify import verify as run_verification

        recording = load_recording(against, opened.network(), against.name) if against else None
        with progress_bars() as progress:
            report = run_verification(
                opened,
                backends,
                inputs,
                labels=classes,
                against=recording,
                tolerance=Tolerance(margin=margin),
                progress=progress,
            )
        if as_json:
            print_json(report.to_json())
        else:
            print_table(parity_table(report))
            for comparison in report.comparisons:
                typer.echo(f"{comparison.backend}: {comparison.reason}")
                if comparison.first_divergence:
                    typer.echo(f"  first divergence: {comparison.first_divergence}")
            if report.ann_accuracy is not None:
                ann, snn = report.ann_accuracy, report.snn_accuracy
                typer.echo(f"accuracy: ANN {ann:.2%}, SNN {snn:.2%}")
        if report.verdict != "pass":
            raise typer.Exit(1)


@app.command()
def inspect(bundle: BundlePath, as_json: JsonFlag = False) -> None:
    """Show what a bundle holds."""
    with reporting(as_json):
        from icsnn_deploy.graph import describe_node
        from icsnn_deploy.lattice.certificate import certify
        from icsnn_deploy.report.tables import bundle_lines, certificate_table, graph_table

        opened = open_bundle(bundle)
        graph, report = opened.network(), opened.report()
        if as_json:
            print_json(
                {
                    "bundle": str(bundle),
                    "graph_hash": opened.graph_hash,
                    "ann_hash": opened.ann_hash,
                    "time_steps": graph.time_steps,
                    "readout_start": graph.readout_start,
                    "exports": dict(opened.exports),
                    "nodes": [
                        {**describe_node(node), "shape": list(graph.shape(node.name))}
                        for node in graph.nodes
                    ],
                    "report": report,
                    "certificate": certify(graph).to_json() if graph.is_integer else None,
                }
            )
            return
        for line in bundle_lines(opened, graph):
            typer.echo(line)
        typer.echo(f"recipe    {report.get('recipe')}: {graph.provenance.get('method')}")
        print_table(graph_table(graph))
        if graph.is_integer:
            print_table(certificate_table(certify(graph)))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The bundle to write.")] = Path("build/demo"),
    as_json: JsonFlag = False,
) -> None:
    """Train, convert, export and verify a small network on scikit-learn's digits."""
    with reporting(as_json):
        from icsnn_deploy.demo.run import run_demo
        from icsnn_deploy.report.tables import accuracy_table, parity_table

        with progress_bars() as progress:
            result = run_demo(out, progress)
        if as_json:
            print_json(result.to_json())
        else:
            print_table(accuracy_table(result.ann_accuracy, result.accuracy_over_time))
            print_table(parity_table(result.parity))
            typer.echo(f"the bundle is {out}; look at it with: icsnn inspect {out}")
        if result.parity.verdict != "pass":
            raise typer.Exit(1)


for _command in (quantize, targets, check):
    app.command()(_command)


def main() -> None:
    """Entry point of the icsnn command."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that a terminal can't show is no failure
        sys.stdout.reconfigure(errors="backslashreplace")
    app()


def _default_backends(bundle: Bundle) -> list[str]:
    """torch, and the usual reader of each export that is there."""
    usual = {"onnx": "onnxruntime", "onnx-step": "onnxruntime-step", "nir": "nir"}
    return ["torch", *(backend for needed, backend in usual.items() if needed in bundle.exports)]


def _first(samples: Array, limit: int | None) -> Array:
    if limit is not None and limit < 1:
        raise DataError(f"--limit {limit}: at least 1 is needed")
    return samples[:limit]


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
    from icsnn_deploy.convert.declared import DeclaredActivation

    found = []
    for text in texts:
        fields = text.split(":")
        if len(fields) not in (2, 3) or not all(fields):
            raise DataError(f"--activation {text}: CLASS:BOUND or CLASS:BOUND:LEVELS is needed")
        levels = fields[2] if len(fields) == 3 else None
        found.append(DeclaredActivation(class_name=fields[0], bound=fields[1], levels=levels))
    return found
