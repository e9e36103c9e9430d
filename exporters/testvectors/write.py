"""Export to a folder of $readmemh files; the same network and samples give the same bytes."""

from __future__ import annotations

from pathlib import Path

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.expected import ReferenceRun, for_tests, inputs_for_tests
from icsnn_deploy.exporters.testvectors.hex_words import hex_lines
from icsnn_deploy.exporters.testvectors.index import index_text
from icsnn_deploy.exporters.testvectors.memories import plan_vectors, recorded
from icsnn_deploy.exporters.testvectors.options import VectorOptions
from icsnn_deploy.exporters.testvectors.readme import readme_text
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array

FOLDER = "network-testvectors"
"""Name of the folder in a bundle."""

MAX_BYTES = 2**31
"""Size of a folder that is not written: fewer samples find the same faults."""


def write(
    graph: Graph,
    path: Path,
    options: VectorOptions = VectorOptions(),
    *,
    samples: Array | None,
    run: ReferenceRun,
) -> None:
    """Write the test vectors of an integer network as a folder.

    Args:
        graph: an integer network.
        path: the folder to make.
        options: see VectorOptions.
        samples: as the network takes them, or real values; None: random ones.
        run: the reference simulator.

    Raises:
        ExportError: not an integer network, files that are too large, or the folder can't be
            written.
        DataError: samples that do not fit the network.
    """
    check_size(graph, (), options)
    tested = for_tests(graph)
    inputs = inputs_for_tests(graph, samples, options.samples)
    count = inputs.shape[graph.input.batch_axis]
    plan = plan_vectors(graph, count, spikes_only=options.spikes_only)
    found = run(tested, inputs)
    try:
        path.mkdir()
        for memory in plan.memories:
            values = memory.values
            if values is None:
                values = recorded(memory, found, graph, inputs)
            (path / memory.file).write_bytes(hex_lines(values, memory.bits))
        for name, text in (("README.md", readme_text(plan)), ("network.json", index_text(plan))):
            (path / name).write_bytes(text.encode())
    except OSError as error:
        raise ExportError(f"{path}: can't be written ({error})") from error


def check_size(graph: Graph, names: tuple[str, ...], options: VectorOptions) -> None:
    """Raise ExportError where test vectors can't be made or are too large; see formats.Format."""
    plan = plan_vectors(graph, options.samples, spikes_only=options.spikes_only)
    if plan.bytes > MAX_BYTES:
        raise ExportError(
            f"test vectors of {options.samples} samples: {plan.bytes:,} bytes, {MAX_BYTES:,} are "
            "allowed; take fewer samples (--vector-samples), or --spikes-only"
        )
