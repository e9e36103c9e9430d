"""Write the test vectors of an integer network as a folder of $readmemh files."""

from __future__ import annotations

import os
from pathlib import Path

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.expected import ReferenceRun
from icsnn_deploy.exporters.testvectors.hex_words import hex_lines
from icsnn_deploy.exporters.testvectors.index import index_text
from icsnn_deploy.exporters.testvectors.memories import VectorPlan, plan_vectors, recorded
from icsnn_deploy.exporters.testvectors.options import VectorOptions
from icsnn_deploy.exporters.testvectors.readme import readme_text
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs
from icsnn_deploy.graph.neuron import Array

MAX_BYTES = 2**31
"""Size of a folder that is not written: fewer samples find the same faults."""


def plan(graph: Graph, options: VectorOptions, samples: Array | None) -> VectorPlan:
    """The files that `write` writes, with the size of each.

    Raises:
        ExportError: no integer network, no samples, or files of more than MAX_BYTES.
    """
    axis = graph.input.batch_axis
    if samples is None or not samples.shape[axis]:
        raise ExportError(
            "test vectors need samples, and there are none; make the bundle with --calibration"
        )
    count = min(options.samples, samples.shape[axis])
    found = plan_vectors(graph, count, spikes_only=options.spikes_only)
    if found.bytes > MAX_BYTES:
        raise ExportError(
            f"test vectors of {count} samples: {found.bytes:,} bytes, at most {MAX_BYTES:,} are "
            "written; take fewer samples, or the spikes only"
        )
    return found


def write(
    graph: Graph,
    path: str | os.PathLike[str],
    options: VectorOptions,
    *,
    samples: Array | None,
    run: ReferenceRun,
) -> None:
    """Write test vectors; the same network and samples give the same bytes.

    Args:
        graph: an integer network.
        path: the folder to create.
        options: what of the samples is written.
        samples: integers [N, *shape], or spikes [T, N, *shape] for rate and event input.
        run: the reference.

    Raises:
        ExportError: see `plan`; or a file can't be written.
        DataError: samples that do not fit the network.
    """
    vectors, folder = plan(graph, options, samples), Path(path)
    assert samples is not None
    axis = graph.input.batch_axis
    inputs = check_inputs(graph, samples.take(range(vectors.samples), axis=axis))
    found = run(graph, inputs)
    try:
        folder.mkdir()
        for memory in vectors.memories:
            values = memory.values
            if values is None:
                values = recorded(memory, found, graph, inputs)
            (folder / memory.file).write_bytes(hex_lines(values, memory.bits))
        (folder / "README.md").write_text(readme_text(vectors), encoding="utf-8", newline="\n")
        (folder / "network.json").write_text(index_text(vectors), encoding="utf-8", newline="\n")
    except OSError as error:
        raise ExportError(f"{folder}: can't be written ({error})") from error
