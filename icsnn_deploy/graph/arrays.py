"""Arrays and tensors as NumPy arrays, without loading PyTorch."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from icsnn_deploy.graph.neuron import Array


def is_tensor(value: object) -> bool:
    """Whether a value is a PyTorch tensor; PyTorch is not loaded for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_numpy(value: Any) -> Array:
    """An array-like value as an array; a tensor of any device, also one that has a gradient."""
    if not is_tensor(value):
        return np.asarray(value)
    tensor = value.detach().cpu()
    # NumPy has no bfloat16.
    array: Array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array
