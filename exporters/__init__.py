"""The file formats a network can be exported to, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from icsnn_deploy.bundle import Bundle
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.onnx_format import OnnxOptions
from icsnn_deploy.graph import Graph


def _nir(graph: Graph, path: Path, *, options: OnnxOptions) -> None:
    from icsnn_deploy.exporters import nir

    nir.write(graph, path)


def _onnx(graph: Graph, path: Path, *, options: OnnxOptions) -> None:
    from icsnn_deploy.exporters import onnx

    onnx.write(graph, path, layout="unrolled", options=options)


def _onnx_step(graph: Graph, path: Path, *, options: OnnxOptions) -> None:
    from icsnn_deploy.exporters import onnx

    # A single step has no means or counts over time to hand out.
    onnx.write(graph, path, layout="step", options=OnnxOptions(raw_spikes=options.raw_spikes))


class Write(Protocol):
    def __call__(self, graph: Graph, path: Path, *, options: OnnxOptions) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format: the file's name in a bundle, and what writes it."""

    file: str
    write: Write
    about: str


FORMATS: dict[str, Format] = {
    "nir": Format(file="network.nir", write=_nir, about="NIR graph, profile spec"),
    "onnx": Format(file="network.onnx", write=_onnx, about="ONNX, all T steps unrolled"),
    "onnx-step": Format(
        file="network-step.onnx", write=_onnx_step, about="ONNX, one step with explicit state"
    ),
}


def find_format(name: str) -> Format:
    """The format of that name; raises ExportError that lists them."""
    if name not in FORMATS:
        raise ExportError(f"no export format {name!r}; there are {', '.join(FORMATS)}")
    return FORMATS[name]


def export(
    graph: Graph, path: str | Path, export_format: str, options: OnnxOptions = OnnxOptions()
) -> None:
    """Write a network as one file.

    Args:
        graph: an IF network.
        path: the file to write.
        export_format: a name of FORMATS.
        options: what an ONNX file hands out besides the logits.

    Raises:
        ExportError: an unknown format, or a network that it can't hold.
    """
    find_format(export_format).write(graph, Path(path), options=options)


def export_into(bundle: Bundle, *formats: str, options: OnnxOptions = OnnxOptions()) -> Bundle:
    """Write exports of a bundle's network into the bundle.

    Args:
        bundle: an opened bundle.
        formats: names of FORMATS.
        options: what an ONNX file hands out besides the logits.

    Returns:
        the bundle with the exports.

    Raises:
        ExportError: an unknown format, or a network that it can't hold.
        BundleError: the bundle is damaged.
    """
    entries = [find_format(name) for name in formats]
    network = bundle.network()
    for name, entry in zip(formats, entries, strict=True):
        bundle = bundle.with_export(
            name, entry.file, partial(entry.write, network, options=options)
        )
    return bundle
