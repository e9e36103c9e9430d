"""The table of export formats; the module of each is imported when the format is used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.options import ExportOptions, WrittenAs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array


@dataclass(frozen=True, kw_only=True)
class Format:
    """One export format.

    Callables and classes are named "module:name", the module below icsnn_deploy. `options` in a
    signature is an object of the class `options`; formats without that class leave it out.

    Args:
        file: name of the file in a bundle.
        writer: (graph, path, options) -> None: writes the file.
        about: one line of help.
        options: the format's subclass of ExportOptions; None: it has no options.
        select: (options) -> name: the format that is written in place of this one.
        check: (graph, formats, options) -> None: raises ExportError before anything is written.
            `formats` are the names of all formats to write.
        losses: (graph) -> tuple of sentences: what readers of the file do not learn of the
            network. A format that loses something is written only where the user allows it.
        is_general: whether the format holds every IF network.
        reference: (graph, inputs) -> ExpectedRun: runs the network for tests that the files hold.
            The writer of such a format takes `samples` and this, as `run`, by name.
        written_as: (path) -> WrittenAs: reads from an export how it was written, so that it can
            be written again and compared; raises ExportError. None: it is compared by behaviour.
        difference: (written, path) -> str or None: the first number or text in which a file or
            folder differs from the one that was written just now; None: only its bytes differ.
    """

    file: str
    writer: str
    about: str
    options: str | None = None
    select: str | None = None
    check: str | None = None
    losses: str | None = None
    is_general: bool = False
    reference: str | None = None
    written_as: str | None = None
    difference: str = "exporters.difference:of_files"

    def options_type(self) -> type[ExportOptions] | None:
        """The class of its options; None where it has none."""
        found: type[ExportOptions] | None = _load(self.options) if self.options else None
        return found

    def write(
        self,
        graph: Graph,
        path: Path,
        options: ExportOptions | None,
        samples: Array | None = None,
    ) -> None:
        """Write a network; raises ExportError where the format can't hold it.

        Args:
            graph: an IF network.
            path: the file or folder to write.
            options: of the format's class.
            samples: of the network, for formats whose files hold tests.
        """
        given = [] if options is None else [options]
        tests = {}
        if self.reference is not None:
            tests = {"samples": samples, "run": _load(self.reference)}
        _load(self.writer)(graph, path, *given, **tests)

    def read_written_as(self, path: Path) -> WrittenAs | None:
        """How an export was written; None where the format can't tell. Raises ExportError."""
        found: WrittenAs | None = _load(self.written_as)(path) if self.written_as else None
        return found

    def difference_of(self, written: Path, path: Path) -> str | None:
        """The first difference in content of an export from `written`; None: there is none."""
        found: str | None = _load(self.difference)(written, path)
        return found

    def losses_of(self, graph: Graph) -> tuple[str, ...]:
        """What readers of the file do not learn of the network, one sentence each."""
        found: tuple[str, ...] = _load(self.losses)(graph) if self.losses else ()
        return found


