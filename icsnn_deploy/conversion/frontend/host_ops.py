"""The last operations of models that are left to the host: they only reformat the logits."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from icsnn_deploy.conversion.frontend.operators import Call, normalize
from icsnn_deploy.conversion.frontend.rules.table import MOVES

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


def only_returned(node: fx.Node, through_moves: bool, modules: dict[str, nn.Module]) -> bool:
    """Whether a result goes to nothing but the model's outputs, or moves before them."""
    for user in node.users:
        if user.op == "output":
            continue
        alone = user.all_input_nodes == [node]  # beside others it would reach them, too
        moved = through_moves and alone and user.op.startswith("call")
        call = normalize(user, user.args, user.kwargs, modules) if moved else None
        if call is None or call.operator not in MOVES - {"pad"}:
            return False
        if not only_returned(user, through_moves, modules):
            return False
    return bool(node.users)
