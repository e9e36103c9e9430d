"""Hard reset: what it computes, what holds it, and what refuses it by name."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import nir
import numpy as np
import pytest

from icsnn_deploy.backends.nir import NirSimulator
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.errors import ExportError, GraphError, LatticeError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.metadata import KEY
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.file import graph_bytes, read_graph
from icsnn_deploy.graph.graph import Graph, describe_node, hard_resets
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import if_step
from icsnn_deploy.graph.nodes import IF
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from icsnn_deploy.lava.simulator import LavaSimulator
from icsnn_deploy.parity.golden import golden_bytes
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.check import check
from tests.support.graphs import residual_network, samples, sequential_network, with_hard_reset

POPULATIONS = ("stem.if", "block.if1", "block.if2")


def integer_network(graph: Graph, *, per_layer: bool = False) -> Graph:
    prepared = prepare(graph, samples(graph, 4), per_layer=per_layer, input_bits=8)
    return round_to_lattice(prepared, {}, even_widths(prepared, 8), per_layer=per_layer).graph


def hard() -> Graph:
    return with_hard_reset(residual_network())


def test_a_spike_sets_the_potential() -> None:
    v, u = np.array([0.0, 0.5, 0.5]), np.array([0.25, 0.5, 7.0])
    spikes, before, after = if_step(v, u, np.array([1.0]), np.array([-0.25]))
    assert spikes.tolist() == [0, 1, 1]
    assert before.tolist() == [0.25, 1.0, 7.5]
    assert after.tolist() == [0.25, -0.25, -0.25]


def test_graphs_with_soft_reset_keep_their_hash() -> None:
    """As it was before populations had a v_reset."""
    known = "a2b4bf2290532f95902c4a0e906d0c2345bcd1eac7a5c7701d06102b6b6e7341"
    assert residual_network().hash() == known
    assert "v_reset" not in describe_node(residual_network().node("stem.if"))
    assert b"v_reset" not in graph_bytes(residual_network())


def test_the_value_is_hashed_and_kept_in_the_file(tmp_path: Path) -> None:
    graph = hard()
    assert len({graph.hash(), residual_network().hash(), with_hard_reset(graph, 1).hash()}) == 3
    (tmp_path / "g").write_bytes(graph_bytes(graph))
    read = read_graph(tmp_path / "g")
    assert read.hash() == graph.hash()
    assert hard_resets(read) == POPULATIONS


def test_what_a_population_refuses() -> None:
    node = residual_network().node("stem.if")
    assert isinstance(node, IF)
    with pytest.raises(GraphError, match=r"stem\.if\.v_reset: not finite"):
        replace(node, v_reset=np.full((1, 1, 1), np.nan))
    wrong = residual_network()
    with pytest.raises(GraphError, match=r"stem\.if\.v_reset: shape \(3, 1, 1\)"):
        wrong.replace(replace(node, v_reset=np.zeros((3, 1, 1))))
    with pytest.raises(GraphError, match=r"stem\.if has a v_reset .* block\.if1 has none"):
        wrong.replace(replace(node, v_reset=np.zeros((1, 1, 1))))


def test_an_integer_network_has_half_integers_to_reset_to() -> None:
    graph = integer_network(hard())
    assert graph.is_integer
    for node in graph.nodes_of(IF):
        assert node.v_reset is not None
        assert (node.v_reset % 1 == 0.5).all()
    whole = [replace(n, v_reset=np.zeros((1, 1, 1))) for n in graph.nodes_of(IF)]
    assert not graph.replace(*whole).is_integer
    with pytest.raises(LatticeError, match="v_init and v_reset half integers"):
        certify(graph.replace(*whole))


def test_the_certificate_counts_from_v_reset() -> None:
    graph = integer_network(hard())
    deep = [
        replace(n, v_reset=np.full((1, 1, 1), -40_000.5, np.float32)) for n in graph.nodes_of(IF)
    ]
    bounds = {bound.layer: bound for bound in certify(graph.replace(*deep)).bounds}
    assert all(bounds[name].potential > 40_000 for name in POPULATIONS)


def test_one_threshold_a_layer_moves_v_reset_along() -> None:
    graph = hard()
    prepared = prepare(graph, samples(graph, 4), per_layer=True, input_bits=8)
    for node in prepared.nodes_of(IF):
        original = graph.node(node.name)
        assert isinstance(original, IF)
        assert node.v_reset is not None
        np.testing.assert_allclose(node.v_reset, original.v_reset / original.v_threshold)


def test_it_is_quantized_without_an_ann() -> None:
    graph = hard()
    result = quantize(graph, samples(graph, 40), None)
    assert result.kept == "rounded"
    assert result.certificate.float32
    assert hard_resets(result.network) == POPULATIONS
    assert (result.agreement["rounded"] or 0) > 0.7


def test_nir_says_what_the_text_says(tmp_path: Path) -> None:
    """The NIR text fires above the threshold: what is written is the float32 below ours."""
    graph = hard()
    export(graph, tmp_path / "x.nir", "nir")
    written = nir.read(tmp_path / "x.nir")
    said = json.loads(written.metadata[KEY])
    assert (said["reset"], said["fires"]) == ("v_reset", "u > v_threshold")
    assert not any("reset" in loss or "ties" in loss for loss in said["losses"])
    node, ours = written.nodes["stem_if"], graph.node("stem.if").arrays()
    assert (node.v_threshold < ours["v_threshold"]).all()
    assert (np.nextafter(node.v_threshold, np.float32(np.inf)) == ours["v_threshold"]).all()
    assert (node.v_reset == ours["v_reset"]).all()
    assert NirSimulator(tmp_path / "x.nir").graph.hash() == graph.hash()


def test_onnx_says_which_reset(tmp_path: Path) -> None:
    import onnx

    for name, graph in (("subtract", residual_network()), ("v_reset", hard())):
        export(graph, tmp_path / name, "onnx")
        model = onnx.load(tmp_path / name)
        assert {e.key: e.value for e in model.metadata_props}["reset"] == name
        assert ("Where" in {node.op_type for node in model.graph.node}) == (name == "v_reset")


def test_formats_without_it_name_the_populations(tmp_path: Path) -> None:
    graph = integer_network(with_hard_reset(sequential_network()))
    for name in ("netx", "nir-portable", "nir-relay"):
        with pytest.raises(ExportError, match=r"if1, if2, if3: hard reset"):
            export(graph, tmp_path / "x", name, lossy=True)
    assert list(tmp_path.iterdir()) == []


def test_lavas_own_neuron_is_refused() -> None:
    with pytest.raises(GraphError, match=r"(?s)stem\.if.*: hard reset"):
        LavaSimulator(integer_network(hard()), arithmetic="float", neurons="lif")


def test_a_chip_that_resets_to_zero() -> None:
    graph = integer_network(hard())
    misfits = [m for m in check(graph, find_target("loihi2")).misfits if m.what == "hard reset"]
    assert {misfit.node for misfit in misfits} == set(POPULATIONS)
    assert "Subtract v_reset" in misfits[0].remedy
    zero = [replace(n, v_reset=np.full((1, 1, 1), 0.5)) for n in graph.nodes_of(IF)]
    for fits in (graph.replace(*zero), integer_network(residual_network())):
        assert all(m.what != "hard reset" for m in check(fits, find_target("loihi2")).misfits)
    assert all(m.what != "hard reset" for m in check(graph, find_target("spinnaker2")).misfits)


def test_subtracting_v_reset_leaves_the_spikes() -> None:
    """The remedy that the check names."""
    graph = hard()
    moved = []
    for node in graph.nodes_of(IF):
        assert node.v_reset is not None
        start, limit = node.v_init - node.v_reset, node.v_threshold - node.v_reset
        moved.append(replace(node, v_init=start, v_threshold=limit, v_reset=node.v_reset * 0))
    x = samples(graph, 3)
    wanted = ReferenceSimulator(graph).run(x).spikes
    found = ReferenceSimulator(graph.replace(*moved)).run(x).spikes
    for name, spikes in wanted.items():
        np.testing.assert_array_equal(found[name], spikes)


def test_the_example_checks_golden_spikes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = integer_network(hard())
    x = to_input_units(graph, samples(graph, 3))
    create_bundle(
        tmp_path / "b",
        network=graph,
        ann=None,
        samples=x,
        report={},
        golden=golden_bytes(graph, x),
    )
    place = Path(__file__).parents[3] / "examples" / "check_golden.py"
    spec = importlib.util.spec_from_file_location("check_golden", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(str(tmp_path / "b")) == 0
    assert capsys.readouterr().out.startswith("0 of ")
