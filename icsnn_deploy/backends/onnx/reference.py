"""onnx's own reference evaluator: independent of every runtime, slow, made of NumPy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from icsnn_deploy.backends import Backend
from icsnn_deploy.backends.onnx.simulator import OnnxFileSimulator
from icsnn_deploy.backends.recording import Simulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.exporters.onnx.read import OnnxFile, parse
from icsnn_deploy.graph.neuron import Array


def open_onnx_reference(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's ONNX file; see backends.Opener."""
    return OnnxReferenceSimulator(backend.file_in(bundle))


class OnnxReferenceSimulator(OnnxFileSimulator):
    """Runs a file that exporters.onnx wrote on onnx.reference.ReferenceEvaluator."""

    def __init__(self, path: str | os.PathLike[str], *, batch_size: int = 32) -> None:
        super().__init__(path, "onnx-reference", _ReferenceSession, batch_size=batch_size)


class _ReferenceSession:
    def __init__(self, file: OnnxFile, data: bytes) -> None:
        from onnx import numpy_helper
        from onnx.reference import ReferenceEvaluator

        model = parse(data)
        for tensor in model.graph.initializer:
            if tensor.name in file.parameters:
                value = file.parameters[tensor.name]
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        self._evaluator: Any = ReferenceEvaluator(model)

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        return list(self._evaluator.run(list(outputs), dict(feed)))
