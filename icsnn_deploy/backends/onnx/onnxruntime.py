"""ONNX Runtime backend: an exported file on the chosen execution provider, never on another."""

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
        provider: ONNX Runtime's name of the execution provider; no other one is used.
        threads: threads inside an operator; None: the runtime's default.
        batch_size: largest number of samples that are run at a time.
        time_limit_s: longest time for one such part of the batch.
        prove: compare with onnx's reference evaluator first, if the network is certified; None:
            only if that takes about a second at most.

    Raises:
        DataError: a batch_size below 1.
        ExportError: the file is damaged, hostile, or was not written by this package.
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
