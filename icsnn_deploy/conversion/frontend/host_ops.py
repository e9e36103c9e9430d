"""The last operations of models that are left to the host: they only reformat the logits."""

from __future__ import annotations

from typing import Any

from icsnn_deploy.conversion.frontend.operators import Call

HOST_OPS = {
    "softmax": "softmax",
    "_softmax": "softmax",
    "log_softmax": "log_softmax",
    "_log_softmax": "log_softmax",
    "softmin": "softmin",
    "sigmoid": "sigmoid",
    "logsigmoid": "logsigmoid",
    "tanh": "tanh",
    "argmax": "argmax",
    "nn.Softmax": "softmax",
    "nn.Softmax2d": "softmax",
    "nn.LogSoftmax": "log_softmax",
    "nn.Softmin": "softmin",
    "nn.Sigmoid": "sigmoid",
    "nn.LogSigmoid": "logsigmoid",
    "nn.Tanh": "tanh",
}
VALUE_BY_VALUE = {"sigmoid", "logsigmoid", "tanh"}
"""Operations that may be moved past those that only move values."""

_WITH_AXIS = {"softmax", "log_softmax", "softmin", "argmax"}


def host_op(call: Call, rank: int) -> str:
    """The name of the operation, "softmax"; empty where it is no such one.

    An axis other than 1, that of the classes, is named: "softmax(dim=2)".

    Args:
        call: of the model.
        rank: number of axes of its operand, with the batch.
    """
    name = HOST_OPS.get(call.operator, "")
    if name not in _WITH_AXIS:
        return name
    dim: Any = call.kwargs.get("dim")
    if dim is None and len(call.args) > 1:
        dim = call.args[1]
    if isinstance(dim, bool) or not isinstance(dim, int):
        return "" if name == "argmax" else name
    if dim % rank == 0 or call.kwargs.get("keepdim"):
        return ""
    return name if dim % rank == 1 else f"{name}(dim={dim % rank})"
