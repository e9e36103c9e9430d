"""NIR files by others: what is read, how it is read, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from typer.testing import CliRunner

import icsnn_deploy
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.errors import BundleError, ExportError
from icsnn_deploy.exporters.nir.metadata import Reset
from icsnn_deploy.exporters.nir.read.file import from_nir
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, ChannelAffine, Conv
from icsnn_deploy.parity.verify import verify
from tests.support.graphs import dyadic

RNG = np.random.default_rng(2)


def population(*shape: int, **fields: Any) -> Any:
    values = {"r": np.ones(shape, "f4"), "v_threshold": np.ones(shape, "f4"), **fields}
    return nir.IF(**values)


def conv(outputs: int, inputs: int, size: int, lengths: tuple[int, int], stride: int = 1) -> Any:
    return nir.Conv2d(
        input_shape=lengths,
        weight=dyadic(RNG, outputs, inputs, size, size),
        bias=dyadic(RNG, outputs),
        stride=(stride, stride),
        padding=(1, 1),
        dilation=(1, 1),
        groups=1,
    )


def flatten(*shape: int, start: int = 0) -> Any:
    return nir.Flatten(input_type={"input": np.array(shape)}, start_dim=start, end_dim=-1)


def pool(kind: Any, size: int) -> Any:
    sizes = np.array([size, size])
    return kind(kernel_size=sizes, stride=sizes, padding=np.array([0, 0]))


def chain(path: Path, shape: tuple[int, ...], outputs: int, *nodes: Any) -> Path:
    """A file of these nodes in a row, named by numbers, the edges in no order."""
    named = {str(number): node for number, node in enumerate(nodes)}
    names = ["input", *named, "output"]
    edges = list(pairwise(names))
    network = nir.NIRGraph(
        {
            "input": nir.Input(input_type=np.array(shape)),
            **named,
            "output": nir.Output(output_type=np.array([outputs])),
        },
        [*edges[1::2], *edges[::2]],
        type_check=False,
    )
    nir.write(path, network)
    return path


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    """Built as the NIR project's example 02_cnn/cnn_sinabs.nir is, with fewer channels."""
    return chain(
        tmp_path / "cnn.nir",
        (2, 10, 10),
        3,
        conv(4, 2, 5, (10, 10), stride=2),
        population(4, 4, 4),
        conv(4, 4, 3, (4, 4)),
        population(4, 4, 4),
        pool(nir.SumPool2d, 2),
        conv(3, 4, 3, (2, 2)),
        population(3, 2, 2),
        pool(nir.SumPool2d, 2),
        flatten(3, 1, 1),
        nir.Affine(weight=dyadic(RNG, 6, 3), bias=dyadic(RNG, 6)),
        population(6),
        nir.Affine(weight=dyadic(RNG, 3, 6), bias=dyadic(RNG, 3)),
        population(3),
    )


def test_the_models_of_the_nir_project(cnn: Path) -> None:
    graph = icsnn_deploy.from_nir(cnn, reset="subtract", time_steps=5)
    kinds = "input conv if conv if conv conv if conv flatten linear if linear if output"
    assert [node.kind for node in graph.nodes] == kinds.split()
    assert (graph.steps, graph.input.encoding, graph.input.dtype) == (5, "direct", "float32")
    sums = graph.node("4")
    assert isinstance(sums, Conv)
    assert (sums.weight == 1).all()
    x = dyadic(np.random.default_rng(0), 2, 2, 10, 10, high=64)
    run = ReferenceSimulator(graph).run(x)
    assert run.spikes["1"].any()
    np.testing.assert_array_equal(run.logits, run.spikes["12"].mean(axis=0))  # a spiking output


def single(tmp_path: Path, node: Any, reset: Reset, *, steps: int = 4) -> IF:
    path = chain(tmp_path / "x.nir", (3,), 3, node)
    found = from_nir(path, reset=reset, time_steps=steps).node("0")
    assert isinstance(found, IF)
    return found


def spikes_of(node: IF, currents: Array) -> list[float]:
    v, out = 0.0, []
    for current in currents:
        u = v + current
        fired = u >= node.v_threshold.flat[0]
        reset = u - node.v_threshold.flat[0] if node.v_reset is None else node.v_reset.flat[0]
        v = reset if fired else u
        out.append(float(fired))
    return out


def test_a_tie_fires_or_does_not(tmp_path: Path) -> None:
    """NIR fires above the threshold: with hard reset that is kept, with soft reset it is not."""
    currents = np.array([0.5, 0.5, 0.5, 0.5], np.float32)  # u = 1.0, the threshold, at step 2
    assert spikes_of(single(tmp_path, population(3), "subtract"), currents) == [0, 1, 0, 1]
    assert spikes_of(single(tmp_path, population(3), "v_reset"), currents) == [0, 0, 1, 0]


