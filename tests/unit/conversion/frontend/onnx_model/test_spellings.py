"""Legal spellings of ONNX models, each compared with what ONNX Runtime computes from the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.frontend.onnx_model.read import read_onnx
from icsnn_deploy.conversion.frontend.self_check import apply_host_op
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.graph.arrangement import input_parts, named_outputs, output_parts, pack_inputs
from icsnn_deploy.graph.neuron import Array
from tests.support.onnx_models import MODELS

TOLERANCE = 1e-5
SIXTEEN_BITS = 2e-2


def run_file(path: Path, feed: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options)
    return list(session.run(None, feed))


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_computes_what_onnx_runtime_computes(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    made = MODELS[name]()
    onnx.save(made, path)
    rng = np.random.default_rng(0)
    constants = {one.name for one in made.graph.initializer}
    inputs = [one for one in made.graph.input if one.name not in constants]
    feed = {}
    for one in inputs:
        batch, *shape = [axis.dim_value for axis in one.type.tensor_type.shape.dim]
        kind = onnx.helper.tensor_dtype_to_np_dtype(one.type.tensor_type.elem_type)
        feed[one.name] = rng.normal(size=(batch or 3, *shape)).astype(kind)
    model = read_onnx(path)
    samples = [np.asarray(values, np.float32) for values in feed.values()]
    graph = trace(model, [torch.from_numpy(one) for one in samples])
    parts = input_parts(graph)
    packed = pack_inputs(graph, dict(zip([part.name for part in parts], samples, strict=True)))
    found = named_outputs(graph, run_ann(graph, packed))
    tolerance = SIXTEEN_BITS if model.content.low_precision else TOLERANCE
    for part, expected in zip(output_parts(graph), run_file(path, feed), strict=True):
        got = found[part.name]
        got = apply_host_op(part.host_op, got) if part.host_op else got
        assert got.shape == expected.shape
        spread = float(expected.max() - expected.min()) or 1.0
        assert np.abs(got - expected.astype(np.float64)).max() <= tolerance * spread
