"""The types of ONNX tensors that a model may hold, and those of PyTorch that stand for them."""

from __future__ import annotations

import torch

FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64 = 1, 2, 3, 4, 5, 6, 7
BOOL, FLOAT16, DOUBLE, UINT32, UINT64, BFLOAT16 = 9, 10, 11, 12, 13, 16
"""Values of TensorProto.DataType."""

FLOATING = {FLOAT: 4, DOUBLE: 8, FLOAT16: 2, BFLOAT16: 2}
"""Bytes of each type of real numbers."""

BYTES = {
    **FLOATING,
    **dict.fromkeys((UINT8, INT8, BOOL), 1),
    **dict.fromkeys((UINT16, INT16), 2),
    **dict.fromkeys((UINT32, INT32), 4),
    **dict.fromkeys((UINT64, INT64), 8),
}
"""Bytes of a value of each type that is read."""

TORCH_TYPES = {
    **dict.fromkeys(FLOATING, torch.float32),
    **dict.fromkeys((UINT16, INT32, UINT32, INT64, UINT64), torch.int64),
    UINT8: torch.uint8,
    INT8: torch.int8,
    INT16: torch.int16,
    BOOL: torch.bool,
}
"""Real numbers are float32 in a traced model, whatever a file stores."""

INPUT_TYPES = {FLOAT: "float32", DOUBLE: "float64", FLOAT16: "float16"}
"""Types of the inputs of a model, as NumPy calls them."""
