"""Run any ONNX model, such as a trained network that is to be converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from icsnn_deploy.backends.onnx.onnxruntime_session import RunOptions, RuntimeSession
from icsnn_deploy.backends.onnx.reference_session import ReferenceSession
from icsnn_deploy.backends.onnx.session import Session
from icsnn_deploy.errors import BackendUnavailableError, ExportError
from icsnn_deploy.graph.neuron import Array

_OPTIONS = RunOptions(
    optimized=False,
    remedy="Check the file with onnx.checker.check_model, or upgrade onnxruntime",
)
"""Rewritten, some models compute something else (docs/reference/upstream.md)."""


@dataclass(frozen=True, kw_only=True)
class _AnyModel:
    path: Path
    parameters: Mapping[str, Array] = field(default_factory=dict)


def open_any_model(path: Path, data: bytes) -> tuple[str, Session]:
    """The name of a runtime and the model in it: ONNX Runtime, or else onnx's own evaluator.

    Args:
        path: of the file, for messages.
        data: the serialized model, with its parameters inside; checked before.

    Raises:
        ExportError: neither can load it.
    """
    file = _AnyModel(path=path)
    try:
        return "ONNX Runtime", RuntimeSession(file, data, _OPTIONS)
    except (BackendUnavailableError, ExportError):  # not every type has every operator there
        return "onnx's reference evaluator", ReferenceSession(file, data)
