"""Export formats: one folder per format, one table, and the functions that write files.

    formats.py   FORMATS, the table: name -> file, writer, options, checks, losses
    options.py   ExportOptions, the base of every format's options
    nir/         NIR graphs: nir, nir-portable, nir-relay; written and read
    onnx/        ONNX models: onnx, onnx-step; written and read
    netx/        .net files of lava-dl: netx; written (lava/worker reads them)
    c/           C99 programs: c; written (a C compiler reads them)
    systemverilog/ modules and a test bench: systemverilog; written
    testvectors/ $readmemh files for RTL test benches: testvectors; written
    golden/      golden spikes as .npy and .hex: golden; written
    expected.py  what a network computes, for formats whose files hold tests

A new format is a module, or a folder, with a writer and a reader, and an entry in FORMATS
(docs/extending.md).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from icsnn_deploy.bundle.bundle import Bundle, as_bundle
from icsnn_deploy.errors import LossyExportError, lines
from icsnn_deploy.exporters.formats import (
    FORMATS,
    GENERAL,
    ExportTask,
    Format,
    check_exports,
    find_format,
    plan_exports,
)
from icsnn_deploy.exporters.options import ExportOptions
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.progress_display import ProgressOption, shown

__all__ = [
    "FORMATS",
    "GENERAL",
    "ExportOptions",
    "ExportTask",
    "Format",
    "export",
    "export_into",
    "find_format",
]


def export(
    graph: Graph,
    path: str | Path,
    export_format: str,
    options: ExportOptions | None = None,
    *,
    lossy: bool = False,
) -> None:
    """Write a network as one file; formats c, systemverilog, testvectors and golden write a folder.

    Args:
        graph: an IF network.
        path: the file to write; of these formats a folder, which must not exist.
        export_format: a name of FORMATS.
        options: those of the format (OnnxOptions, NirOptions, ...); None: its defaults.
        lossy: also write a format whose readers do not learn everything of the network.

    Raises:
        ExportError: an unknown format, options of another format, or a network that the format
            can't hold.
        LossyExportError: the format loses something, and `lossy` is not set.
    """
    (task,) = plan_exports((export_format,), () if options is None else (options,))
    check_exports(graph, [task])
    _check_losses(graph, task, lossy=lossy)
    task.entry.write(graph, Path(path), task.options)


def export_into(
    bundle: Bundle | str | os.PathLike[str],
    *formats: str,
    options: ExportOptions | Sequence[ExportOptions] = (),
    lossy: bool = False,
    progress: ProgressOption = True,
) -> Bundle:
    """Write exports of a bundle's network into the bundle.

    Args:
        bundle: an opened bundle, or the path of one.
        formats: names of FORMATS.
        options: options of these formats, at most one object of each class (OnnxOptions,
            NirOptions); formats without one are written with their defaults.
        lossy: also write formats whose readers do not learn everything of the network; the
            manifest lists what is lost.
        progress: True shows how far it is, None or False nothing, a function is called (see
            `convert`).

    Returns:
        the bundle with the exports.

    Raises:
        ExportError: an unknown format, options that none of the formats takes, or a network that
            a format can't hold.
        LossyExportError: a format loses something, and `lossy` is not set; nothing is written.
        BundleError: the bundle is damaged.
    """
    given = (options,) if isinstance(options, ExportOptions) else tuple(options)
    tasks = plan_exports(formats, given)
    bundle = as_bundle(bundle)
    network = bundle.network()
    check_exports(network, tasks)
    losses = [_check_losses(network, task, lossy=lossy) for task in tasks]
    with shown(progress, "exporting") as reporting:
        for number, (task, lost) in enumerate(zip(tasks, losses, strict=True)):
            reporting(f"writing {task.name}", number, len(tasks))
            samples = bundle.samples() if task.entry.reference and bundle.has_samples else None
            write = partial(task.entry.write, network, options=task.options, samples=samples)
            bundle = bundle.with_export(task.name, task.entry.file, write, losses=lost)
            reporting(f"writing {task.name}", len(tasks), len(tasks))
    return bundle


def _check_losses(graph: Graph, task: ExportTask, *, lossy: bool) -> tuple[str, ...]:
    """What the format loses of the network; raises LossyExportError where that is not allowed."""
    losses = task.entry.losses_of(graph)
    if losses and not lossy:
        headline = f"{task.name} loses meaning; pass --lossy (lossy=True) to write it all the same:"
        raise LossyExportError(lines(headline, losses))
    return losses
