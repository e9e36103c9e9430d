"""A session of onnx's own reference evaluator, which other runtimes are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from icsnn_deploy.backends.onnx.session import ModelFile
from icsnn_deploy.errors import ExportError, first_line
from icsnn_deploy.exporters.onnx.read import parse
from icsnn_deploy.graph.neuron import Array


class ReferenceSession:
    """A model in onnx's reference evaluator."""

    def __init__(self, file: ModelFile, data: bytes) -> None:
        from onnx import numpy_helper
        from onnx.reference import ReferenceEvaluator

        model = parse(data)
        for tensor in model.graph.initializer:
            if tensor.name in file.parameters:
                value = file.parameters[tensor.name]
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        self._path = file.path
        with self._errors():
            self._evaluator: Any = ReferenceEvaluator(model)

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        with self._errors():
            return list(self._evaluator.run(list(outputs), dict(feed)))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise ExportError for whatever the evaluator raises: a file may hold any model."""
        try:
            yield
        except Exception as error:
            raise ExportError(
                f"{self._path}: onnx's reference evaluator can't run it: {first_line(error):.200}. "
                "Export the file again"
            ) from error
