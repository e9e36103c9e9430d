"""The table of operators that ONNX models may consist of.

Each function takes the node and its inputs and computes with PyTorch what the operator means in the
file's operator set. Whether that has an integrate-and-fire equivalent is decided by the front end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from icsnn_deploy.conversion.frontend.onnx_model.arithmetic import ARITHMETIC
from icsnn_deploy.conversion.frontend.onnx_model.layers import LAYERS
from icsnn_deploy.conversion.frontend.onnx_model.moves import MOVES
from icsnn_deploy.conversion.frontend.onnx_model.pooling import POOLING
from icsnn_deploy.conversion.frontend.onnx_model.resizing import RESIZING
from icsnn_deploy.conversion.frontend.onnx_model.sizes import SIZES

OPERATORS: dict[str, Callable[..., Any]] = {
    **ARITHMETIC,
    **LAYERS,
    **MOVES,
    **POOLING,
    **RESIZING,
    **SIZES,
}
