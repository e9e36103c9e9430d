"""The example layer in SystemVerilog, simulated on test vectors: equal, and not equal when changed.

It needs iverilog and verilator; `make test-rtl` runs it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.exporters.testvectors.options import VectorOptions
from icsnn_deploy.exporters.testvectors.write import write
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.nodes import Flatten, Input, Linear, Node, Output
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from icsnn_deploy.parity.golden import expected_run
from tests.support.graphs import conv, dyadic, samples, spiking
from tests.support.vector_files import VectorFolder

pytestmark = [pytest.mark.rtl, pytest.mark.slow]

SCRIPT = Path(__file__).parents[2] / "examples" / "rtl" / "check_layers.py"


def network(shape: tuple[int, ...] = (2, 6, 5), time_steps: int = 4) -> Graph:
    """A 3 x 3 convolution, one of stride 2 that is padded unevenly, and a linear layer."""
    rng = np.random.default_rng(0)
    kernel = (3, 3)[: len(shape) - 1]
    first = conv("conv1", "input", rng, (2, 4), kernel)
    after = first.output_shape(shape)
    uneven = conv("conv2", "if1", rng, (4, 3), kernel, stride=2)
    second = replace(uneven, padding=((0, 1), (1, 0))[: len(kernel)])
    last = second.output_shape(after)
    features = int(np.prod(last))
    nodes: list[Node] = [
        Input(name="input", shape=shape),
        first,
        spiking("if1", "conv1", rng, after),
        second,
        spiking("if2", "conv2", rng, last),
        Flatten(name="flatten", inputs=("if2",)),
        Linear(
            name="fc", inputs=("flatten",), weight=dyadic(rng, 6, features), bias=dyadic(rng, 6)
        ),
        spiking("if3", "fc", rng, (6,)),
        Linear(name="head", inputs=("if3",), weight=dyadic(rng, 3, 6), bias=dyadic(rng, 3)),
        Output(name="output", inputs=("head",)),
    ]
    graph = Graph(nodes=tuple(nodes), time_steps=time_steps)
    prepared = prepare(graph, samples(graph, 4), per_layer=False, input_bits=8)
    return round_to_lattice(prepared, {}, even_widths(prepared, 8), per_layer=False).graph


def export(graph: Graph, path: Path, *, spikes_only: bool = False) -> VectorFolder:
    """Test vectors of two samples."""
    if graph.input.is_timed:
        shape = (graph.steps, 2, *graph.input.shape)
        inputs = np.random.default_rng(0).integers(0, 2, shape).astype(np.uint8)
    else:
        inputs = to_input_units(graph, samples(graph, 2))
    write(graph, path, VectorOptions(spikes_only=spikes_only), samples=inputs, run=expected_run)
    return VectorFolder(path)


def simulate(folder: VectorFolder, *arguments: str) -> tuple[int, str]:
    """Run the example; returns its exit code and what it printed."""
    command = [sys.executable, str(SCRIPT), str(folder.path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    return done.returncode, done.stdout + done.stderr


def check(folder: VectorFolder, simulator: str) -> None:
    """Every spike of every population is compared, and none differs."""
    code, printed = simulate(folder, "--simulator", simulator)
    assert code == 0, printed
    spikes = [f for f, entry in folder.files.items() if entry["role"] == "spikes"]
    sizes = [int(np.prod(folder.files[f]["shape"])) for f in spikes if f.startswith("if")]
    found = re.findall(r"(\d+) spikes compared, 0 differ; 0 currents and potentials", printed)
    assert list(map(int, found)) == sizes
    assert f"3 layers checked with {simulator}, 0 differ" in printed


@pytest.mark.parametrize("simulator", ["iverilog", "verilator"])
def test_no_spike_current_or_potential_differs(tmp_path: Path, simulator: str) -> None:
    check(export(network(), tmp_path / "v"), simulator)


def test_spikes_alone_are_compared(tmp_path: Path) -> None:
    check(export(network(), tmp_path / "v", spikes_only=True), "iverilog")


def test_convolutions_over_one_axis_run(tmp_path: Path) -> None:
    check(export(network((2, 9)), tmp_path / "v"), "iverilog")


def test_spikes_as_input_run(tmp_path: Path) -> None:
    graph = network()
    timed = graph.replace(replace(graph.input, encoding="events", dtype="uint8"))
    check(export(timed, tmp_path / "v"), "iverilog")


def test_thresholds_per_neuron_run(tmp_path: Path) -> None:
    """One is beyond every potential, in bits that the register of the potential does not have."""
    graph = network()
    node = graph.population("if2")
    rng, shape = np.random.default_rng(0), graph.shape("if2")
    thresholds = rng.integers(20, 90, shape).astype(np.int32)
    thresholds[0, 0, 0] = 2**24 + 1
    uneven = replace(
        node,
        v_threshold=thresholds,
        v_init=rng.integers(-9, 9, shape) + np.float32(0.5),
    )
    check(export(graph.replace(uneven), tmp_path / "v"), "iverilog")


@pytest.mark.parametrize(
    ("file", "layer", "address"),
    [
        ("conv1.weight.hex", "if1", 0),
        ("conv2.weight.hex", "if2", 35),  # of a channel that spikes: others change nothing
        ("conv2.bias.hex", "if2", 0),
        ("if2.v_threshold.hex", "if2", 0),
        ("if2.v_init.hex", "if2", 0),
        ("if2.v.hex", "if2", 7),
        ("if2.spikes.hex", "if2", 7),
    ],
)
def test_one_changed_bit_is_found(tmp_path: Path, file: str, layer: str, address: int) -> None:
    folder = export(network(), tmp_path / "v")
    flip(folder, file, 1, address)
    code, printed = simulate(folder, "--layer", layer)
    assert code == 1, printed
    assert "NOT EQUAL" in printed
    assert "1 layers checked with iverilog, 1 differ" in printed
    pattern = r"sample \d, step \d, neuron \d+: spike \d, current -?\d+, v -?\d+; expected \d, "
    assert re.search(pattern, printed), printed


@pytest.mark.parametrize(
    ("file", "simulator"),
    [
        ("conv2.weight.hex", "iverilog"),
        ("if2.v_threshold.hex", "iverilog"),
        ("if2.v_threshold.hex", "verilator"),
    ],
)
def test_spikes_alone_find_a_changed_parameter(tmp_path: Path, file: str, simulator: str) -> None:
    folder = export(network(), tmp_path / "v", spikes_only=True)
    bits = folder.files[file]["bits"]
    for address in range(int(np.prod(folder.files[file]["shape"]))):
        flip(folder, file, 1 << bits - 2, address)
    code, printed = simulate(folder, "--layer", "if2", "--simulator", simulator)
    assert code == 1, printed
    assert re.search(r"\d+ spikes compared, [1-9]\d* differ", printed), printed


def test_a_layer_that_the_example_can_not_hold_is_named(tmp_path: Path) -> None:
    folder = export(network(), tmp_path / "v")
    text = (folder.path / "network.json").read_text()
    changed = text.replace('"dilation": [1, 1]', '"dilation": [2, 2]')
    (folder.path / "network.json").write_text(changed)
    code, printed = simulate(folder, "--layer", "if1")
    assert code == 1
    assert "if1: skipped, groups and dilation of 1 are needed" in printed


def flip(folder: VectorFolder, file: str, bits: int, address: int = 0) -> None:
    """Change bits of one word of a file."""
    lines = (folder.path / file).read_text().splitlines()
    lines[address] = f"{int(lines[address], 16) ^ bits:0{len(lines[address])}x}"
    (folder.path / file).write_text("\n".join(lines) + "\n")
