"""Paths for the nodes of an ONNX model, from the names that exporters give them.

/layer1/layer1.0/conv1/Conv     layer1.0.conv1
model/conv2d/Conv2D             model.conv2d
(no name, output "x:0")         x_0
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    import onnx

_TAKEN = frozenset(dir(nn.Module())) | {"training"}


def node_paths(nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """A path for each node of a model, unique among them."""
    taken: dict[str, None] = {}
    for node in nodes:
        taken[node_path(str(node.name), str(node.output[0]), node.op_type, taken)] = None
    return list(taken)


def node_path(name: str, output: str, kind: str, taken: Container[str]) -> str:
    """A path of identifiers and numbers that is unique and no attribute of a module.

    Args:
        name: of the node; may be empty.
        output: the name of its first result.
        kind: its operator.
        taken: paths of other nodes.
    """
    parts: list[str] = []
    for piece in re.split(r"[/\\]+", name or output):
        if parts and piece.startswith(".".join(parts) + "."):
            parts = []  # exporters repeat the path of the module that encloses
        parts += [part for part in map(_plain, piece.split(".")) if part]
    if len(parts) > 1 and parts[-1].lower().startswith(kind.lower()):
        parts.pop()
    parts = [f"{part}_" if part in _TAKEN else part for part in parts] or [kind]
    path, count = ".".join(parts), 1
    while path in taken:
        count += 1
        path = ".".join([*parts[:-1], f"{parts[-1]}_{count}"])
    return path


def shown(text: str) -> str:
    """A name from a file as a message shows it: one line of at most 60 characters."""
    return text[:60] if text.isprintable() else repr(text[:60])


def _plain(piece: str) -> str:
    return re.sub(r"\W+", "_", piece, flags=re.ASCII).strip("_")[:80]
