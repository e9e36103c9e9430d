"""Trained PyTorch networks to integrate-and-fire networks, exported and proven equal.

Names are loaded on first use: importing this package imports neither torch nor onnx nor nir.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from icsnn_deploy.version import __version__

if TYPE_CHECKING:
    from icsnn_deploy.backends.recording import Record, Recording
    from icsnn_deploy.backends.reference import ReferenceSimulator
    from icsnn_deploy.bundle.bundle import Bundle, create_bundle, open_bundle
    from icsnn_deploy.conversion.calibration.recipe import Method, Recipe
    from icsnn_deploy.conversion.convert import Conversion, convert
    from icsnn_deploy.conversion.frontend.declared import DeclaredActivation
    from icsnn_deploy.data import Normalization
    from icsnn_deploy.errors import IcsnnError
    from icsnn_deploy.exporters import export, export_into
    from icsnn_deploy.exporters.nir.read.read import from_nir
    from icsnn_deploy.graph.graph import Graph
    from icsnn_deploy.parity.compare import ParityReport, Tolerance, compare
    from icsnn_deploy.parity.verify import verify

_PLACES = {
    "Bundle": "bundle.bundle",
    "create_bundle": "bundle.bundle",
    "open_bundle": "bundle.bundle",
    "Conversion": "conversion.convert",
    "convert": "conversion.convert",
    "DeclaredActivation": "conversion.frontend.declared",
    "Method": "conversion.calibration.recipe",
    "Recipe": "conversion.calibration.recipe",
    "Normalization": "data",
    "IcsnnError": "errors",
    "export": "exporters",
    "export_into": "exporters",
    "Graph": "graph.graph",
    "ParityReport": "parity.compare",
    "Tolerance": "parity.compare",
    "compare": "parity.compare",
    "from_nir": "exporters.nir.read.read",
    "Record": "backends.recording",
    "Recording": "backends.recording",
    "ReferenceSimulator": "backends.reference",
    "verify": "parity.verify",
}

__all__ = [
    "Bundle",
    "Conversion",
    "DeclaredActivation",
    "Graph",
    "IcsnnError",
    "Method",
    "Normalization",
    "ParityReport",
    "Recipe",
    "Record",
    "Recording",
    "ReferenceSimulator",
    "Tolerance",
    "__version__",
    "compare",
    "convert",
    "create_bundle",
    "export",
    "export_into",
    "from_nir",
    "open_bundle",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
