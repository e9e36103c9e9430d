"""A session of onnx's own reference evaluator, which other runtimes are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from icsnn_deploy.exporters.onnx.read import OnnxFile, parse
from icsnn_deploy.graph.neuron import Array


class ReferenceSession:
    """A model in onnx's reference evaluator."""

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
