"""Golden spikes as files that need no library: .npy for NumPy, .hex for anything else."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.expected import (
    ExpectedRun,
    ReferenceRun,
    for_tests,
    inputs_for_tests,
)
from icsnn_deploy.exporters.testvectors.hex_words import hex_lines
from icsnn_deploy.exporters.testvectors.memories import file_stems
from icsnn_deploy.graph.arrangement import output_parts
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import part_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.version import __version__

SAMPLES = 8
"""Samples at most."""

_PAGE = """# Golden spikes

Written by icsnn-deploy {version}: what the integer network below computes for {samples} samples in
{steps}. A device or simulator that runs it has to give the same numbers.

    {hash}

| file | values | type | shape | one line of the .hex file |
|---|---|---|---|---|
{rows}

Every array is written twice. `.npy` is for `numpy.load`. `.hex` holds the same values as text, one
word in hexadecimal per line, in C order (the last axis counts fastest), in two's complement; of
spikes, eight neurons of one step of one sample per line, the first in the highest bit, and zeros
after the last neuron.

N counts the samples, T the time steps, the first one at 0.

Units:

{units}
"""


@dataclass(frozen=True)
class _Record:
    """One array: its name without a suffix, what it is, and the words of its .hex file."""

    stem: str
    about: str
    axes: str
    values: Array  # as in the .npy file
    words: Array
    bits: int
    line: str


def write(
    graph: Graph,
    path: Path,
    *,
    samples: Array | None,
    run: ReferenceRun,
) -> None:
    """Write the golden spikes of an integer network as a folder.

    Args:
        graph: an integer network.
        path: the folder to make.
        samples: as the network takes them, or real values; None: random ones.
        run: the reference simulator.

    Raises:
        ExportError: not an integer network, or the folder can't be written.
        DataError: samples that do not fit the network.
    """
    check_integer(graph, (), None)
    tested = for_tests(graph)
    inputs = inputs_for_tests(graph, samples, SAMPLES)
    records = _records(tested, inputs, run(tested, inputs))
    try:
        path.mkdir()
        for record in records:
            content = io.BytesIO()
            np.save(content, np.ascontiguousarray(record.values), allow_pickle=False)
            (path / f"{record.stem}.npy").write_bytes(content.getvalue())
            (path / f"{record.stem}.hex").write_bytes(hex_lines(record.words, record.bits))
        page = _page(graph, tested.steps, inputs, records)
        (path / "README.md").write_bytes(page.encode())
    except OSError as error:
        raise ExportError(f"{path}: can't be written ({error})") from error


def check_integer(graph: Graph, names: tuple[str, ...], options: None) -> None:
    """Raise ExportError for a float network; see formats.Format."""
    if not graph.is_integer:
        raise ExportError(
            "golden spikes need an integer network: those of a float one depend on the order of "
            "its sums; make one with icsnn quantize"
        )


def _records(graph: Graph, inputs: Array, found: ExpectedRun) -> list[_Record]:
    lead = "T, N" if graph.input.is_timed else "N"
    bits = 8 * inputs.dtype.itemsize
    records = [
        _Record(
            "input",
            "what the network takes",
            f"{lead}, {_sizes(graph.input.shape)}",
            inputs,
            inputs,
            bits,
            f"{bits} bits",
        ),
        _Record(
            "logit_sums",
            f"the output's current, summed over the steps after {graph.readout_start}",
            f"N, {_sizes(graph.shape(graph.output.name))}",
            found.logit_sums,
            found.logit_sums,
            64,
            "64 bits",
        ),
    ]
    stems = file_stems(list(found.spikes))
    for name, spikes in found.spikes.items():
        flat = spikes.reshape(*spikes.shape[:2], math.prod(spikes.shape[2:]))
        records.append(
            _Record(
                f"spikes.{stems[name]}",
                f"spikes of population {name}, 0 or 1",
                f"T, N, {_sizes(graph.shape(name))}",
                spikes,
                np.packbits(flat, axis=-1),
                8,
                "8 neurons",
            )
        )
    return records


def _page(graph: Graph, run_steps: int, inputs: Array, records: list[_Record]) -> str:
    rows = "\n".join(
        f"| `{one.stem}` | {one.about} | {one.values.dtype} | [{one.axes}] | {one.line} |"
        for one in records
    )
    counted = run_steps - graph.readout_start
    steps = f"T = {run_steps} time steps"
    if run_steps < graph.steps:
        steps = f"the first {run_steps:,} of its {graph.steps:,} time steps (T below)"
    units = [f"- input: 1 stands for {graph.input.unit:g} in the samples that the ANN takes;"]
    for part, unit in zip(output_parts(graph), part_units(graph) or (), strict=False):
        units.append(
            f"- output {part.name}: logit = {unit:g} x sum / {counted}, the mean over the steps."
        )
    return _PAGE.format(
        version=__version__,
        samples=inputs.shape[graph.input.batch_axis],
        steps=steps,
        hash=graph.hash(),
        rows=rows,
        units="\n".join(units),
    )


def _sizes(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
