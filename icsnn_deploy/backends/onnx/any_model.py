"""Run any ONNX model, such as a trained network that is to be converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from icsnn_deploy.backends.onnx.onnxruntime_session import RunOptions, RuntimeSession
from icsnn_deploy.backends.onnx.reference_session import ReferenceSession
from icsnn_deploy.backends.onnx.session import Session
from icsnn_deploy.errors import BackendUnavailableError, ExportError
from icsnn_deploy.graph.neuron import Array

_OPTIONS = RunOptions(optimized=False)
"""Rewritten, some models compute something else (docs/reference/upstream.md)."""


@dataclass(frozen=True, kw_only=True)
class _AnyModel:
    path: Path
    parameters: Mapping[str, Array] = field(default_factory=dict)


def run_any_model(
    path: Path, data: bytes, outputs: Sequence[str], feed: Mapping[str, Array]
) -> tuple[str, list[Array]]:
    """The name of the runtime, and the outputs: of ONNX Runtime, or of onnx's own evaluator.

    Args:
        path: of the file, for messages.
        data: the serialized model, with its parameters inside; checked before.
        outputs: names of tensors.
        feed: a batch for each input.

    Raises:
        ExportError: neither can load it, or the one that does can't run it.
    """
    file = _AnyModel(path=path)
    session: Session
    try:
        session, name = RuntimeSession(file, data, _OPTIONS), "ONNX Runtime"
    except (BackendUnavailableError, ExportError):  # not every type has every operator there
        session, name = ReferenceSession(file, data), "onnx's reference evaluator"
    return name, session.run(outputs, feed)
