"""OpenVINO backend: an exported ONNX file in an independent third runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icsnn_deploy.backends import Backend
from icsnn_deploy.backends.onnx.proof import is_certified
from icsnn_deploy.backends.onnx.simulator import OnnxFileSimulator
from icsnn_deploy.backends.recording import Simulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import BackendUnavailableError, ExportError, first_line
from icsnn_deploy.exporters.onnx.read import OnnxFile, parse
from icsnn_deploy.graph.neuron import Array

if TYPE_CHECKING:
    import onnx


def open_openvino(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's ONNX file, on the device that the option names; see backends.Opener."""
    return OpenVinoSimulator(backend.file_in(bundle), device=option or "CPU")


class OpenVinoSimulator(OnnxFileSimulator):
    """Runs a file that exporters.onnx wrote on OpenVINO, in float32.

    Args:
        path: the file.
        device: OpenVINO's name of the device.
        batch_size: samples run at a time.
        prove: compare with onnx's reference evaluator first, if the network is certified; None:
            only if that is cheap, or if OpenVINO is known to fail on such a file.

    Raises:
        ExportError: the file is damaged, OpenVINO can't compile it, or runs it wrongly.
        BackendUnavailableError: OpenVINO or the device is missing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: str = "CPU",
        batch_size: int = 32,
        prove: bool | None = None,
    ) -> None:
        def open_session(file: OnnxFile, data: bytes) -> _OpenVinoSession:
            return _OpenVinoSession(file.path, data, device)

        super().__init__(path, "openvino", open_session, batch_size=batch_size, prove=prove)

    def _refuse(self) -> None:
        """Raise ExportError for a file that is unsafe here, or unproven and known to fail."""
        path = self.file.path
        if self.file.parameters:
            raise ExportError(
                f"{path}: OpenVINO would open the second file, with the parameters, by its name, "
                "unchecked; use onnxruntime"
            )
        if len(self.file.input_shape) == 2:
            raise ExportError(
                f"{path}: OpenVINO crashes on some networks over signals (one spatial axis); "
                "use onnxruntime"
            )

    def _is_proven(self, wanted: bool | None) -> bool:
        fault = _known_fault(self.file)
        if fault is None:
            return super()._is_proven(wanted)
        if wanted is False or not is_certified(self.file):
            raise ExportError(f"{self.file.path}: {fault}")
        return True


def _known_fault(file: OnnxFile) -> str | None:
    """What OpenVINO 2026.4.1 was seen to compute wrongly; two other runtimes run these files."""
    if file.metadata.layout == "step":
        # It fuses a convolution with the sum after it, and loses the convolution's result if the
        # other term is an input of the model, as the potential is here.
        return "OpenVINO drops currents of the one-step file; give it the unrolled one"
    for node in parse(file.data).graph.node:
        if node.op_type == "Conv" and _is_moved(node):
            # It moves the stride to the operator before the convolution, and loses the padding.
            return (
                f"OpenVINO computes {node.name[:80]!r} wrongly, a 1x1 convolution with stride and "
                "padding; use onnxruntime"
            )
    return None


def _is_moved(conv: onnx.NodeProto) -> bool:
    sizes = {entry.name: tuple(entry.ints) for entry in conv.attribute}
    # What is absent has onnx's default: no stride, no padding.
    names = ("kernel_shape", "strides", "pads")
    kernel, stride, pads = (max(sizes.get(name, ()), default=0) for name in names)
    return bool(kernel == 1 and stride > 1 and pads > 0)


class _OpenVinoSession:
    def __init__(self, path: Path, data: bytes, device: str) -> None:
        self._path = path
        core = _core()
        if device not in core.available_devices:
            raise BackendUnavailableError(
                f"OpenVINO has no device {device!r} here; it has {core.available_devices}"
            )
        # Its default precision is bfloat16 on some processors: float networks would lose spikes.
        precision = {"INFERENCE_PRECISION_HINT": "f32"}
        try:
            self._model: Any = core.compile_model(core.read_model(data), device, precision)
        except RuntimeError as error:
            raise ExportError(f"{path}: OpenVINO can't compile it: {first_line(error)}") from error

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        """Run a batch; a single sample is run as two.

        Of one sample [1, C, 1, 1], OpenVINO adds convolutions to a constant [C, 1, 1] in place,
        because it is as large, and loses their result.
        """
        axes = {name: _batch_axis(self._model.input(name)) for name in feed}
        if any(axis is None or feed[name].shape[axis] != 1 for name, axis in axes.items()):
            results = self._infer(feed)
            return [np.asarray(results[name]) for name in outputs]
        results = self._infer({name: np.repeat(feed[name], 2, axis) for name, axis in axes.items()})
        ends = {name: _batch_axis(self._model.output(name)) for name in outputs}
        return [_first_of_two(np.asarray(results[name]), ends[name] or 0) for name in outputs]

    def _infer(self, feed: Mapping[str, Array]) -> Any:
        try:
            return self._model(dict(feed), share_inputs=False, share_outputs=False)
        except RuntimeError as error:
            raise ExportError(
                f"{self._path}: OpenVINO can't run it: {first_line(error)}"
            ) from error


@cache
def _core() -> Any:
    """OpenVINO, as long as the process runs.

    Its CPU plugin gives the thread that loads it another stack for signals, and frees that stack
    when it is unloaded. In another thread, where a garbage collection may run, the first thread
    keeps the freed stack, and the next signal (Ctrl-C, an alarm) ends the process.
    """
    try:
        import openvino
    except ImportError as error:
        raise BackendUnavailableError(
            "OpenVINO is not installed; run: pip install 'icsnn-deploy[openvino]'"
        ) from error
    return openvino.Core()


def _batch_axis(port: Any) -> int | None:
    """The axis of an input or output whose length is free; None if there is no single one."""
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return None
    free = [axis for axis, length in enumerate(shape) if length.is_dynamic]
    return free[0] if len(free) == 1 else None


def _first_of_two(values: Array, axis: int) -> Array:
    """The first sample of results whose axis is 2 samples, or T steps of 2 samples each."""
    return values.take(range(0, values.shape[axis], 2), axis)
