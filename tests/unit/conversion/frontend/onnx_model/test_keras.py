"""Keras models through tf2onnx as it is now: written again, and converted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.frontend.onnx_model.read import read_onnx
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.graph.arrangement import input_parts, pack_inputs
from tests.support.digits_cnn import WEIGHTS, digits, with_weights

pytestmark = pytest.mark.keras

SCRIPT = Path(__file__).parents[4] / "support" / "keras_models.py"
GOLDEN = Path(__file__).parent / "golden"


def test_models_that_tf2onnx_writes_convert(tmp_path: Path) -> None:
    python = os.environ["ICSNN_KERAS"]
    command = [python, str(SCRIPT), str(tmp_path), str(GOLDEN / WEIGHTS)]
    subprocess.run(command, check=True, timeout=600)
    files = sorted(tmp_path.glob("*.onnx"))
    assert len(files) == 4
    for path in files:
        axes = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
        graph = trace(read_onnx(path), torch.randn(2, *(axis.dim_value for axis in axes[1:])))
        if path.stem == "digits_keras":
            images = digits()[0]
            packed = {input_parts(graph)[0].name: images.transpose(0, 2, 3, 1)}
            found = run_ann(graph, pack_inputs(graph, packed))
            with torch.no_grad():
                expected = with_weights(GOLDEN / WEIGHTS)(torch.from_numpy(images)).numpy()
            np.testing.assert_allclose(found, expected, atol=1e-4)
