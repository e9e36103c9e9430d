"""ONNX Runtime backend: an exported file on exactly the execution provider asked for."""

from __future__ import annotations

import os

from icsnn_deploy.backends import Backend
from icsnn_deploy.backends.onnx.onnxruntime_session import RunOptions, RuntimeSession
from icsnn_deploy.backends.onnx.simulator import OnnxFileSimulator
from icsnn_deploy.backends.recording import Simulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.exporters.onnx.read import OnnxFile


def open_onnxruntime(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's ONNX file, on the provider that the option names; see backends.Opener."""
    path = backend.file_in(bundle)
    return OnnxRuntimeSimulator(path, provider=option or "CPUExecutionProvider")


class OnnxRuntimeSimulator(OnnxFileSimulator):
    """Runs a file that exporters.onnx wrote on ONNX Runtime.

    Args:
        path: the file.
        provider: execution provider by ONNX Runtime's name; never another one than this.
        threads: threads inside an operator; None leaves it to the runtime.
        batch_size: samples run at a time at most.
        time_limit_s: most seconds that running one such part of the batch may take.
        prove: compare with onnx's reference evaluator first, where the network is certified; None:
            where that takes about a second at most.

    Raises:
        DataError: a batch_size below 1.
        ExportError: the file is damaged, hostile, or not one of ours.
        BackendUnavailableError: the runtime or the provider is missing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        provider: str = "CPUExecutionProvider",
        threads: int | None = None,
        batch_size: int = 32,
        time_limit_s: float | None = None,
        prove: bool | None = None,
    ) -> None:
        options = RunOptions(provider=provider, threads=threads, time_limit_s=time_limit_s)

        def open_session(file: OnnxFile, data: bytes) -> RuntimeSession:
            return RuntimeSession(file, data, options)

        super().__init__(path, "onnxruntime", open_session, batch_size=batch_size, prove=prove)
