"""Export to a folder of SystemVerilog; the same network and samples give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.expected import ReferenceRun, for_tests, inputs_for_tests
from icsnn_deploy.exporters.systemverilog.bench import bench_text
from icsnn_deploy.exporters.systemverilog.build_files import MAKEFILE, readme_text
from icsnn_deploy.exporters.systemverilog.limits import check_network
from icsnn_deploy.exporters.systemverilog.plan import Design, plan_design
from icsnn_deploy.exporters.systemverilog.top import top_text
from icsnn_deploy.exporters.testvectors.hex_words import hex_lines
from icsnn_deploy.exporters.testvectors.memories import plan_vectors, recorded
from icsnn_deploy.exporters.testvectors.options import VectorOptions
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array

FOLDER = "network-systemverilog"
"""Name of the folder in a bundle."""

_MODULES = Path(__file__).parent / "rtl"


def write(
    graph: Graph,
    path: Path,
    options: VectorOptions = VectorOptions(),
    *,
    samples: Array | None,
    run: ReferenceRun,
) -> None:
    """Write an integer network as a folder of SystemVerilog.

    Args:
        graph: an integer network.
        path: the folder to make.
        options: how many samples the test bench runs; of the populations it takes spikes only.
        samples: as the network takes them, or real values; None: random ones.
        run: the reference simulator.

    Raises:
        ExportError: lists everything that the format can't hold; or the folder can't be written.
        DataError: samples that do not fit the network.
    """
    design = plan_design(graph)
    tested = for_tests(graph)
    inputs = inputs_for_tests(graph, samples, options.samples)
    count = inputs.shape[graph.input.batch_axis]
    records = {
        (memory.node, memory.role): memory
        for memory in plan_vectors(graph, count, spikes_only=True).records
    }
    del records[graph.output.name, "current"]
    found = run(tested, inputs)
    files = {
        "network.sv": top_text(design).encode(),
        "network_tb.sv": bench_text(design, (count, tested.steps), records).encode(),
        "Makefile": MAKEFILE.encode(),
        "README.md": readme_text(design, (count, tested.steps)).encode(),
        **{module.name: module.read_bytes() for module in sorted(_MODULES.glob("*.sv"))},
        **dict(_parameter_files(design)),
    }
    for memory in records.values():
        bits = design.output.bits if memory.role == "sum" else memory.bits
        files[memory.file] = _words(recorded(memory, found, graph, inputs), bits)
    try:
        path.mkdir()
        for name, content in files.items():
            (path / name).write_bytes(content)
    except OSError as error:
        raise ExportError(f"{path}: can't be written ({error})") from error


def check_limits(graph: Graph, names: tuple[str, ...], options: VectorOptions) -> None:
    """Raise ExportError where the format can't hold a network; see formats.Format."""
    check_network(graph)


def _parameter_files(design: Design) -> Iterator[tuple[str, bytes]]:
    for memory in design.memories:
        yield memory.file, _words(memory.values, memory.bits)


def _words(values: Array, bits: int) -> bytes:
    """Words of exactly `bits` bits: a simulator warns of a longer one."""
    return hex_lines(values.astype(np.int64) & ((1 << bits) - 1), bits)
