"""Test vectors: what the files hold, alone and together, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.expected import inputs_for_tests
from icsnn_deploy.exporters.testvectors import write as writer
from icsnn_deploy.exporters.testvectors.hex_words import hex_lines, word_bits
from icsnn_deploy.exporters.testvectors.memories import file_stems, plan_vectors
from icsnn_deploy.exporters.testvectors.options import VectorOptions
from icsnn_deploy.exporters.testvectors.write import write
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Encoding
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from icsnn_deploy.parity.golden import expected_run
from tests.support.graphs import (
    if_graphs,
    residual_network,
    samples,
    sequential_network,
    with_hard_reset,
)
from tests.support.integer_graphs import wild_integer_graphs
from tests.support.vector_files import VectorFolder


def integers(graph: Graph) -> Graph:
    prepared = prepare(graph, samples(graph, 4), per_layer=False, input_bits=8)
    return round_to_lattice(prepared, {}, even_widths(prepared, 8), per_layer=False).graph


def inputs_of(graph: Graph, count: int = 3) -> Array:
    return to_input_units(graph, samples(graph, count))


def spike_inputs(graph: Graph, count: int = 3) -> Array:
    shape = (graph.steps, count, *graph.input.shape)
    return np.random.default_rng(0).integers(0, 2, shape).astype(np.uint8)


def export(
    graph: Graph,
    path: Path,
    inputs: Array | None = None,
    *,
    samples: int = 2,
    spikes_only: bool = False,
) -> VectorFolder:
    options = VectorOptions(samples=samples, spikes_only=spikes_only)
    given = inputs_of(graph) if inputs is None else inputs
    write(graph, path, options, samples=given, run=expected_run)
    return VectorFolder(path)


def check(graph: Graph, inputs: Array, folder: VectorFolder) -> None:
    """The files hold what the reference computes, and give it."""
    count, axis = folder.index["samples"], graph.input.batch_axis
    names = frozenset(node.name for node in graph.nodes_of(IF))
    used = inputs.take(range(count), axis=axis)
    run = ReferenceSimulator(graph).run(used, Record(potentials=names))
    computed = folder.run()
    for node in folder.nodes:
        if node["kind"] == "if":
            spikes = folder.read(node["files"]["spikes"])
            np.testing.assert_array_equal(np.moveaxis(spikes, 0, 1), run.spikes[node["name"]])
            if "v" in node["files"]:
                silent = np.moveaxis(spikes, 0, 1) == 0
                v = np.moveaxis(folder.read(node["files"]["v"]), 0, 1)
                u = run.potentials[node["name"]] - 0.5
                np.testing.assert_array_equal(v[silent], u[silent])
    sums = folder.read(folder.nodes[-1]["files"]["sum"])
    np.testing.assert_array_equal(sums / (graph.steps - graph.readout_start), run.logits)
    for file, values in computed.items():
        np.testing.assert_array_equal(folder.read(file), values, err_msg=file)
    recorded = {file for file, entry in folder.files.items() if "sample" in entry["axes"]}
    assert recorded - set(computed) == set(folder.nodes[0]["files"].values())


@pytest.mark.slow
@given(graph=if_graphs(resets=("subtract", "v_reset")))
@settings(max_examples=15)
def test_the_files_alone_give_the_spikes_of_the_reference(graph: Graph) -> None:
    network = integers(graph)
    with TemporaryDirectory() as folder:
        inputs = inputs_of(network)
        check(network, inputs, export(network, Path(folder) / "v", inputs, samples=2))


@pytest.mark.slow
@given(graph=wild_integer_graphs())
@settings(max_examples=50)
def test_the_files_of_any_integer_network_give_its_spikes(graph: Graph) -> None:
    with TemporaryDirectory() as folder:
        inputs = inputs_for_tests(graph, None, 2)
        check(graph, inputs, export(graph, Path(folder) / "v", inputs, samples=2))


@pytest.mark.parametrize("encoding", ["rate", "events"])
def test_spikes_as_input_are_written_for_every_step(tmp_path: Path, encoding: Encoding) -> None:
    network = integers(residual_network(time_steps=5))
    timed = network.replace(replace(network.input, encoding=encoding, dtype="uint8"))
    inputs = spike_inputs(timed)
    folder = export(timed, tmp_path / "v", inputs, samples=3)
    (file,) = folder.nodes[0]["files"].values()
    assert folder.files[file]["bits"] == 1
    np.testing.assert_array_equal(np.moveaxis(folder.read(file), 0, 1), inputs)
    check(timed, inputs, folder)


def test_thresholds_per_neuron_and_hard_reset_are_written(tmp_path: Path) -> None:
    network = integers(with_hard_reset(sequential_network()))
    node = network.nodes_of(IF)[0]
    shape = network.shape(node.name)
    rng = np.random.default_rng(0)
    uneven = replace(
        node,
        v_threshold=rng.integers(20, 90, shape).astype(np.int32),
        v_init=rng.integers(-9, 9, shape) + np.float32(0.5),
    )
    changed = network.replace(uneven)
    folder = export(changed, tmp_path / "v")
    assert folder.files[f"{node.name}.v_threshold.hex"]["axes"] == ["channel", "y", "x"]
    assert folder.files[f"{node.name}.v_reset.hex"]["axes"] == ["channel"]
    np.testing.assert_array_equal(folder.read(f"{node.name}.v_init.hex"), uneven.v_init - 0.5)
    check(changed, inputs_of(changed), folder)


def test_two_exports_have_the_same_bytes(tmp_path: Path) -> None:
    network = integers(residual_network())
    for name in ("a", "b"):
        export(network, tmp_path / name)
    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in "ab"
    )
    assert first == second
    assert len(first) > 20


def test_the_plan_states_every_file_and_its_size(tmp_path: Path) -> None:
    network = integers(residual_network())
    plan = plan_vectors(network, 2, spikes_only=False)
    export(network, tmp_path / "v")
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "v").glob("*.hex")}
    assert sizes == {memory.file: memory.bytes for memory in plan.memories}
    assert plan.bytes == sum(sizes.values()) == sum(plan.sizes().values())


def test_the_page_names_every_file_and_node(tmp_path: Path) -> None:
    network = integers(with_hard_reset(residual_network()))
    folder = export(network, tmp_path / "v")
    page = (tmp_path / "v" / "README.md").read_text()
    names = [*folder.files, *(node.name for node in network.nodes)]
    assert [name for name in names if f"`{name}`" not in page] == []
    assert network.hash() in page
    assert "v[t] = v_reset" in page
    assert not re.search(r"[{}]", page)


def test_options_limit_samples_and_leave_out_internals(tmp_path: Path) -> None:
    network = integers(residual_network())
    one = export(network, tmp_path / "one", samples=1, spikes_only=True)
    many = export(network, tmp_path / "many", samples=9)
    assert (one.index["samples"], many.index["samples"]) == (1, 3)
    assert set(many.files) - set(one.files) == {
        f"{node.name}.{role}.hex" for node in network.nodes_of(IF) for role in ("current", "v")
    }
    check(network, inputs_of(network), one)


def test_words_are_the_narrowest_of_whole_digits() -> None:
    widths = [word_bits(-8, 7), word_bits(0, 8), word_bits(-9, 0), word_bits(0, 2**62)]
    assert widths == [4, 8, 8, 64]
    assert hex_lines(np.array([-8, 7, 0]), 4) == b"8\n7\n0\n"
    assert hex_lines(np.array([[-1], [127]]), 8) == b"ff\n7f\n"
    assert hex_lines(np.array([-(2**63)]), 64) == b"8000000000000000\n"


def test_names_of_files_are_safe_and_unique() -> None:
    names = ["a b", "a|b", "A b", "..", "layer1.0.conv", "x" * 200, "x" * 201]
    stems = file_stems(names)
    assert stems["layer1.0.conv"] == "layer1.0.conv"
    assert len({stem.lower() for stem in stems.values()}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", s) for s in stems.values())


def test_a_float_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"test vectors hold integers: .*quantize"):
        export(residual_network(), tmp_path / "v")
    assert list(tmp_path.iterdir()) == []


def test_random_inputs_take_the_place_of_samples(tmp_path: Path) -> None:
    network = integers(residual_network())
    for name in ("a", "b"):
        write(network, tmp_path / name, samples=None, run=expected_run)
    first, second = (VectorFolder(tmp_path / name).read("input.values.hex") for name in "ab")
    np.testing.assert_array_equal(first, second)
    assert len(np.unique(first)) > 20


def test_less_than_one_sample_is_refused() -> None:
    with pytest.raises(ExportError, match="1 or more are needed"):
        VectorOptions(samples=0)


def test_a_folder_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = integers(residual_network())
    monkeypatch.setattr(writer, "MAX_BYTES", 10_000)
    with pytest.raises(ExportError, match=r"of 3 samples: .* 10,000 are allowed; .* fewer"):
        export(network, tmp_path / "v", samples=3)
    assert list(tmp_path.iterdir()) == []
