"""Commands that look: verify, inspect, demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icsnn_deploy.backends import BACKENDS, find_backend
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.cli.inputs import first, load_inputs
from icsnn_deploy.cli.output import (
    BundlePath,
    JsonFlag,
    print_json,
    print_table,
    progress_bars,
    reporting,
)
from icsnn_deploy.data import load_labels
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array

if TYPE_CHECKING:
    from icsnn_deploy.evaluation.activity import Activity


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
        network = opened.network()
        encoding = network.input.encoding
        if images:
            inputs = load_inputs(opened, images, encoding, limit)
        else:
            inputs = first(opened.samples(), limit, encoding)
        count = inputs.shape[0 if encoding == "direct" else 1] if inputs.ndim > 1 else 0
        if labels and not images:
            raise DataError("--labels needs --images: the bundle's own samples have no labels")
        truth = load_labels(labels, count) if labels else None
        from icsnn_deploy.backends.recording_file import load_recording
        from icsnn_deploy.parity.compare import Tolerance
        from icsnn_deploy.parity.verify import verify as run_verification
        from icsnn_deploy.report.tables import parity_table

        recording = load_recording(against, network, against.name) if against else None
        with progress_bars() as progress:
            report = run_verification(
                opened,
                backends,
                inputs,
                labels=truth,
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
            if report.snn_accuracy is not None:
                ann = "" if report.ann_accuracy is None else f"ANN {report.ann_accuracy:.2%}, "
                typer.echo(f"accuracy: {ann}SNN {report.snn_accuracy:.2%}")
        if report.verdict != "pass":
            raise typer.Exit(1)


def inspect(
    bundle: BundlePath,
    images: Annotated[
        str | None,
        typer.Option(help="Also run these, and count spikes, operations and energy."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many images.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what a bundle holds, and what it does with images."""
    with reporting(as_json):
        from icsnn_deploy.graph.certificate import certify
        from icsnn_deploy.graph.graph import describe_node
        from icsnn_deploy.report.resources import activity_table, energy_table
        from icsnn_deploy.report.tables import bundle_lines, certificate_table, graph_table

        opened = open_bundle(bundle)
        opened.check_files()
        graph, report = opened.network(), opened.report()
        activity = None
        if images is not None:
            samples = load_inputs(opened, images, graph.input.encoding, limit)
            activity = _activity(graph, samples)
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
                    "activity": activity.to_json() if activity else None,
                }
            )
            return
        for line in bundle_lines(opened, graph):
            typer.echo(line)
        if opened.ann_hash is None:
            typer.echo(f"from      {report.get('imported_from')}, reset {report.get('reset')}")
        else:
            typer.echo(f"recipe    {report.get('recipe')}: {graph.provenance.get('method')}")
        print_table(graph_table(graph))
        if graph.is_integer:
            print_table(certificate_table(certify(graph)))
        if activity is not None:
            print_table(activity_table(activity))
            print_table(energy_table(activity))


def demo(
    out: Annotated[Path, typer.Option(help="The bundle to write, OUT-int8 beside it.")] = Path(
        "build/demo"
    ),
    lava: Annotated[
        bool, typer.Option(help="Verify on Lava too; icsnn lava setup comes first.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace both bundles.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train, convert, quantize, export and verify a small network on scikit-learn's digits."""
    with reporting(as_json):
        from icsnn_deploy.demo.run import run_demo
        from icsnn_deploy.report.tables import accuracy_table, parity_table

        with progress_bars() as progress:
            result = run_demo(out, progress, lava=lava, overwrite=overwrite)
        if as_json:
            print_json(result.to_json())
        else:
            print_table(accuracy_table(result.ann_accuracy, result.accuracy_over_time))
            print_table(parity_table(result.parity, "float network: parity"))
            print_table(parity_table(result.integer_parity, "8-bit integer network: parity"))
            tightest = result.certificate.tightest
            typer.echo(
                f"8-bit integer network: {result.integer_accuracy:.1%}, certified exact with "
                f"{tightest.headroom_bits:.1f} bits of headroom at {tightest.layer}"
            )
            typer.echo(f"bundles: {out}, {result.integer_bundle}; see: icsnn inspect {out}")
        if not result.passed:
            raise typer.Exit(1)


def _activity(graph: Graph, samples: Array) -> Activity:
    """Spikes and operations of the network on samples."""
    from icsnn_deploy.backends.recording import Record
    from icsnn_deploy.backends.torch.simulator import TorchSimulator
    from icsnn_deploy.evaluation.activity import measure_activity
    from icsnn_deploy.graph.inputs import to_input_units

    x = to_input_units(graph, samples)
    recording = TorchSimulator(graph).run(x, Record(spikes=False, counts=True))
    return measure_activity(graph, recording, x)


def _default_backends(bundle: Bundle) -> list[str]:
    """torch, and the usual reader of each export that is there."""
    usual = {"onnx": "onnxruntime", "onnx-step": "onnxruntime-step"}
    usual |= {name: name for name in ("nir", "nir-portable", "nir-relay")}
    return ["torch", *(backend for needed, backend in usual.items() if needed in bundle.exports)]
