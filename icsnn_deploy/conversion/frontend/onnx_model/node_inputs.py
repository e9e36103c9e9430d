"""Check that a node of an ONNX file has the inputs that its operator takes."""

from __future__ import annotations

import inspect
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from icsnn_deploy.conversion.frontend.onnx_model.operators import OPERATORS
from icsnn_deploy.errors import DataError

if TYPE_CHECKING:
    import onnx


def check_inputs(path: Path, name: str, node: onnx.NodeProto, opset: int) -> None:
    """Raise DataError for more or fewer inputs than the operator takes, or for empty ones.

    Args:
        path: of the file.
        name: the node's path.
        node: of an operator in OPERATORS.
        opset: version of the operator set.
    """
    try:
        inspect.signature(OPERATORS[node.op_type]).bind(node, *node.input)
    except TypeError as error:
        raise DataError(
            f"{path}: {node.op_type} {name} has {len(node.input)} inputs, which is no number that "
            "the operator takes. Check the file with onnx.checker.check_model"
        ) from error
    for needed, given in zip_longest(_needed_inputs(node, opset), node.input):
        if needed is not None and not given:
            raise DataError(
                f"{path}: {node.op_type} {name} without the input {needed}, which the operator "
                "needs. Check the file with onnx.checker.check_model"
            )


def _needed_inputs(node: onnx.NodeProto, opset: int) -> list[str | None]:
    """The names of a node's inputs in the operator set, None for those that may be left out."""
    from onnx import defs

    try:
        schema = defs.get_schema(node.op_type, max_inclusive_version=opset)
    except defs.SchemaError:  # an operator of a later set
        return []
    optional = defs.OpSchema.FormalParameterOption.Optional
    names = [None if one.option == optional else one.name for one in schema.inputs]
    further = len(node.input) - len(names)
    return [*names, *names[-1:] * further]  # the last one may stand for any number
