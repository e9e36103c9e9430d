"""lava-dl's own netx loads the .net files, and runs them as the reference does (make test-lava-dl).

It needs an environment with lava-dl 0.6.0; ICSNN_LAVA_DL names its Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.exporters.netx.write import write
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, ChannelAffine, Flatten, Input, Linear, Output
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from icsnn_deploy.lava import worker_process
from icsnn_deploy.lava.worker_process import run_in_worker
from tests.support.graphs import samples, sequential_network

pytestmark = pytest.mark.lava_dl

LIMIT_S = 300

STOCK = """
import sys
import numpy as np
from lava.lib.dl.netx import hdf5
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.source import RingBuffer

network = hdf5.Network(net_config=sys.argv[1], input_message_bits=16)
print(len(network), [list(layer.shape) for layer in network.layers])
source = RingBuffer(data=np.ones((*network.inp.shape, 4), int))
source.s_out.connect(network.inp)
try:
    network.run(RunSteps(num_steps=4), Loihi2SimCfg(select_tag="fixed_pt"))
    v = network.layers[0].neuron.v.get()  # not vth.get(), on which Lava hangs: vth is no array
    print(v.shape, [int(layer.neuron.vth.init) for layer in network.layers[:-1]])
finally:
    network.stop()
"""


def python() -> Path:
    return Path(os.environ["ICSNN_LAVA_DL"]).absolute()


def integer_network(seed: int, time_steps: int) -> Graph:
    network = sequential_network(seed, time_steps)
    prepared = prepare(network, samples(network, 4), per_layer=False, input_bits=8)
    bits = even_widths(prepared, 8)
    return round_to_lattice(prepared, {}, bits, per_layer=False).graph


def vector_network() -> Graph:
    """No image at all, one threshold a neuron, weights of one sign."""
    rng = np.random.default_rng(5)
    first, head = rng.integers(0, 256, (9, 6), np.int16), rng.integers(-20, 21, (3, 9), np.int8)
    v_threshold = rng.integers(20_000, 60_000, 9, np.int32)
    nodes = (
        Input(name="input", shape=(6,), dtype="uint8"),
        Linear(name="fc", inputs=("input",), weight=first, bias=np.arange(9, dtype=np.int32)),
        IF(name="if", inputs=("fc",), v_threshold=v_threshold, v_init=v_threshold // 2 + 0.5),
        Linear(name="head", inputs=("if",), weight=head, bias=np.array([1, -2, 3], np.int32)),
        Output(name="output", inputs=("head",)),
    )
    return Graph(nodes=nodes, time_steps=5, readout_start=1)


def pixel_network() -> Graph:
    """Pixels with a zero point, flattened before the first layer."""
    rng = np.random.default_rng(6)
    weight, head = rng.integers(-128, 128, (7, 24), np.int8), rng.integers(-9, 10, (3, 7), np.int8)
    one = np.ones((1, 1, 1), np.int8)
    zero_point = np.array([100, 140], np.int16).reshape(2, 1, 1)
    nodes = (
        Input(name="input", shape=(2, 3, 4), dtype="uint8"),
        ChannelAffine(name="zero", inputs=("input",), scale=one, shift=-zero_point),
        Flatten(name="flatten", inputs=("zero",)),
        Linear(name="fc", inputs=("flatten",), weight=weight, bias=np.zeros(7, np.int32)),
        IF(
            name="if",
            inputs=("fc",),
            v_threshold=np.full(1, 9000, np.int32),
            v_init=np.full(1, 4000.5),
        ),
        Linear(name="head", inputs=("if",), weight=head, bias=np.zeros(3, np.int32)),
        Output(name="output", inputs=("head",)),
    )
    return Graph(nodes=nodes, time_steps=4)


def run_file(graph: Graph, x: Array, folder: Path) -> dict[str, Array]:
    """What our loader makes of the written file, in lava-dl's environment."""
    write(graph, folder / "n.net")
    np.save(folder / "x.npy", x)
    arguments = [str(folder / name) for name in ("n.net", "x.npy", "result.npz")]
    run_in_worker(python(), "icsnn_lava.netx", *arguments, timeout_s=LIMIT_S)
    with np.load(folder / "result.npz", allow_pickle=False) as result:
        return dict(result)


