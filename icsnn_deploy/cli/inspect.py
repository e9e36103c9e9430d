"""icsnn inspect: what a bundle holds and, on images, what its network does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.cli.arguments import (
    SOURCE_FORMS,
    BundlePath,
    ChannelsLast,
    CostFile,
    Crop,
    ImageLimit,
    InputKey,
    JsonFlag,
    Resize,
)
from icsnn_deploy.cli.cost import show_cost
from icsnn_deploy.cli.input_arrays import load_inputs
from icsnn_deploy.cli.printing import print_json, print_table, progress_bars, report_errors, say
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrangement import input_parts, output_parts
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import part_units
from icsnn_deploy.progress import tracked
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection

if TYPE_CHECKING:
    from icsnn_deploy.backends.torch.kernels import LayerKernel
    from icsnn_deploy.evaluation.activity import Activity


def inspect(
    bundle: BundlePath,
    images: Annotated[
        str | None,
        typer.Option(
            help=f"Also run these images, and count spikes, operations and energy: {SOURCE_FORMS}"
        ),
    ] = None,
    limit: ImageLimit = None,
    resize: Resize = None,
    crop: Crop = None,
    input_key: InputKey = None,
    channels_last: ChannelsLast = None,
    backend: Annotated[
        str | None,
        typer.Option(help="torch: also show which kernel runs each convolution on this machine."),
    ] = None,
    cost: CostFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what a bundle holds and, with --images, what its network does with them."""
    with report_errors(as_json):
        with progress_bars() as progress:
            from icsnn_deploy.evaluation.cost_record import costs_of

            opened = open_bundle(bundle)
            names = opened.manifest.files
            for name in tracked(names, "checking files", len(names), progress):
                opened.file(name)
            found = None if cost is None else costs_of([opened], [cost])[opened.graph_hash]
            graph, report = opened.network(), opened.report()
        options = SourceOptions.parse(
            resize=resize, crop=crop, input_key=input_key, channels_last=channels_last
        )
        reading = Reading(options=options, selection=Selection(limit))
        activity = None if images is None else _measure(opened, graph, images, reading)
        kernels = None if backend is None else _kernels(opened, graph, backend)
        if as_json:
            content = _to_json(bundle, opened, graph, report, activity)
            content["chip_cost"] = found.to_json() if found else None
            if kernels is not None:
                content["kernels"] = {name: kernel.to_json() for name, kernel in kernels.items()}
            print_json(content)
        else:
            _show(opened, graph, report, activity)
            if found is not None:
                show_cost(found)
            if kernels is not None:
                from icsnn_deploy.report.tables import kernels_table

                print_table(kernels_table(kernels))


def _measure(bundle: Bundle, graph: Graph, images: str, reading: Reading) -> Activity:
    """Spikes, operations and energy of the network on images, on the torch backend."""
    with progress_bars() as progress:
        from icsnn_deploy.backends.recording import Record
        from icsnn_deploy.backends.torch.simulator import TorchSimulator
        from icsnn_deploy.evaluation.activity import measure_activity
        from icsnn_deploy.graph.inputs import to_input_units

        samples = load_inputs(bundle, images, replace(reading, progress=progress))
        x = to_input_units(graph, samples)
        recording = TorchSimulator(graph).run(x, Record(spikes=False, counts=True))
        return measure_activity(graph, recording, x)


def _kernels(bundle: Bundle, graph: Graph, backend: str) -> dict[str, LayerKernel]:
    """Run the bundle's own samples, and return which kernel ran each convolution."""
    if backend != "torch":
        raise DataError(f"--backend {backend}: only torch chooses among kernels that it can name")
    with progress_bars():
        from icsnn_deploy.backends.torch.simulator import TorchSimulator
        from icsnn_deploy.graph.inputs import to_input_units

        simulator = TorchSimulator(graph)
        simulator.classify(to_input_units(graph, bundle.samples()))
        return simulator.kernels()


def _to_json(
    path: Path, bundle: Bundle, graph: Graph, report: Any, activity: Activity | None
) -> dict[str, Any]:
    from icsnn_deploy.graph.certificate import certify
    from icsnn_deploy.graph.graph import describe_node

    parts = output_parts(graph)
    units = part_units(graph) or (None,) * len(parts)
    return {
        "bundle": str(path),
        "graph_hash": bundle.graph_hash,
        "ann_hash": bundle.ann_hash,
        "time_steps": graph.time_steps,
        "readout_start": graph.readout_start,
        "inputs": [
            {
                "name": part.name,
                "shape": list(part.shape),
                "dtype": graph.input.dtype,
                "unit": graph.input.unit,
            }
            for part in input_parts(graph)
        ],
        "outputs": [
            {**part._asdict(), "shape": list(part.shape), "unit": unit}
            for part, unit in zip(parts, units, strict=True)
        ],
        "exports": dict(bundle.exports),
        "nodes": [
            {**describe_node(node), "shape": list(graph.shape(node.name))} for node in graph.nodes
        ],
        "report": report,
        "certificate": certify(graph).to_json() if graph.is_integer else None,
        "activity": activity.to_json() if activity else None,
    }


def _show(bundle: Bundle, graph: Graph, report: Any, activity: Activity | None) -> None:
    from icsnn_deploy.graph.certificate import certify
    from icsnn_deploy.report.resources import activity_table, energy_table
    from icsnn_deploy.report.tables import bundle_lines, certificate_table, graph_table

    for line in bundle_lines(bundle, graph):
        say(line)
    record = report.get("split")
    if isinstance(record, Mapping):
        say(f"from      {_split_line(record)}")
    elif bundle.ann_hash is None:
        say(f"from      {report.get('imported_from')}, reset {report.get('reset')}")
    else:
        say(f"recipe    {report.get('recipe')}: {graph.provenance.get('method')}")
    print_table(graph_table(graph))
    if graph.is_integer:
        print_table(certificate_table(certify(graph)))
    if activity is not None:
        print_table(activity_table(activity))
        print_table(energy_table(activity))


def _split_line(record: Mapping[str, Any]) -> str:
    """Which part of which network this is, as icsnn split records it."""
    populations = record.get("host_populations")
    populations = populations if isinstance(populations, list) else []
    return (
        f"{record.get('part')} part of network {str(record.get('graph_hash'))[:12]}..., host runs "
        f"{', '.join(map(str, populations))}"
    )
