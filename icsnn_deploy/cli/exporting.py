"""The command that writes files of a network: export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import typer

from icsnn_deploy.bundle.bundle import DATA, Bundle, open_bundle
from icsnn_deploy.cli.output import BundlePath, JsonFlag, print_json, reporting
from icsnn_deploy.errors import DataError
from icsnn_deploy.exporters import FORMATS, export_into
from icsnn_deploy.exporters.nir.portable.reader_limits import READERS, needs
from icsnn_deploy.exporters.onnx.contract import RUNTIMES, TIMED_LAYOUTS, OnnxOptions
from icsnn_deploy.exporters.onnx.layouts.choose import layout_of
from icsnn_deploy.graph.graph import Graph


def export(
    bundle: BundlePath,
    export_format: Annotated[
        list[str], typer.Option("--format", help=f"One of {', '.join(FORMATS)}; may be repeated.")
    ],
    layout: Annotated[
        str, typer.Option(help=f"ONNX: auto, {', '.join(TIMED_LAYOUTS)}; see docs/onnx.md.")
    ] = "auto",
    runtime: Annotated[
        str, typer.Option(help=f"ONNX: what auto chooses for; {', '.join(RUNTIMES)}.")
    ] = "onnxruntime",
    logits_t: Annotated[
        bool, typer.Option("--logits-t", help="ONNX: also the running mean of the logits.")
    ] = False,
    spike_counts: Annotated[
        bool, typer.Option("--spike-counts", help="ONNX: also the spike count of each neuron.")
    ] = False,
    raw_spikes: Annotated[
        bool, typer.Option("--raw-spikes", help="ONNX: also every spike, for debugging.")
    ] = False,
    lossy: Annotated[
        bool, typer.Option("--lossy", help="netx: write it although its readers lose meaning.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(help="NIR: spec; portable, which readers of other projects hold."),
    ] = None,
    v_init_encoding: Annotated[
        str, typer.Option(help="NIR portable: v_init in the metadata, or by a relay channel.")
    ] = "metadata",
    for_reader: Annotated[
        str | None,
        typer.Option("--for", help=f"NIR portable: say what a reader needs; {', '.join(READERS)}."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write exports of a bundle's network into the bundle."""
    with reporting(as_json):
        options = OnnxOptions(
            layout=layout,  # type: ignore[arg-type]
            runtime=runtime,  # type: ignore[arg-type]
            logits_t=logits_t,
            spike_counts=spike_counts,
            raw_spikes=raw_spikes,
        )
        _check_used(export_format, options, lossy)
        if profile or for_reader or v_init_encoding != "metadata":
            export_format = _nir_format(export_format, profile or "portable", v_init_encoding)
        opened = open_bundle(bundle)
        done = export_into(
            opened, *export_format, options=options, lossy=lossy, for_reader=for_reader
        )
        network = opened.network()  # which is there already; the bundle with the exports has none
        written = {
            name: {
                **_written(done, name),
                **({"layout": layout_of(network, options)} if name == "onnx" else {}),
                **_needs(done, network, name, for_reader),
            }
            for name in done.exports
            if name in export_format
        }
        if as_json:
            print_json({"bundle": str(bundle), "exports": written})
        else:
            _show(written)


def _check_used(formats: list[str], options: OnnxOptions, lossy: bool) -> None:
    """Raise DataError where an option says something of a format that is not written."""
    timed = replace(options, raw_spikes=False) != OnnxOptions()
    for given, names, takers in (
        (timed, "--layout, --runtime, --logits-t and --spike-counts go", ("onnx",)),
        (options.raw_spikes, "--raw-spikes goes", ("onnx", "onnx-step")),
        (lossy, "--lossy goes", ("netx",)),
    ):
        if given and not set(takers) & set(formats):
            raise DataError(
                f"{names} with --format {' or '.join(takers)}, not {', '.join(formats)}"
            )


def _nir_format(formats: list[str], profile: str, v_init_encoding: str) -> list[str]:
    """The formats, with "nir" replaced by the one of this profile and encoding."""
    found: dict[tuple[str, str], str] = {f.nir: name for name, f in FORMATS.items() if f.nir}
    if (profile, v_init_encoding) not in found:
        raise DataError(
            f"no NIR with profile {profile} and v_init_encoding {v_init_encoding}; there are "
            + ", ".join(f"{one} with {other}" for one, other in found)
        )
    if not set(formats) & set(found.values()):
        raise DataError(
            f"--profile, --v-init-encoding and --for go with --format nir, not {', '.join(formats)}"
        )
    wanted = found[profile, v_init_encoding]
    return [wanted if name == "nir" else name for name in formats]


def _written(bundle: Bundle, export_format: str) -> dict[str, Any]:
    """An export's file, its bytes with those of the data file beside it, and what it loses."""
    file = bundle.exports[export_format]
    sizes = (
        bundle.manifest.files[name].size
        for name in (file, file + DATA)
        if name in bundle.manifest.files
    )
    return {
        "file": str(bundle.path / file),
        "bytes": sum(sizes),
        "losses": list(bundle.manifest.losses.get(export_format, ())),
    }


def _needs(
    bundle: Bundle, network: Graph, export_format: str, reader: str | None
) -> dict[str, Any]:
    """What the reader that was asked for needs after loading this export."""
    kept = FORMATS[export_format].nir
    if reader is None or kept is None:
        return {}
    path = bundle.path / bundle.exports[export_format]
    return {"for": reader, "needs": needs(reader, str(path), network, kept[1])}


def _show(written: Mapping[str, Mapping[str, Any]]) -> None:
    for name, result in written.items():
        layout = f", layout {result['layout']}" if "layout" in result else ""
        typer.echo(f"{name}: {result['file']} ({result['bytes']:,} bytes{layout})")
        for loss in result["losses"]:
            typer.echo(f"  not known to its readers: {loss}")
        for line in result.get("needs", ()):
            typer.echo(f"  {line}")