def assert_runs_as_the_reference(graph: Graph, x: Array, folder: Path) -> None:
    got = run_file(graph, x, folder)
    expected = ReferenceSimulator(graph).run(x)
    assert set(got) == {"logits", *(f"spikes/{name}" for name in expected.spikes)}
    fired = 0
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(got[f"spikes/{name}"], spikes)
        fired += int(spikes.sum())
    assert fired > 0
    np.testing.assert_array_equal(got["logits"], expected.logits)


@pytest.mark.parametrize(("seed", "time_steps"), [(0, 1), (1, 7), (3, 6), (4, 32)])
def test_convolutions_with_folded_poolings(seed: int, time_steps: int, tmp_path: Path) -> None:
    graph = integer_network(seed, time_steps)
    assert_runs_as_the_reference(graph, to_input_units(graph, samples(graph, 5)), tmp_path)


@pytest.mark.parametrize("build", [vector_network, pixel_network])
def test_linear_layers_on_vectors_and_pixels(build: Callable[[], Graph], tmp_path: Path) -> None:
    graph = build()
    rng = np.random.default_rng(7)
    x = rng.integers(0, 256, (6, *graph.input.shape), np.uint8)
    assert_runs_as_the_reference(graph, x, tmp_path)


def test_lava_dl_alone_loads_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without our loader: it builds its layers with vThMant and runs; our datasets do no harm."""
    graph = integer_network(0, 4)
    write(graph, tmp_path / "n.net")
    (tmp_path / "stock.py").write_text(STOCK)
    monkeypatch.setattr(worker_process, "WORKER", tmp_path)
    printed = run_in_worker(python(), "stock", str(tmp_path / "n.net"), timeout_s=LIMIT_S)
    built, thresholds = printed.splitlines()[-2:]
    shapes = [graph.shape(name)[::-1] for name in ("conv1", "conv2", "fc", "head")]
    assert built == f"4 {[list(shape) for shape in shapes]}"
    populations = [graph.node(name) for name in ("if1", "if2", "if3")]
    medians = [int(np.median(p.v_threshold)) for p in populations if isinstance(p, IF)]
    assert thresholds == f"(7, 8, 4) {[median - 1 for median in medians]}"


@pytest.mark.parametrize("harm", ["link", "foreign", "steps", "strange"])
def test_a_file_that_is_not_ours_is_refused(harm: str, tmp_path: Path) -> None:
    graph = vector_network()
    write(graph, tmp_path / "n.net")
    with h5py.File(tmp_path / "n.net", "r+") as file:
        if harm == "link":
            del file["layer/1/weight"]
            file["layer/1/weight"] = h5py.ExternalLink("/etc/passwd", "/")
            said = "is a link"
        elif harm == "foreign":
            del file["icsnn_deploy"]
            said = "was not written by icsnn-deploy"
        elif harm == "steps":
            text = file["icsnn_deploy"][()].replace(b'"time_steps": 5', b'"time_steps": -5')
            del file["icsnn_deploy"]
            file["icsnn_deploy"] = np.bytes_(text)
            said = "time_steps -5"
        else:
            file["layer/1/more"] = np.ones(3)
            said = "not a plain array"
    np.save(tmp_path / "x.npy", np.zeros((1, 6), np.uint8))
    arguments = [str(tmp_path / name) for name in ("n.net", "x.npy", "result.npz")]
    with pytest.raises(BackendUnavailableError, match=said):
        run_in_worker(python(), "icsnn_lava.netx", *arguments, timeout_s=LIMIT_S)
