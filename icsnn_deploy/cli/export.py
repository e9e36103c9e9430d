"""icsnn export: write a bundle's network in other file formats."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

import typer

from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.swap import DATA
from icsnn_deploy.cli.arguments import BundlePath, JsonFlag
from icsnn_deploy.cli.printing import print_json, print_table, progress_bars, report_errors, say
from icsnn_deploy.errors import DataError, ExportError, IcsnnError
from icsnn_deploy.exporters import FORMATS, ExportOptions, ExportTask, export_into
from icsnn_deploy.exporters.c.memory import Memory, memory_of
from icsnn_deploy.exporters.c.options import COptions
from icsnn_deploy.exporters.formats import plan_exports
from icsnn_deploy.exporters.nir.formats import VARIANTS, NirOptions
from icsnn_deploy.exporters.nir.metadata import NirProfile, VInitEncoding
from icsnn_deploy.exporters.nir.portable.reader_limits import READERS, needs
from icsnn_deploy.exporters.onnx.contract import OnnxOptions, Runtime, TimedLayout
from icsnn_deploy.exporters.onnx.layouts.choose import layout_of
from icsnn_deploy.exporters.testvectors.memories import plan_vectors
from icsnn_deploy.exporters.testvectors.options import VectorOptions
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.progress import Progress
from icsnn_deploy.report.memory import memory_table


def export(
    bundle: BundlePath,
    export_format: Annotated[
        list[str], typer.Option("--format", help=f"One of {', '.join(FORMATS)}. May be repeated.")
    ],
    layout: Annotated[
        Literal["auto", TimedLayout], typer.Option(help="ONNX: how T steps are written.")
    ] = "auto",
    runtime: Annotated[
        Runtime, typer.Option(help="ONNX: the runtime that layout auto chooses for.")
    ] = "onnxruntime",
    logits_t: Annotated[
        bool, typer.Option("--logits-t", help="ONNX: add the running mean of the logits.")
    ] = False,
    spike_counts: Annotated[
        bool, typer.Option("--spike-counts", help="ONNX: add the spike count of each neuron.")
    ] = False,
    raw_spikes: Annotated[
        bool, typer.Option("--raw-spikes", help="ONNX: add every spike, for debugging.")
    ] = False,
    lossy: Annotated[
        bool,
        typer.Option("--lossy", help="netx: write it although its readers lose meaning."),
    ] = False,
    profile: Annotated[
        NirProfile | None,
        typer.Option(help="NIR: spec, or portable for the NIR readers of other frameworks."),
    ] = None,
    v_init_encoding: Annotated[
        VInitEncoding,
        typer.Option(help="NIR portable: store v_init in the metadata, or send it by a relay."),
    ] = "metadata",
    for_reader: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="NIR portable: check that this framework can run the file, and print what it "
            f"needs; {', '.join(READERS)}.",
        ),
    ] = None,
    ram_limit: Annotated[
        int | None, typer.Option(help="C: refuse a program whose state takes more bytes of RAM.")
    ] = None,
    flash_limit: Annotated[
        int | None, typer.Option(help="C: refuse a program with more bytes of constants.")
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="C: what names begin with, for several networks in one firmware.")
    ] = COptions().prefix,
    vector_samples: Annotated[
        int, typer.Option(help="Test vectors and SystemVerilog: samples at most.", min=1)
    ] = VectorOptions().samples,
    spikes_only: Annotated[
        bool,
        typer.Option("--spikes-only", help="Test vectors: leave out currents and potentials."),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Export a bundle's network to other formats; the files are written into the bundle."""
    with report_errors(as_json):
        onnx = OnnxOptions(
            layout=layout,
            runtime=runtime,
            logits_t=logits_t,
            spike_counts=spike_counts,
            raw_spikes=raw_spikes,
        )
        nir = NirOptions(profile=profile, v_init_encoding=v_init_encoding, for_reader=for_reader)
        program = COptions(ram_limit=ram_limit, flash_limit=flash_limit, prefix=prefix)
        vectors = VectorOptions(samples=vector_samples, spikes_only=spikes_only)
        _check_used(export_format, onnx, nir, program, vectors, lossy=lossy)
        given: tuple[ExportOptions, ...] = (onnx, nir, program, vectors)
        options = [each for each in given if each != type(each)()]
        opened = open_bundle(bundle)
        with progress_bars():
            memory = _memory(opened) if "c" in export_format else None
        if memory is not None and not as_json:
            print_table(memory_table(memory))
        if "testvectors" in export_format and not as_json:
            with progress_bars():
                sizes = _vector_sizes(opened, vectors)
            if sizes is not None:
                say(sizes)
        tasks = plan_exports(tuple(export_format), tuple(options))
        with progress_bars() as progress:
            exported, errors = _export_each(opened, tasks, lossy=lossy, progress=progress)
        names = {task.name for task in tasks if task.name not in errors}
        network = opened.network()  # loaded already, unlike that of `exported`
        written = {
            name: {
                **_written(exported, name),
                **({"layout": layout_of(network, onnx)} if name == "onnx" else {}),
                **_needs(exported, network, name, for_reader),
                **({"memory": asdict(memory)} if name == "c" and memory is not None else {}),
            }
            for name in exported.exports
            if name in names
        }
        if as_json:
            failed = {
                name: {"error": type(error).__name__, "message": str(error)}
                for name, error in errors.items()
            }
            print_json({"bundle": str(bundle), "exports": written, "errors": failed})
        else:
            _show(written)
        for name, error in errors.items():
            print(f"error: {name}: {error}", file=sys.stderr)
        if errors:
            raise typer.Exit(2)


