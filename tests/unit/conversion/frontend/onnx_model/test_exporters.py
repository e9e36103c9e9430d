"""Networks of many structures through PyTorch's ONNX exporters, compared with the model itself."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.frontend.onnx_model.read import read_onnx
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.graph.arrangement import input_parts, named_outputs, pack_inputs
from icsnn_deploy.graph.neuron import Array
from tests.support.front_door import NETWORKS, model_of, samples_of

BY_EXPORT = ("u-net, bilinear", "m5")
"""Written with dynamo=True, too, which takes seconds. The older exporter has no VGG at 32 x 32."""


def write(model: nn.Module, example: torch.Tensor, path: Path, *, dynamo: bool) -> None:
    """Write the model for any batch size, without what the exporters print."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            free = ({0: torch.export.Dim.DYNAMIC},)
            torch.onnx.export(model, (example,), path, dynamo=True, dynamic_shapes=free)
        else:
            axes = {"x": {0: "N"}}
            torch.onnx.export(
                model, (example,), path, dynamo=False, input_names=["x"], dynamic_axes=axes
            )


def outputs(model: nn.Module, samples: Array) -> list[Array]:
    """What the graph of a model computes, output by output."""
    graph = trace(model, torch.from_numpy(samples))
    packed = pack_inputs(graph, {input_parts(graph)[0].name: samples})
    return list(named_outputs(graph, run_ann(graph, packed)).values())


@pytest.mark.parametrize(
    ("name", "dynamo"),
    [*((n, False) for n in NETWORKS if n != "vgg16"), *((n, True) for n in BY_EXPORT)],
)
def test_files_of_pytorchs_exporters_give_the_network(
    name: str, dynamo: bool, tmp_path: Path
) -> None:
    model = model_of(NETWORKS[name])
    samples = np.asarray(samples_of(NETWORKS[name], 3), np.float32)
    path = tmp_path / "model.onnx"
    write(model, torch.from_numpy(samples), path, dynamo=dynamo)
    expected = outputs(model, samples)
    found = outputs(read_onnx(path), samples)
    for got, wanted in zip(found, expected, strict=True):
        assert np.abs(got - wanted).max() <= 1e-5 * (wanted.max() - wanted.min())
