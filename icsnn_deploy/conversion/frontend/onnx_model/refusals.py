"""Operators of ONNX models that are not read, with what to do about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from icsnn_deploy.conversion.frontend.onnx_model.names import shown
from icsnn_deploy.conversion.frontend.onnx_model.operators import OPERATORS
from icsnn_deploy.errors import Rejection

if TYPE_CHECKING:
    import onnx
    import torch

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


_FURTHER = (
    "the first result of an operator, and all of Split",
    "Cut the model before what reads it: onnx.utils.extract_model(a, b, inputs, outputs).",
)
_PER_POSITION = (
    "one scale and shift per channel",
    "Export the model again in operator set 9 or later.",
)


def refusals(
    nodes: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, torch.Tensor],
    results: Sequence[str],
) -> list[Rejection]:
    """Everything in the nodes that is not read.

    Args:
        nodes: of a model, in order, by their paths.
        constants: tensors that do not depend on its inputs, by name.
        results: the names of the model's outputs.
    """
    read = {*results, *(name for node in nodes.values() for name in node.input)}
    fixed, found = set(constants) | {""}, list[Rejection]()
    for path, node in nodes.items():
        is_fixed = all(name in fixed for name in node.input)
        if is_fixed:
            fixed.update(node.output)
        problem = _problem(node, is_fixed) or _mode_problem(node, constants)
        further = [name for name in node.output[1:] if name and name in read]
        if problem is None and further and node.op_type != "Split":
            problem = f"a further result of {shown(node.op_type)}", _FURTHER
        if problem is not None:
            got, (allowed, remedy) = problem
            found.append(Rejection(node=path, got=got, allowed=allowed, remedy=remedy))
    return found


def _problem(node: onnx.NodeProto, is_fixed: bool) -> tuple[str, tuple[str, str]] | None:
    """What is wrong with a node, what is allowed and what to do."""
    kind = shown(node.op_type)
    if node.domain not in ("", "ai.onnx"):
        return f"{shown(node.domain)}.{kind}", _STANDARD
    if kind in ("QuantizeLinear", "DequantizeLinear") and not is_fixed:
        return f"{kind} of activations", _QUANTIZED
    if kind not in OPERATORS:
        return kind, _REMEDIES.get(kind, _OTHER)
    return None


def _mode_problem(
    node: onnx.NodeProto, constants: Mapping[str, torch.Tensor]
) -> tuple[str, tuple[str, str]] | None:
    """What is wrong with the mode of a normalization or of a dropout."""
    kind = node.op_type
    modes = {attribute.name: attribute.i for attribute in node.attribute}
    if kind == "BatchNormalization" and modes.get("training_mode", 0):
        return "BatchNormalization in training mode", _TRAINING
    if kind == "BatchNormalization" and not modes.get("spatial", 1):
        return "BatchNormalization with spatial 0", _PER_POSITION
    if kind == "Dropout" and len(node.input) > 2 and node.input[2]:
        training = constants.get(node.input[2])
        if training is not None and bool(training.any()):
            return "Dropout in training mode", _TRAINING
    return None
