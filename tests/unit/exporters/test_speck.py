"""The format speck: what the cores hold, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.speck import program
from icsnn_deploy.exporters.speck.connections import bias_into, connections_into
from icsnn_deploy.exporters.speck.cores import cores_of
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Conv
from icsnn_deploy.targets.check import check
from tests.support.graphs import residual_network
from tests.support.integer_graphs import on_lattice
from tests.support.speck_graphs import (
    KINDS,
    convolution,
    flattened_network,
    scaled,
    speck_network,
    twice,
)


def exported(graph: Graph, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    export(graph, folder, "speck")
    network, speck = (json.loads((folder / n).read_bytes()) for n in ("network.json", "speck.json"))
    return network, speck


@pytest.mark.parametrize("kind", KINDS)
def test_two_exports_are_equal_byte_for_byte(kind: str, tmp_path: Path) -> None:
    graph = speck_network(kind, seed=2)
    export(graph, tmp_path / "one", "speck")
    export(graph, tmp_path / "two", "speck")
    names = ["README.md", "configure.py", "network.json", "speck.json"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "configure.py").read_bytes() == Path(program.__file__).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_is_on_the_core_that_the_check_gives_it(kind: str) -> None:
    graph = speck_network(kind, seed=2)
    allocation = check(graph, "speck").allocation
    assert allocation is not None
    cores, _ = cores_of(graph)
    assert {core.layer: core.number for core in cores} == {
        placement.layer: placement.core for placement in allocation.placements
    }


def test_a_join_is_one_kernel_with_the_channels_of_both_branches(tmp_path: Path) -> None:
    graph = speck_network("join", seed=2)
    _, speck = exported(graph, tmp_path / "out")
    cores = {core["layer"]: core for core in speck["cores"]}
    joined = np.array(cores["p0"]["weights"])  # [out, in, x, y]
    third, short = graph.node("third"), graph.node("short")
    assert isinstance(third, Conv)
    np.testing.assert_array_equal(joined[:, :4], third.weight.transpose(0, 1, 3, 2))
    scale = short.arrays()["scale"].reshape(-1)
    np.testing.assert_array_equal(joined[:, 4:, 1, 1], np.diag(scale))
    assert np.count_nonzero(joined[:, 4:]) == 4
    to_join = {core: cores[core]["destinations"] for core in ("p", "q")}
    assert to_join["q"] == [
        {"layer": cores["p0"]["core"], "enable": True, "pooling": 1, "feature_shift": 0}
    ]
    assert {
        "layer": cores["p0"]["core"],
        "enable": True,
        "pooling": 1,
        "feature_shift": 4,
    } in to_join["p"]


def test_initial_potentials_are_rounded_down(tmp_path: Path) -> None:
    graph = speck_network("conv", seed=2)
    _, speck = exported(graph, tmp_path / "out")
    node = graph.node("p0")
    assert isinstance(node, IF)
    assert (node.v_init < 0).any()
    first = np.array(speck["cores"][0]["neurons_initial_value"])[:, 0, 0]
    np.testing.assert_array_equal(first, np.floor(node.v_init).reshape(-1))


def test_the_input_pools_on_the_host_and_the_last_layer_is_read(tmp_path: Path) -> None:
    network, speck = exported(speck_network("pooled", seed=2), tmp_path / "out")
    assert [route["pooling"] for route in network["input"]] == [2]
    assert [core["monitor_enable"] for core in speck["cores"]] == [False, False, True]
    assert speck["cores"][-1]["destinations"] == []


def test_a_dilated_grouped_kernel_is_stored_with_its_zeros() -> None:
    graph = speck_network("grouped", seed=2)
    node = graph.node("c0")
    assert isinstance(node, Conv)
    wide = replace(node, dilation=(2, 2), padding=((2, 2), (2, 2)))
    (connection,) = connections_into(graph.replace(wide), graph.population("p0"))
    assert connection.weight.shape == (6, 3, 5, 5)
    np.testing.assert_array_equal(connection.weight[3, 1, ::2, ::2], node.weight[3, 0])
    assert np.count_nonzero(connection.weight) == np.count_nonzero(node.weight)


def test_padding_at_one_end_becomes_zeros_of_the_kernel_or_is_refused() -> None:
    graph = speck_network("conv", seed=2, layers=1)
    node = graph.node("c0")
    assert isinstance(node, Conv)
    uneven = graph.replace(replace(node, padding=((0, 2), (0, 2))))
    cores, _ = cores_of(uneven)
    assert cores[0].weight.shape[2:] == (5, 5)
    with pytest.raises(ExportError, match=r"p0: no square kernel up to 16"):
        cores_of(graph.replace(replace(node, padding=((0, 30), (0, 30)))))


def test_networks_that_do_not_fit_are_refused_with_every_misfit(tmp_path: Path) -> None:
    graph = speck_network("conv", seed=2)
    node = graph.node("p0")
    assert isinstance(node, IF)
    thresholds = node.v_threshold + np.arange(4, dtype=np.int32).reshape(4, 1, 1)
    with pytest.raises(ExportError, match=r"p0: threshold granularity"):
        export(graph.replace(replace(node, v_threshold=thresholds)), tmp_path / "a", "speck")
    with pytest.raises(ExportError, match=r"icsnn split --host-first-layer"):
        export(on_lattice(residual_network()), tmp_path / "b", "speck")
    with pytest.raises(ExportError, match=r"lattice: parameters or input in float"):
        export(residual_network(), tmp_path / "c", "speck")
    assert not list(tmp_path.iterdir())


def test_the_bias_of_a_target_is_the_sum_of_its_branches() -> None:
    graph = speck_network("join", seed=2)
    third = graph.node("third")
    assert isinstance(third, Conv)
    np.testing.assert_array_equal(bias_into(graph, graph.population("p0")), third.bias)


def test_a_bias_is_counted_by_the_ways_from_its_connection_to_the_target() -> None:
    """Twice for a sum that names it twice; once for a connection that reads a sum."""
    graph = twice()
    assert bias_into(graph, graph.population("p0")).tolist() == [2]
    shared = twice(sum_first=True)
    assert len(connections_into(shared, shared.population("p0"))) == 2
    assert bias_into(shared, shared.population("p0")).tolist() == [1]


@pytest.mark.parametrize("place", ["before", "after"])
def test_flattened_spikes_take_a_kernel_of_the_size_of_the_map(place: str, tmp_path: Path) -> None:
    source, shape = {"before": ("input", (2, 2, 2)), "after": ("flat", (8,))}[place]
    node = scaled("s", source, shape, shift=1)
    graph = flattened_network(before=node) if place == "before" else flattened_network(after=node)
    assert check(graph, "speck").ok
    _, speck = exported(graph, tmp_path / "out")
    (core,) = speck["cores"]
    assert core["dimensions"]["kernel_size"] == 2
    assert core["biases"] == node.shift.reshape(-1).tolist()
    for number, weights in enumerate(core["weights"]):  # [in][x][y]
        expected = np.zeros((2, 2, 2), np.int64)
        expected.reshape(-1)[number] = node.scale.reshape(-1)[number]
        np.testing.assert_array_equal(np.array(weights).transpose(0, 2, 1), expected)


def test_flattened_currents_of_a_convolution_do_not_fit(tmp_path: Path) -> None:
    before = convolution("c0", "input", np.random.default_rng(1), (3, 2, 1, 1))
    graph = flattened_network(before=before)
    with pytest.raises(ExportError, match=r"flat: flatten: the maps of c0.*Flatten after p0"):
        export(graph, tmp_path / "out", "speck")
    with pytest.raises(ExportError, match=r"c0: its maps are flattened before p0"):
        export(graph, tmp_path / "out", "spinnaker2")
    assert not list(tmp_path.iterdir())
