"""The interface of a runtime that runs an exported ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from icsnn_deploy.exporters.onnx.read import OnnxFile
from icsnn_deploy.graph.neuron import Array


class ModelFile(Protocol):
    """A model that a runtime loads: its path, for messages, and its parameters in other files."""

    @property
    def path(self) -> Path: ...

    @property
    def parameters(self) -> Mapping[str, Array]: ...


class Session(Protocol):
    """A model loaded into a runtime."""

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        """Compute the named outputs for the named inputs."""
        ...


OpenSession = Callable[[OnnxFile, bytes], Session]
"""Loads a serialized model: that of the file, or one with added outputs."""