def _memory(bundle: Bundle) -> Memory | None:
    """What the C program takes; None where there can be none, which the export itself says."""
    try:
        return memory_of(bundle.network())
    except ExportError:
        return None


def _export_each(
    bundle: Bundle, tasks: Sequence[ExportTask], *, lossy: bool, progress: Progress
) -> tuple[Bundle, dict[str, IcsnnError]]:
    """Write each format on its own, so that one that fails does not keep the others from it.

    Raises:
        IcsnnError: of the only format.
    """
    errors: dict[str, IcsnnError] = {}
    for task in tasks:
        options = [] if task.options is None else [task.options]
        try:
            bundle = export_into(bundle, task.name, options=options, lossy=lossy, progress=progress)
        except IcsnnError as error:
            if len(tasks) == 1:
                raise
            errors[task.name] = error
    return bundle, errors


def _check_used(
    formats: list[str],
    onnx: OnnxOptions,
    nir: NirOptions,
    program: COptions,
    vectors: VectorOptions,
    *,
    lossy: bool,
) -> None:
    """Raise DataError where an option belongs to a format that is not written."""
    timed = replace(onnx, raw_spikes=False) != OnnxOptions()
    for given, names, takers in (
        (timed, "--layout, --runtime, --logits-t and --spike-counts go", ("onnx",)),
        (onnx.raw_spikes, "--raw-spikes goes", ("onnx", "onnx-step")),
        (lossy, "--lossy goes", ("netx",)),
        (vectors.spikes_only, "--spikes-only goes", ("testvectors",)),
        (vectors != VectorOptions(), "--vector-samples goes", ("testvectors", "systemverilog")),
        (program != COptions(), "--ram-limit, --flash-limit and --prefix go", ("c",)),
        (nir != NirOptions(), "--profile, --v-init-encoding and --for go", tuple(VARIANTS)),
    ):
        if given and not set(takers) & set(formats):
            raise DataError(
                f"{names} with --format {' or '.join(takers)}, not {', '.join(formats)}"
            )


def _written(bundle: Bundle, export_format: str) -> dict[str, Any]:
    """An export's file or folder, the bytes of all its files, and what it loses."""
    file, manifest = bundle.exports[export_format], bundle.manifest
    beside = [name for name in (file, file + DATA) if name in manifest.files]
    names = [*beside, *manifest.files_in(file)]
    return {
        "file": str(bundle.path / file),
        "bytes": sum(manifest.files[name].size for name in names),
        "losses": list(manifest.losses.get(export_format, ())),
    }


def _needs(
    bundle: Bundle, network: Graph, export_format: str, reader: str | None
) -> dict[str, Any]:
    """What the framework named by --for needs after loading this export."""
    if reader is None or export_format not in VARIANTS:
        return {}
    _, encoding = VARIANTS[export_format]
    path = bundle.path / bundle.exports[export_format]
    return {"for": reader, "needs": needs(reader, str(path), network, encoding)}


def _vector_sizes(bundle: Bundle, options: VectorOptions) -> str | None:
    """What test vectors take on the disk; None of a float network, which has none."""
    network, count = bundle.network(), options.samples
    if not network.is_integer:
        return None
    if bundle.has_samples:
        there = bundle.samples().shape[network.input.batch_axis]
        count = min(count, there) or count
    plan = plan_vectors(network, count, spikes_only=options.spikes_only)
    sizes = ", ".join(f"{role} {size:,}" for role, size in plan.sizes().items())
    return f"testvectors, samples {count}, files {len(plan.memories)}, bytes: {sizes}"


def _show(written: Mapping[str, Mapping[str, Any]]) -> None:
    for name, result in written.items():
        layout = f", layout {result['layout']}" if "layout" in result else ""
        say(f"{name}: {result['file']} ({result['bytes']:,} bytes{layout})")
        for loss in result["losses"]:
            say(f"  not known to its readers: {loss}")
        for line in result.get("needs", ()):
            say(f"  {line}")
