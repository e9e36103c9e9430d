"""Run the model once on an example: shapes of tensors, and memory that calls share or change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from icsnn_deploy.conversion.frontend.operators import call_path
from icsnn_deploy.errors import ConversionError


@dataclass(frozen=True)
class TensorMeta:
    """Shape and type of a tensor that depends on the model's input."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, kw_only=True)
class CallResult:
    """The result of one call.

    Args:
        value: the result; tensors that depend on the input are replaced by their TensorMeta.
        base: the operand whose memory the result shares.
        same: the result is that operand, in the same shape.
        changed: the operands that the call changed in place.
    """

    value: Any
    base: fx.Node | None = None
    same: bool = False
    changed: tuple[fx.Node, ...] = ()


def record(module: fx.GraphModule, *inputs: torch.Tensor) -> dict[fx.Node, CallResult]:
    """Run the module once on an example; the result of each call.

    Args:
        module: the captured calls.
        inputs: a batch [B, ...] for each placeholder, in order.

    Raises:
        ConversionError: the run failed; names the call.
    """
    recorder = _Recorder(module)
    try:
        with torch.no_grad():
            recorder.run(*(one.detach().clone() for one in inputs))
    except Exception as error:  # running the user's model may raise anything
        node = recorder.current
        reason = str(error).split("\n\nWhile executing")[0].strip() or type(error).__name__
        where = _place(node) if node is not None else "its first call"
        raise ConversionError(
            f"the model fails at {where} on {_described(inputs)}: {reason}. Check that the "
            "calibration data has the shape and type that the model takes"
        ) from error
    return recorder.results


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.results: dict[fx.Node, CallResult] = {}
        self.current: fx.Node | None = None
        self._data: set[fx.Node] = set()  # results that hold tensors computed from the input

    def run_node(self, n: fx.Node) -> Any:
        self.current = n
        operands = {
            source: self.env[source]
            for source in n.all_input_nodes
            if isinstance(self.env[source], torch.Tensor)
        }
        versions = {source: tensor._version for source, tensor in operands.items()}
        result = super().run_node(n)
        holds_tensors = any(isinstance(x, torch.Tensor) for x in pytree.tree_leaves(result))
        from_input = n.op == "placeholder" or any(s in self._data for s in n.all_input_nodes)
        value = result
        if holds_tensors and from_input:
            self._data.add(n)
            value = pytree.tree_map(_describe, result)
        base, same = _shared(result, operands)
        changed = tuple(s for s, tensor in operands.items() if tensor._version != versions[s])
        self.results[n] = CallResult(value=value, base=base, same=same, changed=changed)
        return result


def _described(inputs: tuple[torch.Tensor, ...]) -> str:
    several = "; ".join(f"shape {tuple(one.shape)}, type {one.dtype}" for one in inputs)
    return f"an input of {several}" if len(inputs) == 1 else f"inputs of {several}"


def _place(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else call_path(node, node.name)


def _describe(value: Any) -> Any:
    return TensorMeta(tuple(value.shape), value.dtype) if isinstance(value, torch.Tensor) else value


def _shared(result: Any, operands: dict[fx.Node, torch.Tensor]) -> tuple[fx.Node | None, bool]:
    """The operand whose memory the result shares, and whether it is the very same view of it."""
    if not isinstance(result, torch.Tensor):
        return None, False
    for source, tensor in operands.items():
        if tensor.untyped_storage()._cdata == result.untyped_storage()._cdata:
            same = bool(
                tensor.shape == result.shape
                and tensor.stride() == result.stride()
                and tensor.storage_offset() == result.storage_offset()
            )
            return source, same
    return None, False