def test_v_reset_is_read(tmp_path: Path) -> None:
    node = population(3, v_reset=np.full(3, -0.5, "f4"))
    found = single(tmp_path, node, "v_reset")
    assert found.v_reset is not None
    assert (found.v_reset == -0.5).all()
    assert (found.v_threshold == np.nextafter(np.float32(1), np.float32(2))).all()
    with pytest.raises(ExportError, match="v_reset other than 0"):
        single(tmp_path, node, "subtract")


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 1, 1), (3,), (1,), (1, 1, 1), ()])
def test_parameters_of_lower_rank(tmp_path: Path, shape: tuple[int, ...]) -> None:
    value = np.full(shape, 0.75, "f4")
    fields = {"r": np.ones(shape, "f4"), "v_threshold": value, "v_reset": value * 0}
    if shape == ():
        fields = {name: np.array([array]) for name, array in fields.items()}
    nodes = (population(**fields), flatten(3, 4, 4), nir.Linear(weight=dyadic(RNG, 2, 48)))
    path = chain(tmp_path / "x.nir", (3, 4, 4), 2, *nodes)
    if shape == ():
        import h5py

        with h5py.File(path, "r+") as file:
            for name in fields:
                del file[f"node/nodes/0/{name}"]
                file[f"node/nodes/0/{name}"] = fields[name][0]
    graph = from_nir(path, reset="v_reset", time_steps=2)
    (node,) = graph.nodes_of(IF)
    assert np.allclose(node.v_threshold, 0.75)
    assert node.v_reset is not None
    assert not node.v_reset.any()


def test_a_shape_that_may_mean_two_things_is_refused(tmp_path: Path) -> None:
    fields = {"r": np.ones(3, "f4"), "v_threshold": np.array([1, 2, 3], "f4")}
    nodes = (population(**fields), flatten(3, 4, 3), nir.Linear(weight=dyadic(RNG, 2, 36)))
    path = chain(tmp_path / "x.nir", (3, 4, 3), 2, *nodes)
    with pytest.raises(ExportError, match=r"0\.r: shape \(3,\)"):
        from_nir(path, reset="subtract", time_steps=2)


@pytest.mark.parametrize(
    ("declared", "start"), [((2, 3, 3), 0), ((2, 3, 3), -3), ((2, 3, 3), 1), ((1, 2, 3, 3), 1)]
)
def test_ways_to_write_a_flatten(tmp_path: Path, declared: tuple[int, ...], start: int) -> None:
    nodes = (flatten(*declared, start=start), nir.Linear(weight=dyadic(RNG, 2, 18)), population(2))
    path = chain(tmp_path / "x.nir", (2, 3, 3), 2, *nodes)
    assert from_nir(path, reset="subtract", time_steps=2).shape("0") == (18,)


def test_a_flatten_of_some_axes_is_refused(tmp_path: Path) -> None:
    nodes = (flatten(2, 3, 3, start=1), population(2, 9))
    path = chain(tmp_path / "x.nir", (2, 3, 3), 2, *nodes)
    with pytest.raises(ExportError, match="flattens axes 1 to -1"):
        from_nir(path, reset="subtract", time_steps=2)


def test_an_input_with_a_batch_axis_says_so(tmp_path: Path) -> None:
    """As a writer that counts the batch gives it: the nodes after it do not fit."""
    images = chain(tmp_path / "i.nir", (1, 2, 6, 6), 3, conv(3, 2, 3, (6, 6)), population(3, 6, 6))
    with pytest.raises(ExportError, match=r"\[1, 2, 6, 6\], may count a batch.*with \[2, 6, 6\]"):
        from_nir(images, reset="subtract", time_steps=3)
    affine = nir.Affine(weight=dyadic(RNG, 4, 7), bias=dyadic(RNG, 4))
    vectors = chain(tmp_path / "v.nir", (1, 7), 4, affine, population(4))
    with pytest.raises(ExportError, match=r"\[1, 7\], may count a batch axis.*with \[7\]"):
        from_nir(vectors, reset="subtract", time_steps=3)


def test_a_resistance_and_a_scale(tmp_path: Path) -> None:
    nodes = (
        nir.Scale(scale=np.array([1, 2, 3], "f4")),
        population(3, r=np.full(3, 0.5, "f4")),
    )
    graph = from_nir(chain(tmp_path / "x.nir", (3,), 3, *nodes), reset="subtract", time_steps=2)
    scales = graph.nodes_of(ChannelAffine)
    assert [scale.scale.tolist() for scale in scales] == [[1, 2, 3], [0.5, 0.5, 0.5]]


