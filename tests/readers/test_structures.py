"""Networks of few layers in every reader: zeros appended to an input, a sum as output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.nir.portable.portable import to_portable
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Add, Conv, Flatten, Input, Linear, Node, Output
from icsnn_deploy.readers.environment import READERS as HOMES
from icsnn_deploy.readers.environment import find_environment
from icsnn_deploy.readers.launch import Request, run_requests


def appended_zeros() -> Graph:
    """Kernels that are even on one axis and odd on the other."""
    rng = np.random.default_rng(3)
    layers = [((1, 2), ((0, 0), (0, 0))), ((2, 1), ((2, 0), (0, 0))), ((1, 1), ((0, 3), (0, 0)))]
    nodes: list[Node] = [Input(name="input", shape=(2, 5, 6), dtype="uint8")]
    for number, (kernel, padding) in enumerate(layers):
        layer = Conv(
            name=f"conv{number}",
            inputs=(nodes[-1].name,),
            weight=rng.integers(-2, 4, (2, 2, *kernel)).astype(np.int8),
            bias=np.ones(2, np.int8),
            stride=(1, 1),
            padding=padding,
            dilation=(1, 1),
        )
        nodes += [layer, integer_population(f"if{number}", layer.name, (1, 1, 1))]
    nodes.append(Flatten(name="flatten", inputs=(nodes[-1].name,)))
    graph = Graph(nodes=(*nodes, Output(name="output", inputs=("flatten",))), time_steps=4)
    assert to_portable(graph).graph.node("conv0").inputs == ("input.with_zeros",)
    return graph


def sum_as_output() -> Graph:
    rng = np.random.default_rng(4)
    nodes: list[Node] = [
        Input(name="input", shape=(5,), dtype="uint8"),
        integer_population("p", "input", (1,)),
        integer_population("q", "input", (1,), threshold=7),
    ]
    for source in ("p", "q"):
        weight = rng.integers(-3, 4, (3, 5)).astype(np.int8)
        head = Linear(
            name=f"{source}.head", inputs=(source,), weight=weight, bias=np.ones(3, np.int8)
        )
        nodes.append(head)
    end = (
        Add(name="sum", inputs=("p.head", "q.head")),
        Output(name="output", inputs=("sum",)),
    )
    return Graph(nodes=(*nodes, *end), time_steps=4)


def integer_population(name: str, source: str, ones: tuple[int, ...], *, threshold: int = 5) -> IF:
    v_threshold, v_init = np.full(ones, threshold, np.int8), np.full(ones, 2.5, np.float32)
    return IF(name=name, inputs=(source,), v_threshold=v_threshold, v_init=v_init)


STRUCTURES = (appended_zeros(), sum_as_output())


def structure_inputs(graph: Graph) -> Array:
    return np.random.default_rng(5).integers(0, 5, (3, *graph.input.shape)).astype(np.uint8)


@pytest.mark.parametrize("home", HOMES)
def test_no_spike_differs_with_appended_zeros_or_a_sum_as_output(home: str, tmp_path: Path) -> None:
    asked: list[tuple[Graph, Request]] = []
    for number, graph in enumerate(STRUCTURES):
        path = tmp_path / f"{number}.nir"
        export(graph, path, "nir-portable")
        asked += [
            (graph, Request(reader=reader, file=path, inputs=structure_inputs(graph)))
            for reader in HOMES[home]
        ]
    answers = run_requests(find_environment(home).python, [request for _, request in asked])
    for (graph, request), answer in zip(asked, answers, strict=True):
        expected = ReferenceSimulator(graph).run(request.inputs)
        assert all(0.02 < spikes.mean() < 0.9 for spikes in expected.spikes.values())
        assert list(answer.spikes) == list(expected.spikes)
        for name, spikes in expected.spikes.items():
            np.testing.assert_array_equal(answer.spikes[name], spikes, f"{answer.backend}: {name}")
        np.testing.assert_array_equal(answer.logits, expected.logits, answer.backend)
