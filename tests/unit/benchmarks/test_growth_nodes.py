"""Costs grow at most with the square of the number of nodes: function calls are counted."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator, run_ann
from icsnn_deploy.errors import ExportError, GraphError, TargetError
from icsnn_deploy.exporters.nir.read.file import read_graph
from icsnn_deploy.exporters.nir.write.file import write
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Add, Linear, Relu
from icsnn_deploy.passes import compose as compose_module
from icsnn_deploy.passes.compose import compose
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.check import check
from icsnn_deploy.targets.paths import weights_into
from icsnn_deploy.targets.resources import count_resources
from tests.support.building import ann

SHAPES = ("chain", "residual", "dense", "nested", "linear", "wide")
SMALL, LARGE = 20, 40
MOST_CALLS = 400_000
ALWAYS = ("hash", "certificate", "resources", "fold", "compose", "check loihi1")
EXPORTS = ("export onnx-step", "export nir-portable")


@pytest.fixture(scope="module")
def growth(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
        found = importlib.import_module("growth_nodes")
    folder = tmp_path_factory.mktemp("growth")
    for name in (*ALWAYS, *EXPORTS):  # what is imported and cached is not counted
        found.operations()[name](found.network("residual", 8), folder)
    return found


class TooManyCallsError(Exception):
    pass


def calls(work: Callable[[], object]) -> int:
    """Python functions that are called; stops where they are far too many."""
    count = 0

    def counted(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"
        if count > MOST_CALLS:
            raise TooManyCallsError

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        work()
    except (ExportError, TargetError):
        pass  # refused: that has a cost, too
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_the_nodes_take_at_most_four_times_the_calls(
    growth: Any, shape: str, tmp_path: Path
) -> None:
    operations = growth.operations()
    graphs = [growth.network(shape, size) for size in (SMALL, LARGE)]
    ratio = len(graphs[1].nodes) / len(graphs[0].nodes)
    for name in (*ALWAYS, *EXPORTS):
        few, many = (calls(lambda g=g, n=name: operations[n](g, tmp_path)) for g in graphs)  # type: ignore[misc]
        assert many <= 1.2 * ratio**2 * few, (name, few, many)


@pytest.mark.parametrize("shape", ["chain", "residual", "wide"])
def test_the_calls_of_fold_grow_with_the_nodes(growth: Any, shape: str) -> None:
    graphs = [growth.as_float(growth.network(shape, size)) for size in (40, 160)]
    few, many = (calls(lambda g=g: growth.fold_scales(g)) for g in graphs)  # type: ignore[misc]
    assert many <= 6 * few


def linear(name: str, source: str, seed: int) -> Linear:
    rng = np.random.default_rng(seed)
    return Linear(
        name=name, inputs=(source,), weight=rng.normal(size=(3, 3)) / 4, bias=rng.normal(size=3)
    )


def sums(depth: int) -> Graph:
    """y = W y + y, `depth` times, after a rectifier and before a matrix."""
    nodes: list[Any] = [Relu(name="r", inputs=("a",))]
    last = "r"
    for step in range(depth):
        nodes.append(linear(f"w{step}", last, step))
        nodes.append(Add(name=f"s{step}", inputs=(f"w{step}", last)))
        last = f"s{step}"
    return ann(*nodes, linear("end", last, 99), shape=(3,))


@pytest.mark.parametrize("depth", [3, 5, 9, 40])
def test_sums_of_sums_compose_to_few_connections_that_compute_the_same(depth: int) -> None:
    graph = sums(depth)
    found = compose(graph)
    assert len(found.nodes) < 60
    x = np.random.default_rng(0).random((4, 3), np.float32)
    expected = run_ann(graph, x)
    np.testing.assert_allclose(run_ann(found, x), expected, rtol=1e-4, atol=1e-4)


def test_doubled_forty_times_is_one_connection() -> None:
    doubled = [Add(name=f"s{n}", inputs=(f"s{n - 1}" if n else "r",) * 2) for n in range(40)]
    graph = ann(Relu(name="r", inputs=("a",)), *doubled, linear("end", "s39", 1), shape=(3,))
    end = compose(graph).node("end")
    assert end.inputs == ("r",)
    expected = graph.node("end").arrays()["weight"] * 2.0**40
    np.testing.assert_allclose(end.arrays()["weight"], expected, rtol=1e-6)


def test_a_factor_that_float32_does_not_hold_is_refused(growth: Any) -> None:
    with pytest.raises(GraphError, match="float32 does not hold the factor"):
        compose(growth.as_float(growth.network("nested", 200)))


def test_a_network_that_needs_too_many_connections_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compose_module, "_FEW_NODES", -55)
    with pytest.raises(GraphError, match=r"composing would need more than 5 nodes"):
        compose(sums(1))


def test_resources_of_nested_sums_are_counted_and_the_paths_are_not_followed(growth: Any) -> None:
    graph = growth.network("nested", 3000)
    assert count_resources(graph).fan_in == 2**62
    assert [node.name for node in weights_into(graph, graph.output)]
    with pytest.raises(TargetError, match=r"paths of spikes lead into it through sums of sums"):
        check(graph, find_target("loihi1"))


def test_the_relay_of_x_plus_x_computes_the_same(growth: Any, tmp_path: Path) -> None:
    graph = growth.network("nested", 8)
    growth.operations()["export nir-relay"](graph, tmp_path)
    read = read_graph(tmp_path / "network-relay.nir")
    x = np.random.default_rng(0).integers(0, 256, (5, 3)).astype(np.uint8)
    expected = ReferenceSimulator(graph).run(x)
    np.testing.assert_array_equal(ReferenceSimulator(read).run(x).logits, expected.logits)


@pytest.mark.parametrize(
    ("size", "times"), [(200, r"2\^19\d or more"), (1200, r"2\^1,?19\d or more")]
)
def test_a_multiple_that_float32_does_not_hold_is_not_written(
    growth: Any, tmp_path: Path, size: int, times: str
) -> None:
    """200 sums of x + x were written as infinity."""
    with pytest.raises(ExportError, match=rf"{times} times, a factor that float32"):
        growth.operations()["export nir"](growth.network("nested", size), tmp_path)


def test_a_multiple_that_is_no_float32_is_not_written(tmp_path: Path) -> None:
    """2^24 + 1 would be rounded to 2^24."""
    doubled = [Add(name=f"s{n}", inputs=(f"s{n - 1}" if n else "r",) * 2) for n in range(24)]
    graph = ann(
        IF(name="r", inputs=("a",), v_threshold=np.ones(1), v_init=np.zeros(1)),
        *doubled,
        Add(name="odd", inputs=("s23", "r")),
        linear("end", "odd", 1),
        shape=(3,),
        time_steps=2,
    )
    with pytest.raises(ExportError, match="16,777,217 times, a factor that float32"):
        write(graph, tmp_path / "network.nir")


def test_a_relay_of_too_many_connections_is_refused(growth: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"would need \d\d,\d\d\d connections of their own"):
        growth.operations()["export nir-relay"](growth.network("linear", 300), tmp_path)


def test_sums_that_no_weight_holds_are_refused(growth: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"more than 2,147,483,647 times"):
        growth.operations()["export nir-portable"](growth.network("nested", 60), tmp_path)


def test_65536_steps_cost_no_more_than_four(growth: Any) -> None:
    few, many = (
        calls(lambda t=t: certify(growth.network("chain", 40, time_steps=t)))  # type: ignore[misc]
        for t in (4, 65_536)
    )
    assert many <= 1.5 * few


@pytest.mark.parametrize("name", ["c", "golden", "testvectors", "systemverilog"])
def test_tests_in_files_of_65536_steps_run_the_first_ones(
    growth: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("icsnn_deploy.exporters.expected._MOST_RESULTS", 0)
    few, many = (
        calls(
            lambda t=t: growth.operations()[f"export {name}"](  # type: ignore[misc]
                growth.network("chain", 20, time_steps=t), tmp_path / str(t)
            )
        )
        for t in (256, 65_536)
    )
    assert many <= 1.2 * few


def test_a_network_of_too_many_edges_is_not_written_as_nir(
    growth: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """y = W y + y, again and again: NIR's sums are edges of all their terms."""
    monkeypatch.setattr("icsnn_deploy.exporters.nir.write.builder.MAX_EDGES", 50)
    with pytest.raises(ExportError, match="more than 50 edges as NIR") as caught:
        growth.operations()["export nir"](growth.network("linear", 40), tmp_path)
    assert "\n" not in str(caught.value)
    growth.operations()["export nir"](growth.network("linear", 10), tmp_path)
