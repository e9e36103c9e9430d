"""Files of PyTorch's two exporters and tf2onnx (tests/support: digits_cnn.py, keras_models.py)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.ann_graph import to_ann_graph
from icsnn_deploy.conversion.frontend.onnx_model.read import read_onnx
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.graph.arrangement import pack_inputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input
from tests.support.digits_cnn import WEIGHTS, digits, with_weights

GOLDEN = Path(__file__).parent / "golden"
ROUTES = ("torch.export", "digits_torchscript", "digits_dynamo", "digits_keras")


@cache
def graph_of(route: str) -> Graph:
    """The ANN graph of the trained network by one of the ways."""
    model = with_weights(GOLDEN / WEIGHTS)
    samples = digits()[0][:4]
    if route == "digits_keras":
        samples = samples.transpose(0, 2, 3, 1)
    if route == "torch.fx":
        return to_ann_graph(model, samples)
    if route == "torch.export":
        free = ({0: torch.export.Dim.DYNAMIC},)
        example = (torch.from_numpy(samples[:2]),)
        return to_ann_graph(torch.export.export(model, example, dynamic_shapes=free), samples)
    return to_ann_graph(read_onnx(GOLDEN / f"{route}.onnx"), samples)


def scores(graph: Graph, images: Array) -> Array:
    (part,) = graph.input.parts or (None,)
    if part is not None and part.shape == (8, 8, 1):
        images = images.transpose(0, 2, 3, 1)
    name = part.name if part is not None else "input"
    return run_ann(graph, pack_inputs(graph, {name: images}))


@pytest.mark.parametrize("route", ROUTES)
def test_every_way_gives_the_same_graph_up_to_rounding(route: str) -> None:
    expected, found = graph_of("torch.fx"), graph_of(route)
    assert [node.kind for node in found.nodes] == [node.kind for node in expected.nodes]
    places = {node.name: i for i, node in enumerate(found.nodes)}
    wanted = {node.name: i for i, node in enumerate(expected.nodes)}
    for one, other in zip(found.nodes, expected.nodes, strict=True):
        assert [places[name] for name in one.inputs] == [wanted[name] for name in other.inputs]
        if isinstance(one, Input):
            continue
        for key, value in other.arrays().items():
            assert one.arrays()[key].dtype == value.dtype
            np.testing.assert_allclose(one.arrays()[key], value, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("route", ROUTES)
def test_every_way_gives_the_same_accuracy(route: str) -> None:
    images, labels = (values[-300:] for values in digits())
    expected = scores(graph_of("torch.fx"), images).argmax(1)
    assert np.mean(expected == labels) > 0.9
    np.testing.assert_array_equal(scores(graph_of(route), images).argmax(1), expected)


@pytest.mark.parametrize("name", ["keras_residual", "keras_decoder", "keras_signal"])
def test_keras_models_convert(name: str) -> None:
    """The trace compares the network with ONNX Runtime."""
    path = GOLDEN / f"{name}.onnx"
    axes = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    graph = trace(read_onnx(path), torch.randn(2, *(axis.dim_value for axis in axes[1:])))
    assert len(graph.nodes) > 10
