"""The backends a network can be run on, in one table; each is imported when it is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from icsnn_deploy.errors import BackendUnavailableError

if TYPE_CHECKING:
    from icsnn_deploy.backends.recording import Simulator
    from icsnn_deploy.bundle.bundle import Bundle


def _reference(bundle: Bundle, option: str | None) -> Simulator:
    from icsnn_deploy.backends.reference import ReferenceSimulator

    return ReferenceSimulator(bundle.network())


def _torch(bundle: Bundle, option: str | None) -> Simulator:
    from icsnn_deploy.backends.torch.simulator import TorchSimulator

    return TorchSimulator(bundle.network(), device=option or "cpu")


def _torch_double(bundle: Bundle, option: str | None) -> Simulator:
    import torch

    from icsnn_deploy.backends.torch.simulator import TorchSimulator

    return TorchSimulator(bundle.network(), device=option or "cpu", dtype=torch.float64)


def _onnxruntime(bundle: Bundle, option: str | None) -> Simulator:
    return _run_file(bundle.export("onnx"), option)


def _onnxruntime_step(bundle: Bundle, option: str | None) -> Simulator:
    return _run_file(bundle.export("onnx-step"), option)


def _run_file(path: Path, provider: str | None) -> Simulator:
    from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator

    return OnnxRuntimeSimulator(path, provider=provider or "CPUExecutionProvider")


def _onnx_reference(bundle: Bundle, option: str | None) -> Simulator:
    path = bundle.export("onnx")
    from icsnn_deploy.backends.onnx.reference import OnnxReferenceSimulator

    return OnnxReferenceSimulator(path)


def _openvino(bundle: Bundle, option: str | None) -> Simulator:
    path = bundle.export("onnx")
    from icsnn_deploy.backends.onnx.openvino import OpenVinoSimulator

    return OpenVinoSimulator(path, device=option or "CPU")


def _nir(export: str, bundle: Bundle, option: str | None) -> Simulator:
    path = bundle.export(export)
    from icsnn_deploy.exporters.nir.read.read import NirSimulator

    return NirSimulator(path)


def _reader(reader: str, export: str, bundle: Bundle, option: str | None) -> Simulator:
    path = bundle.export(export)
    from icsnn_deploy.readers.simulator import ReaderSimulator

    return ReaderSimulator(path, reader)


def _lava_float(bundle: Bundle, option: str | None) -> Simulator:
    from icsnn_deploy.lava.simulator import LavaSimulator, connections_of

    return LavaSimulator(bundle.network(), arithmetic="float", connections=connections_of(option))


def _lava_fixed(bundle: Bundle, option: str | None) -> Simulator:
    from icsnn_deploy.lava.simulator import LavaSimulator, connections_of

    return LavaSimulator(bundle.network(), arithmetic="fixed", connections=connections_of(option))


def _lava_stock(bundle: Bundle, option: str | None) -> Simulator:
    from icsnn_deploy.lava.simulator import LavaSimulator, arithmetic_of

    return LavaSimulator(bundle.network(), arithmetic=arithmetic_of(option), neurons="lif")


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A way to run a bundle's network, and the export that it runs, if any."""

    open: Callable[[Bundle, str | None], Simulator]
    export: str | None = None
    about: str
    takes_option: bool = True
    on_torch: bool = False  # its option is a torch device


def _reader_backends() -> dict[str, Backend]:
    """Each NIR reader, for the portable file and for the one with a relay."""
    titles = {
        "snntorch": "snnTorch",
        "spikingjelly": "SpikingJelly",
        "norse": "norse",
        "sinabs": "sinabs",
        "nirtorch": "nirtorch",
    }
    files = {
        "": ("nir-portable", "the portable NIR file"),
        "-relay": ("nir-relay", "the NIR file with a relay"),
    }
    return {
        f"nir:{reader}{ending}": Backend(
            open=partial(_reader, reader, export), export=export, about=f"{about} in {title}"
        )
        for reader, title in titles.items()
        for ending, (export, about) in files.items()
    }


BACKENDS: dict[str, Backend] = {
    "reference": Backend(
        open=_reference, takes_option=False, about="NumPy, float64 or int64: the oracle"
    ),
    "torch": Backend(open=_torch, about="PyTorch; torch:cuda for another device", on_torch=True),
    "torch-float64": Backend(
        open=_torch_double, about="PyTorch in double precision", on_torch=True
    ),
    "onnxruntime": Backend(
        open=_onnxruntime, export="onnx", about="ONNX Runtime; onnxruntime:PROVIDER"
    ),
    "onnxruntime-step": Backend(
        open=_onnxruntime_step, export="onnx-step", about="ONNX Runtime, step by step"
    ),
    "onnx-reference": Backend(
        open=_onnx_reference,
        export="onnx",
        takes_option=False,
        about="onnx's own evaluator, slow",
    ),
    "openvino": Backend(open=_openvino, export="onnx", about="OpenVINO; openvino:DEVICE"),
    "nir": Backend(
        open=partial(_nir, "nir"),
        export="nir",
        takes_option=False,
        about="the NIR file, read back",
    ),
    "nir-portable": Backend(
        open=partial(_nir, "nir-portable"),
        export="nir-portable",
        takes_option=False,
        about="the portable NIR file, read back",
    ),
    "nir-relay": Backend(
        open=partial(_nir, "nir-relay"),
        export="nir-relay",
        takes_option=False,
        about="the NIR file with a relay, read back",
    ),
    **_reader_backends(),
    "lava-float": Backend(
        open=_lava_float, about="Lava in double precision; :stock or :batched connections"
    ),
    "lava-fixed": Backend(
        open=_lava_fixed, about="Lava in 24-bit integers; :stock or :batched connections"
    ),
    "lava-stock": Backend(
        open=_lava_stock, about="Lava's own LIF and connections; :fixed for its bit-accurate models"
    ),
}


def find_backend(spec: str) -> tuple[Backend, str | None]:
    """The backend and the option of `name` or `name:option`; raises BackendUnavailableError."""
    if spec in BACKENDS:  # NIR readers are named nir:READER
        return BACKENDS[spec], None
    name, _, option = spec.partition(":")
    if name not in BACKENDS or not option or not BACKENDS[name].takes_option:
        raise BackendUnavailableError(f"no backend {spec!r}; there are {', '.join(BACKENDS)}")
    return BACKENDS[name], option


def open_backend(bundle: Bundle, spec: str) -> Simulator:
    """Open a backend, named as `name` or `name:option`, on a bundle.

    Raises:
        BackendUnavailableError: no such backend, or not on this machine.
        BundleError: the export that it runs is missing or damaged.
        ExportError: the export can't be read.
    """
    backend, option = find_backend(spec)
    return backend.open(bundle, option)
