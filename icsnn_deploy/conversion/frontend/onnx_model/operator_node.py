"""What a node of an ONNX model says: its operator, the version of it, and its attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class OperatorNode:
    """One node, as the functions of `operators` take it.

    Args:
        kind: the operator, "Conv".
        path: the node's name as the path of a module, "layer1.0.conv1".
        opset: the version of the operator set that the file uses.
        attributes: numbers, strings, and lists of numbers, by name.
        outputs: how many results are used, up to the last one that is.
    """

    kind: str
    path: str
    opset: int
    attributes: Mapping[str, Any]
    outputs: int = 1

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)

    def integers(self, name: str) -> list[int] | None:
        """An attribute that is a list of integers; None if it is not given."""
        value = self.attributes.get(name)
        return None if value is None else [int(one) for one in value]
