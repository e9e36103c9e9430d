"""The file formats a network can be exported to, in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import ExportError, LossyExportError
from icsnn_deploy.exporters.nir.metadata import NirProfile, VInitEncoding
from icsnn_deploy.exporters.onnx.contract import OnnxOptions
from icsnn_deploy.graph.graph import Graph


def _nir(graph: Graph, path: Path, *, options: OnnxOptions) -> None:
    from icsnn_deploy.exporters.nir import write as nir

    nir.write(graph, path)


def _nir_portable(graph: Graph, path: Path, *, options: OnnxOptions) -> None:
    from icsnn_deploy.exporters.nir import write as nir

    nir.write(graph, path, "portable")


def _nir_relay(graph: Graph, path: Path, *, options: OnnxOptions) -> None:
    from icsnn_deploy.exporters.nir import write as nir

    nir.write(graph, path, "portable", "relay")


def _onnx(graph: Graph, path: Path, *, options: OnnxOptions) -> None:
    from icsnn_deploy.exporters.onnx import write as onnx

    if options.layout == "step":
        raise ExportError("layout step is a format of its own: onnx-step")
    onnx.write(graph, path, options)


def _onnx_step(graph: Graph, path: Path, *, options: OnnxOptions) -> None:
    from icsnn_deploy.exporters.onnx import write as onnx

    # A single step has no means or counts over time to hand out.
    onnx.write(graph, path, replace(options, layout="step", logits_t=False, spike_counts=False))


def _netx(graph: Graph, path: Path, *, options: OnnxOptions) -> None:
    from icsnn_deploy.exporters.netx import write as netx

    netx.write(graph, path)


def _netx_losses(graph: Graph) -> tuple[str, ...]:
    from icsnn_deploy.exporters.netx import write as netx

    return netx.losses(graph)


class Write(Protocol):
    """Writes a network to a file of one format."""

    def __call__(self, graph: Graph, path: Path, *, options: OnnxOptions) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format: the file's name in a bundle, and what writes it."""

    file: str
    write: Write
    about: str
    losses: Callable[[Graph], tuple[str, ...]] = lambda graph: ()
    """What its readers will not know of the network: reason to ask before it is written."""
    nir: tuple[NirProfile, VInitEncoding] | None = None
    """Of a NIR file; those of profile portable are for the readers of nir_readers."""


FORMATS: dict[str, Format] = {
    "nir": Format(
        file="network.nir", write=_nir, about="NIR graph, profile spec", nir=("spec", "metadata")
    ),
    "onnx": Format(file="network.onnx", write=_onnx, about="ONNX, all T steps"),
    "onnx-step": Format(
        file="network-step.onnx", write=_onnx_step, about="ONNX, one step with explicit state"
    ),
    "netx": Format(
        file="network.net", write=_netx, about="lava-dl netx, sequential", losses=_netx_losses
    ),
    "nir-portable": Format(
        file="network-portable.nir",
        write=_nir_portable,
        about="NIR graph for other readers",
        nir=("portable", "metadata"),
    ),
    "nir-relay": Format(
        file="network-relay.nir",
        write=_nir_relay,
        about="the same; initial potentials come from an extra input channel",
        nir=("portable", "relay"),
    ),
}

GENERAL = ("nir", "onnx", "onnx-step")
"""Formats that hold every IF network."""


def find_format(name: str) -> Format:
    """The format of that name; raises ExportError that lists them."""
    if name not in FORMATS:
        raise ExportError(f"no export format {name!r}; there are {', '.join(FORMATS)}")
    return FORMATS[name]


def export(
    graph: Graph,
    path: str | Path,
    export_format: str,
    options: OnnxOptions = OnnxOptions(),
    *,
    lossy: bool = False,
    for_reader: str | None = None,
) -> None:
    """Write a network as one file.

    Args:
        graph: an IF network.
        path: the file to write.
        export_format: a name of FORMATS.
        options: what an ONNX file hands out besides the logits.
        lossy: write formats whose readers lose meaning, too.
        for_reader: a name of nir_readers.READERS that must be able to hold it.

    Raises:
        ExportError: an unknown format or reader, or a network that it can't hold.
        LossyExportError: a format that loses meaning, without `lossy`.
    """
    entry = find_format(export_format)
    _check_reader(graph, (export_format,), for_reader)
    _check_losses(graph, export_format, entry, lossy=lossy)
    entry.write(graph, Path(path), options=options)


def _check_losses(graph: Graph, name: str, entry: Format, *, lossy: bool) -> tuple[str, ...]:
    """What the format loses of the network; raises LossyExportError where that is not allowed."""
    losses = entry.losses(graph)
    if losses and not lossy:
        listed = "".join(f"\n  {loss}" for loss in losses)
        raise LossyExportError(
            f"{name} loses meaning; pass --lossy (lossy=True) to write it all the same:{listed}"
        )
    return losses


def _check_reader(graph: Graph, formats: Sequence[str], for_reader: str | None) -> None:
    """Raise where a reader is named that can't hold the network, or no file is for it."""
    if for_reader is None:
        return
    from icsnn_deploy.exporters.nir.portable.reader_limits import require_held

    meant = [name for name, entry in FORMATS.items() if entry.nir and entry.nir[0] == "portable"]
    if not set(meant) & set(formats):
        raise ExportError(
            f"for {for_reader}: readers of other projects take {' or '.join(meant)}, "
            f"not {', '.join(formats)} (profile portable on the command line)"
        )
    require_held(graph, for_reader)


def export_into(
    bundle: Bundle,
    *formats: str,
    options: OnnxOptions = OnnxOptions(),
    lossy: bool = False,
    for_reader: str | None = None,
) -> Bundle:
    """Write exports of a bundle's network into the bundle.

    Args:
        bundle: an opened bundle.
        formats: names of FORMATS.
        options: what an ONNX file hands out besides the logits.
        lossy: write formats whose readers lose meaning, too; the manifest lists what is lost.
        for_reader: a name of nir_readers.READERS that must be able to hold the NIR file.

    Returns:
        the bundle with the exports.

    Raises:
        ExportError: an unknown format or reader, or a network that it can't hold.
        LossyExportError: a format that loses meaning, without `lossy`; nothing is written.
        BundleError: the bundle is damaged.
    """
    entries = [find_format(name) for name in formats]
    network = bundle.network()
    _check_reader(network, formats, for_reader)
    losses = [
        _check_losses(network, name, entry, lossy=lossy)
        for name, entry in zip(formats, entries, strict=True)
    ]
    for name, entry, lost in zip(formats, entries, losses, strict=True):
        bundle = bundle.with_export(
            name, entry.file, partial(entry.write, network, options=options), losses=lost
        )
    return bundle
