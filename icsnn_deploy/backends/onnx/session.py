"""What a runtime has to offer to run an exported ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from icsnn_deploy.exporters.onnx.read import OnnxFile
from icsnn_deploy.graph.neuron import Array


class Session(Protocol):
    """A model loaded into a runtime."""

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        """The outputs for the inputs, both by name."""
        ...


OpenSession = Callable[[OnnxFile, bytes], Session]
"""Loads a serialized model: that of the file, or one made of it that hands out more."""
