"""An ONNX Runtime session on the chosen provider, with failures raised as this package's errors."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from icsnn_deploy.backends.onnx.session import ModelFile
from icsnn_deploy.errors import BackendUnavailableError, ExportError, first_line
from icsnn_deploy.graph.neuron import Array

CPU = "CPUExecutionProvider"

# TF32 rounds inputs to 10 bits, which would change spikes of float networks.
_PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}

_MEMORY = ("memory", "bad_alloc", "allocat")
"""Words of the runtime's messages where it lacks memory."""

_FATAL_ONLY = 4  # ONNX Runtime also logs each error that it raises on stderr


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a session runs.

    Args:
        provider: the runtime's name of the device.
        threads: None leaves the number to the runtime.
        time_limit_s: of one run.
        optimized: let the runtime rewrite the model first.
        remedy: what to do with a file that the runtime refuses.
    """

    provider: str = CPU
    threads: int | None = None
    time_limit_s: float | None = None
    optimized: bool = True
    remedy: str = "Export the network again, or upgrade onnxruntime"


class RuntimeSession:
    """One model loaded into ONNX Runtime.

    Raises:
        ExportError: the runtime can't load or run the model.
        BackendUnavailableError: the runtime or the provider is missing.
    """

    def __init__(self, file: ModelFile, data: bytes, options: RunOptions) -> None:
        self._path, self._options = file.path, options
        self._parameters = file.parameters  # the runtime reads them from here as long as it lives
        runtime = _runtime(options.provider)
        self._runtime = runtime
        settings = runtime.SessionOptions()
        settings.log_severity_level = _FATAL_ONLY
        if not options.optimized:
            level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
            settings.graph_optimization_level = level
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        if file.parameters:
            # As arrays that were checked, so that the runtime opens no file by name.
            values = [runtime.OrtValue.ortvalue_from_numpy(p) for p in file.parameters.values()]
            settings.add_external_initializers(list(file.parameters), values)
        if options.provider != CPU:
            # Without it a missing device silently becomes the CPU, even with fallback disabled.
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        chosen = (options.provider, _PROVIDER_OPTIONS.get(options.provider, {}))
        try:
            self._session = runtime.InferenceSession(data, settings, providers=[chosen])
        except Exception as error:  # the runtime's exceptions share no base but this
            if options.provider == CPU:
                raise ExportError(
                    f"{file.path}: ONNX Runtime {runtime.__version__} can't load it: "
                    f"{first_line(error):.300}. {options.remedy}"
                ) from error
            raise _no_provider(options.provider, first_line(error)[:300]) from error
        used = self._session.get_providers()
        if not used or used[0] != options.provider:
            raise _no_provider(options.provider, f"the session would run on {', '.join(used)}")

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        """Compute the named outputs for the named inputs."""
        settings = self._runtime.RunOptions()
        settings.log_severity_level = _FATAL_ONLY
        limit = self._options.time_limit_s
        expired = threading.Event()

        def stop() -> None:
            expired.set()
            settings.terminate = True

        timer = threading.Timer(limit, stop) if limit is not None else None
        if timer:
            timer.start()
        try:
            return list(self._session.run(list(outputs), dict(feed), settings))
        except Exception as error:  # the runtime's exceptions share no base but this
            why = f"not done within {limit} s" if expired.is_set() else first_line(error)[:300]
            is_size = expired.is_set() or any(word in why.lower() for word in _MEMORY)
            remedy = "Try a smaller batch_size" if is_size else self._options.remedy
            raise ExportError(
                f"{self._path}: ONNX Runtime can't run it: {why}. {remedy}"
            ) from error
        finally:
            if timer:
                timer.cancel()


def _runtime(provider: str) -> Any:
    """Import onnxruntime; raises BackendUnavailableError if it or the provider is missing."""
    try:
        import onnxruntime
    except ImportError as error:
        extra = "cpu" if provider == CPU else "gpu"
        raise BackendUnavailableError(
            f"onnxruntime is not installed; run: pip install 'icsnn-deploy[{extra}]'"
        ) from error
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise _no_provider(provider, f"this installation offers {', '.join(available)}")
    return onnxruntime


def _no_provider(provider: str, why: str) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"ONNX Runtime can't use {provider} here ({why}). For a GPU run: pip uninstall "
        "onnxruntime; pip install 'icsnn-deploy[gpu]'. Nothing was run on the CPU instead"
    )
