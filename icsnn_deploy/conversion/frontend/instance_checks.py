"""`isinstance(x, torch.Tensor)` in the code of a model that is being traced.

A proxy stands for a tensor, and models ask. Its class can't pretend to be torch.Tensor: PyTorch's
own argument parser would take it for one and read its memory. So the builtin is replaced for the
time of a trace; code in C does not see that.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from icsnn_deploy.conversion.frontend.shape_aware_proxy import ShapeAwareProxy


@contextmanager
def proxies_are_tensors() -> Iterator[None]:
    """Let proxies of tensors be instances of torch.Tensor, for Python code."""
    original = builtins.isinstance

    def check(value: Any, kinds: Any) -> bool:
        if type(value) is ShapeAwareProxy and _names_tensor(kinds):
            known = value.known
            return known is not None and original(known.value, kinds)
        return original(value, kinds)

    builtins.isinstance = check
    try:
        yield
    finally:
        builtins.isinstance = original


def _names_tensor(kinds: Any) -> bool:
    if type(kinds) is tuple:
        return any(map(_names_tensor, kinds))
    return kinds is torch.Tensor
