"""What a runtime has to offer to run an exported ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from icsnn_deploy.neuron import Array


class Session(Protocol):
    """A model loaded into a runtime."""

    def run(self, outputs: Sequence[str], feed: Mapping[str, Array]) -> list[Array]:
        """The outputs for the inputs, both by name."""
        ...


OpenSession = Callable[[Path, bytes, Mapping[str, Array]], Session]
"""Loads a serialized model: the path is for messages, the arrays are the parameters that lie
outside the model, by name."""
