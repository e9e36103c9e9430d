"""The backends a network can be run on, in one table; each is imported when it is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from icsnn_deploy.errors import BackendUnavailableError

if TYPE_CHECKING:
    from icsnn_deploy.bundle import Bundle
    from icsnn_deploy.simulate.recording import Simulator


def _reference(bundle: Bundle, option: str | None) -> Simulator:
    from icsnn_deploy.simulate.reference import ReferenceSimulator

    return ReferenceSimulator(bundle.network())


def _torch(bundle: Bundle, option: str | None) -> Simulator:
    from icsnn_deploy.simulate.torch import TorchSimulator

    return TorchSimulator(bundle.network(), device=option or "cpu")


def _onnx(export_format: str) -> Callable[[Bundle, str | None], Simulator]:
    def open_file(bundle: Bundle, option: str | None) -> Simulator:
        path = bundle.export(export_format)
        from icsnn_deploy.simulate.onnxruntime import OnnxRuntimeSimulator

        return OnnxRuntimeSimulator(path, provider=option or "CPUExecutionProvider")

    return open_file


def _nir(bundle: Bundle, option: str | None) -> Simulator:
    path = bundle.export("nir")
    from icsnn_deploy.simulate.nir import NirSimulator

    return NirSimulator(path)


BACKENDS: dict[str, tuple[Callable[[Bundle, str | None], Simulator], str]] = {
    "reference": (_reference, "NumPy in float64, the oracle"),
    "torch": (_torch, "PyTorch; torch:cuda for another device"),
    "onnxruntime": (_onnx("onnx"), "ONNX Runtime on the unrolled file; onnxruntime:PROVIDER"),
    "onnxruntime-step": (_onnx("onnx-step"), "ONNX Runtime on the one-step file"),
    "nir": (_nir, "the NIR file, read back"),
}


def open_backend(bundle: Bundle, spec: str) -> Simulator:
    """Open a backend, named as `name` or `name:option`, on a bundle.

    Raises:
        BackendUnavailableError: no such backend, or not on this machine.
        BundleError: the export that it runs is missing or damaged.
        ExportError: the export can't be read.
    """
    name, _, option = spec.partition(":")
    if name not in BACKENDS:
        raise BackendUnavailableError(f"no backend {name!r}; there are {', '.join(BACKENDS)}")
    return BACKENDS[name][0](bundle, option or None)
