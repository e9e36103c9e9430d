"""The table of backends; the module of a backend is imported when it is opened."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from icsnn_deploy.bundle.bundle import Bundle, as_bundle
from icsnn_deploy.errors import BackendUnavailableError

if TYPE_CHECKING:
    from icsnn_deploy.backends.recording import Simulator
    from icsnn_deploy.bundle.bundle import Bundle


class Opener(Protocol):
    """Opens a bundle's network, or the export that a backend runs, as a simulator.

    Args:
        bundle: the bundle.
        backend: the entry of the table.
        option: the part after the colon of `name:option`; None if there is none.
    """

    def __call__(self, bundle: Bundle, backend: Backend, option: str | None) -> Simulator: ...


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to run a bundle's network.

    Args:
        opener: "module:callable", relative to icsnn_deploy; the callable is an Opener.
        about: one line of help.
        export: name of the export format that it runs; None: it runs the graph itself.
        variant: tells the opener which of its backends this is.
        takes_option: whether `name:option` is allowed.
        on_torch: whether the option is a torch device.
    """

    opener: str
    about: str
    export: str | None = None
    variant: str = ""
    takes_option: bool = True
    on_torch: bool = False

    def file_in(self, bundle: Bundle) -> Path:
        """Path of the exported file that it runs; raises BundleError if the bundle has none."""
        assert self.export is not None, f"{self.opener} runs a file: its entry names the export"
        return bundle.export(self.export)


def _nir_readers() -> dict[str, Backend]:
    """The backends of the NIR readers: each runs the portable file and the relay file."""
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
            opener="readers.simulator:open_reader",
            export=export,
            variant=reader,
            about=f"{about} in {title}",
        )
        for reader, title in titles.items()
        for ending, (export, about) in files.items()
    }


BACKENDS: dict[str, Backend] = {
    "reference": Backend(
        opener="backends.reference:open_reference",
        takes_option=False,
        about="NumPy, float64 or int64: the oracle",
    ),
    "torch": Backend(
        opener="backends.torch.simulator:open_torch",
        about="PyTorch; torch:cuda for another device",
        on_torch=True,
    ),
    "torch-float64": Backend(
        opener="backends.torch.simulator:open_torch",
        variant="float64",
        about="PyTorch in double precision",
        on_torch=True,
    ),
    "onnxruntime": Backend(
        opener="backends.onnx.onnxruntime:open_onnxruntime",
        export="onnx",
        about="ONNX Runtime; onnxruntime:PROVIDER",
    ),
    "onnxruntime-step": Backend(
        opener="backends.onnx.onnxruntime:open_onnxruntime",
        export="onnx-step",
        about="ONNX Runtime, step by step",
    ),
    "onnx-reference": Backend(
        opener="backends.onnx.reference:open_onnx_reference",
        export="onnx",
        takes_option=False,
        about="onnx's own evaluator, slow",
    ),
    "openvino": Backend(
        opener="backends.onnx.openvino:open_openvino",
        export="onnx",
        about="OpenVINO; openvino:DEVICE",
    ),
    "nir": Backend(
        opener="backends.nir:open_nir",
        export="nir",
        takes_option=False,
        about="the NIR file, read back",
    ),
    "nir-portable": Backend(
        opener="backends.nir:open_nir",
        export="nir-portable",
        takes_option=False,
        about="the portable NIR file, read back",
    ),
    "nir-relay": Backend(
        opener="backends.nir:open_nir",
        export="nir-relay",
        takes_option=False,
        about="the NIR file with a relay, read back",
    ),
    **_nir_readers(),
    "c": Backend(
        opener="backends.c_program:open_c",
        export="c",
        takes_option=False,
        about="the exported C program, compiled here; integer networks",
    ),
    "event-driven": Backend(
        opener="backends.event_driven.simulator:open_event_driven",
        about="no time steps, one event at a time, as on Speck; :SEED of their order",
    ),
    "lava-float": Backend(
        opener="lava.simulator:open_lava",
        variant="float",
        about="Lava in double precision; :stock or :batched connections",
    ),
    "lava-fixed": Backend(
        opener="lava.simulator:open_lava",
        variant="fixed",
        about="Lava in 24-bit integers; :stock or :batched connections",
    ),
    "lava-stock": Backend(
        opener="lava.simulator:open_lava_stock",
        about="Lava's own LIF and connections; :fixed for its bit-accurate models",
    ),
    "brian2": Backend(
        opener="tools.simulator:open_tool",
        variant="brian2",
        takes_option=False,
        about="Brian2, with NumPy code",
    ),
    "sanafe": Backend(
        opener="tools.simulator:open_tool",
        variant="sanafe",
        takes_option=False,
        about="SANA-FE's model of Loihi, which icsnn cost uses",
    ),
    "nengo-loihi": Backend(
        opener="tools.simulator:open_tool",
        variant="nengo-loihi",
        about="nengo-loihi's emulator of Loihi 1; :decay-0 for the least decay its validator takes",
    ),
}


def find_backend(spec: str) -> tuple[Backend, str | None]:
    """Parse `name` or `name:option`; raises BackendUnavailableError for an unknown backend."""
    if spec in BACKENDS:  # NIR readers are named nir:READER
        return BACKENDS[spec], None
    name, _, option = spec.partition(":")
    if name not in BACKENDS or not option or not BACKENDS[name].takes_option:
        several = "; give each one with an option of its own" if "," in spec else ""
        raise BackendUnavailableError(
            f"no backend {spec!r}; there are {', '.join(BACKENDS)}{several}"
        )
    return BACKENDS[name], option


def open_backend(bundle: Bundle | str | os.PathLike[str], spec: str) -> Simulator:
    """Open a backend, named as `name` or `name:option`, on a bundle or the path of one.

    Raises:
        BackendUnavailableError: unknown, or not available on this machine.
        BundleError: the export that it runs is missing or damaged.
        ExportError: the export can't be read.
    """
    bundle = as_bundle(bundle)
    backend, option = find_backend(spec)
    module, function = backend.opener.split(":")
    opener: Opener = getattr(import_module(f"icsnn_deploy.{module}"), function)
    return opener(bundle, backend, option)