def lif(tau: float, r: float) -> Any:
    full = {"tau": tau, "r": r, "v_leak": 0, "v_threshold": 1}
    return nir.LIF(**{name: np.full(3, value, "f4") for name, value in full.items()})


def test_what_can_not_be_read_is_listed_together(tmp_path: Path) -> None:
    one = np.ones(3, "f4")
    nodes = (nir.LI(tau=one, r=one, v_leak=one), lif(2, 1), nir.Delay(delay=one))
    path = chain(tmp_path / "x.nir", (3,), 3, *nodes)
    with pytest.raises(ExportError, match=r"(?s)0: LI\n.*1: LIF with a leak.*2: Delay"):
        from_nir(path, reset="subtract", time_steps=2)


def test_lif_without_leak_is_if(tmp_path: Path) -> None:
    found = single(tmp_path, lif(np.inf, np.inf), "subtract")
    assert (found.v_threshold == 1).all()
    assert found.inputs == ("input",)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({}, "reset and time_steps needed"),
        ({"reset": "subtract"}, "time_steps needed"),
        ({"time_steps": 4}, "reset needed"),
        ({"reset": "zero", "time_steps": 4}, "one of subtract, v_reset"),
        ({"reset": "subtract", "time_steps": 0}, "time_steps 0"),
        ({"reset": "subtract", "time_steps": 4, "encoding": "morse"}, "encoding 'morse'"),
        ({"reset": "subtract", "time_steps": 4, "input_dtype": "f8"}, "input_dtype 'f8'"),
    ],
)
def test_what_must_be_said(cnn: Path, given: dict[str, Any], match: str) -> None:
    with pytest.raises(ExportError, match=match) as caught:
        from_nir(cnn, **given)
    assert str(cnn) in str(caught.value)


# The command


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


@pytest.mark.slow
def test_a_bundle_from_a_file_by_others(cnn: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", RNG.random((20, 2, 10, 10), np.float32))
    bundle, samples = str(tmp_path / "b"), str(tmp_path / "x.npy")
    said = ("--reset", "v_reset", "--time-steps", "4", "--samples", samples)
    assert run("import", str(cnn), *said, "--out", bundle) == (
        0,
        f"wrote {bundle}; next: icsnn export {bundle} --format onnx\n",
    )
    assert run("export", bundle, "--format", "onnx", "--format", "nir")[0] == 0
    opened = open_bundle(Path(bundle))
    assert verify(opened, ["torch", "onnxruntime", "nir"]).verdict == "pass"
    with pytest.raises(BundleError, match="holds no ANN"):
        opened.ann()
    code, text = run("inspect", bundle)
    assert (code, "from      cnn.nir, reset v_reset" in text) == (0, True)
    assert "v_reset" in text
    lattice = str(tmp_path / "q")
    code, text = run("quantize", bundle, "--calibration", samples, "--out", lattice)
    assert (code, "of samples as the float network does" in text) == (0, True)
    assert run("export", lattice, "--format", "onnx", "--format", "nir")[0] == 0
    integer = open_bundle(Path(lattice))
    assert verify(integer, ["torch", "onnxruntime", "nir"]).verdict == "pass"
    assert from_nir(integer.export("nir")).hash() == integer.graph_hash
    assert run("check", lattice, "--target", "spinnaker2")[0] in (0, 1)


def test_a_bundle_that_takes_spikes(cnn: Path, tmp_path: Path) -> None:
    events = (RNG.random((3, 12, 2, 10, 10)) < 0.3).astype(np.uint8)
    np.save(tmp_path / "x.npy", events)
    np.save(tmp_path / "y.npy", RNG.integers(0, 3, 12))
    bundle, samples = str(tmp_path / "b"), str(tmp_path / "x.npy")
    said = ("--reset", "subtract", "--time-steps", "3", "--encoding", "events")
    code, text = run("import", str(cnn), *said, "--input-dtype", "uint8", "--out", bundle)
    assert code == 0, text
    with pytest.raises(BundleError, match="holds no samples"):
        open_bundle(Path(bundle)).samples()
    lattice = str(tmp_path / "q")
    assert run("quantize", bundle, "--calibration", samples, "--out", lattice)[0] == 0
    assert open_bundle(Path(lattice)).samples().shape == (3, 8, 2, 10, 10)
    labels = ("--labels", str(tmp_path / "y.npy"), "--limit", "5", "--backend", "torch")
    code, text = run("verify", lattice, "--images", samples, *labels)
    assert (code, "accuracy: SNN" in text) == (0, True)


def test_the_command_says_what_is_missing(cnn: Path, tmp_path: Path) -> None:
    code, text = run("import", str(cnn), "--out", str(tmp_path / "b"))
    assert code == 2
    assert "reset and time_steps needed" in text
    assert not (tmp_path / "b").exists()
