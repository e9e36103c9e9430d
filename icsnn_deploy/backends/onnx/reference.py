"""onnx-reference backend: onnx's own evaluator, in NumPy; slow, but independent of all runtimes."""

from __future__ import annotations

import os

from icsnn_deploy.backends import Backend
from icsnn_deploy.backends.onnx.reference_session import ReferenceSession
from icsnn_deploy.backends.onnx.simulator import OnnxFileSimulator
from icsnn_deploy.backends.recording import Simulator
from icsnn_deploy.bundle.bundle import Bundle


def open_onnx_reference(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's ONNX file; see backends.Opener."""
    return OnnxReferenceSimulator(backend.file_in(bundle))


class OnnxReferenceSimulator(OnnxFileSimulator):
    """Runs a file that exporters.onnx wrote on onnx.reference.ReferenceEvaluator."""

    def __init__(self, path: str | os.PathLike[str], *, batch_size: int = 32) -> None:
        super().__init__(
            path, "onnx-reference", ReferenceSession, batch_size=batch_size, prove=False
        )
