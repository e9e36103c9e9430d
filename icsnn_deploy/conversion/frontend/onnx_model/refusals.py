"""Operators of ONNX models that are not read, with what to do about each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from icsnn_deploy.conversion.frontend.onnx_model.names import node_path, shown
from icsnn_deploy.conversion.frontend.onnx_model.operators import OPERATORS
from icsnn_deploy.errors import Rejection

if TYPE_CHECKING:
    import onnx

OLDEST, LATEST = 7, 25
"""Operator sets that are read."""

_QUANTIZED = (
    "float operators, and constants that are stored as integers",
    "Convert the float model; `icsnn quantize` makes the integer network.",
)
_RECURRENT = ("feed-forward operators", "Replace it by convolutions or linear layers and retrain.")
_CONTROL = (
    "operators without graphs of their own",
    "Export the model in eval mode, with an example that decides the branches.",
)
_CHOICE = (
    "operators whose results depend on no choice among values",
    "Cut the model before it: onnx.utils.extract_model(a, b, inputs, outputs); the host does the "
    "rest.",
)
_STANDARD = (
    "operators of the standard domain",
    "Export the model again without the optimizations of a runtime.",
)
_OTHER = (
    "the operators in docs/guide/onnx_models.md",
    "Export the model with other operators, or cut it before this one: "
    "onnx.utils.extract_model(a, b, inputs, outputs).",
)
_TRAINING = ("a model in eval mode", "Export it after model.eval(), with training=False.")

_REMEDIES = {
    **dict.fromkeys(
        ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"), _QUANTIZED
    ),
    **dict.fromkeys(("ConvInteger", "MatMulInteger", "DequantizeLinear"), _QUANTIZED),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _RECURRENT),
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), _CONTROL),
    **dict.fromkeys(
        ("TopK", "NonMaxSuppression", "NonZero", "Unique", "ScatterND", "RoiAlign"),
        _CHOICE,
    ),
}


def refusals(nodes: Sequence[onnx.NodeProto], constants: set[str]) -> list[Rejection]:
    """Everything in the nodes that is not read.

    Args:
        nodes: of a model, in order.
        constants: tensors that do not depend on its inputs.
    """
    fixed, found, taken = set(constants) | {""}, list[Rejection](), dict[str, None]()
    for node in nodes:
        path = node_path(str(node.name), str(node.output[0]), node.op_type, taken)
        taken[path] = None
        is_fixed = all(name in fixed for name in node.input)
        if is_fixed:
            fixed.update(node.output)
        problem = _problem(node, is_fixed, fixed)
        if problem is not None:
            got, (allowed, remedy) = problem
            found.append(Rejection(node=path, got=got, allowed=allowed, remedy=remedy))
    return found


def _problem(
    node: onnx.NodeProto, is_fixed: bool, fixed: set[str]
) -> tuple[str, tuple[str, str]] | None:
    """What is wrong with a node, what is allowed and what to do."""
    kind = shown(node.op_type)
    if node.domain not in ("", "ai.onnx"):
        return f"{shown(node.domain)}.{kind}", _STANDARD
    if kind in ("QuantizeLinear", "DequantizeLinear") and not is_fixed:
        return f"{kind} of activations", _QUANTIZED
    if kind not in OPERATORS:
        return kind, _REMEDIES.get(kind, _OTHER)
    modes = {attribute.name: attribute.i for attribute in node.attribute}
    if kind == "BatchNormalization" and modes.get("training_mode", 0):
        return "BatchNormalization in training mode", _TRAINING
    return None