FORMATS: dict[str, Format] = {
    "nir": Format(
        file="network.nir",
        writer="exporters.nir.formats:write_spec",
        about="NIR graph, profile spec",
        options="exporters.nir.formats:NirOptions",
        select="exporters.nir.formats:select_format",
        check="exporters.nir.formats:check_reader",
        is_general=True,
        written_as="exporters.nir.written:written_as",
        difference="exporters.nir.read.hdf5_contents:difference",
    ),
    "onnx": Format(
        file="network.onnx",
        writer="exporters.onnx.formats:write_all_steps",
        about="ONNX, all T steps",
        options="exporters.onnx.contract:OnnxOptions",
        is_general=True,
        written_as="exporters.onnx.written:written_as",
        difference="exporters.onnx.written:difference",
    ),
    "onnx-step": Format(
        file="network-step.onnx",
        writer="exporters.onnx.formats:write_one_step",
        about="ONNX, one step with explicit state",
        options="exporters.onnx.contract:OnnxOptions",
        is_general=True,
        written_as="exporters.onnx.written:written_as",
        difference="exporters.onnx.written:difference",
    ),
    "c": Format(
        file="network-c",
        writer="exporters.c.write:write",
        about="C99 program of an integer network, event-driven; a folder",
        options="exporters.c.options:COptions",
        check="exporters.c.write:check_limits",
        reference="parity.golden:expected_run",
        written_as="exporters.c.written:written_as",
    ),
    "testvectors": Format(
        file="network-testvectors",
        writer="exporters.testvectors.write:write",
        about="$readmemh files of an integer network and its spikes, for RTL; a folder",
        options="exporters.testvectors.options:VectorOptions",
        check="exporters.testvectors.write:check_size",
        reference="parity.golden:expected_run",
        written_as="exporters.testvectors.written:written_as",
    ),
    "systemverilog": Format(
        file="network-systemverilog",
        writer="exporters.systemverilog.write:write",
        about="SystemVerilog of an integer network with a test bench; a folder",
        options="exporters.testvectors.options:VectorOptions",
        check="exporters.systemverilog.write:check_limits",
        reference="parity.golden:expected_run",
        written_as="exporters.systemverilog.written:written_as",
    ),
    "golden": Format(
        file="network-golden",
        writer="exporters.golden.write:write",
        about="golden spikes of an integer network as .npy and .hex; a folder",
        check="exporters.golden.write:check_integer",
        reference="parity.golden:expected_run",
        written_as="exporters.golden.written:written_as",
    ),
    "speck": Format(
        file="network-speck",
        writer="exporters.speck.write:write",
        about="configuration of SynSense Speck, as sinabs writes it, and its script; a folder",
        check="exporters.speck.write:check_fits",
        written_as="exporters.speck.written:written_as",
    ),
    "spinnaker2": Format(
        file="network-spinnaker2.nir",
        writer="exporters.spinnaker2.write:write",
        about="NIR graph for py-spinnaker2's importer; the host reads out",
        check="exporters.spinnaker2.write:check_form",
        written_as="exporters.nir.written:written_as",
        difference="exporters.nir.read.hdf5_contents:difference",
    ),
    "netx": Format(
        file="network.net",
        writer="exporters.netx.write:write",
        about="lava-dl netx, sequential",
        losses="exporters.netx.write:losses",
        written_as="exporters.netx.written:written_as",
        difference="exporters.nir.read.hdf5_contents:difference",
    ),
    "nir-portable": Format(
        file="network-portable.nir",
        writer="exporters.nir.formats:write_portable",
        about="NIR graph for other readers",
        options="exporters.nir.formats:NirOptions",
        check="exporters.nir.formats:check_reader",
        written_as="exporters.nir.written:written_as",
        difference="exporters.nir.read.hdf5_contents:difference",
    ),
    "nir-relay": Format(
        file="network-relay.nir",
        writer="exporters.nir.formats:write_relay",
        about="the same; initial potentials come from an extra input channel",
        options="exporters.nir.formats:NirOptions",
        check="exporters.nir.formats:check_reader",
        written_as="exporters.nir.written:written_as",
        difference="exporters.nir.read.hdf5_contents:difference",
    ),
}

GENERAL = tuple(name for name, entry in FORMATS.items() if entry.is_general)
"""Formats that hold every IF network."""


def find_format(name: str) -> Format:
    """The format of that name; raises ExportError that lists all formats."""
    if name not in FORMATS:
        raise ExportError(f"no export format {name!r}; there are {', '.join(FORMATS)}")
    return FORMATS[name]


@dataclass(frozen=True, kw_only=True)
class ExportTask:
    """One file to write: a format with the options that it is written with."""

    name: str
    entry: Format
    options: ExportOptions | None


def plan_exports(names: tuple[str, ...], given: tuple[ExportOptions, ...]) -> list[ExportTask]:
    """Give each format its options.

    Args:
        names: of FORMATS.
        given: options, at most one object of each class; formats of one family share it.

    Returns:
        one task per name, in order. A format with `select` may be replaced by another.

    Raises:
        ExportError: an unknown format, options that none of the formats takes, or two objects of
            one class.
    """
    tasks = [_task(name, find_format(name), given) for name in names]
    for position, options in enumerate(given):
        kind = type(options)
        if kind in {type(earlier) for earlier in given[:position]}:
            raise ExportError(f"two objects of {kind.__name__}; pass one: every format shares it")
        if all(task.options is not options for task in tasks):
            takers = [name for name, entry in FORMATS.items() if entry.options_type() is kind]
            raise ExportError(
                f"{kind.__name__} belongs to {' or '.join(takers) or 'no format'}, not to "
                f"{', '.join(names)}; leave it out, or add such a format"
            )
    return tasks


def check_exports(graph: Graph, tasks: list[ExportTask]) -> None:
    """Run the checks of the formats before anything is written.

    Raises:
        ExportError: the options ask for something that the network or the formats can't give.
    """
    names = tuple(task.name for task in tasks)
    checks = ((task.entry.check, task.options) for task in tasks)
    for check, options in dict.fromkeys(checks):  # formats of one family share theirs
        if check is not None:
            _load(check)(graph, names, options)


def _task(name: str, entry: Format, given: tuple[ExportOptions, ...]) -> ExportTask:
    kind = entry.options_type()
    if kind is None:
        return ExportTask(name=name, entry=entry, options=None)
    options = next((each for each in given if type(each) is kind), kind())
    if entry.select is not None:
        name = _load(entry.select)(options)
    return ExportTask(name=name, entry=find_format(name), options=options)


def _load(place: str) -> Any:
    """What "module:name" stands for, the module below icsnn_deploy."""
    module, name = place.split(":")
    return getattr(import_module(f"icsnn_deploy.{module}"), name)
