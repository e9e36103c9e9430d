"""Lets lava-nc 0.10.0, made for Python 3.10 and NumPy 1, run on later ones.

`apply()` goes before the first `import lava`. Where a fault does not exist, nothing is changed.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import sys
from typing import Any

import numpy as np

_DATACLASS = dataclasses.dataclass


def apply() -> None:
    """Work around what later versions of Python and NumPy refuse in Lava."""
    if sys.version_info >= (3, 11):
        _import_var_model()
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        _patch_reshape_port()


def _import_var_model() -> None:
    """Import the one module of Lava whose dataclasses have unhashable defaults.

    Fault: `x: ByteEncoder = ByteEncoder()` in lava.magma.compiler.var_model. From 3.11 on Python
    takes an unhashable default for a mutable one and raises ValueError.
    """
    dataclasses.dataclass = _lenient_dataclass
    try:
        importlib.import_module("lava.magma.compiler.var_model")
    finally:
        dataclasses.dataclass = _DATACLASS


def _lenient_dataclass(cls: type | None = None, /, **options: Any) -> Any:
    """As dataclasses.dataclass, with the classes of default values made hashable first."""
    if cls is None:
        return functools.partial(_lenient_dataclass, **options)
    for default in vars(cls).values():
        kind: Any = type(default)
        if dataclasses.is_dataclass(kind) and kind.__hash__ is None:
            kind.__hash__ = object.__hash__
    return _DATACLASS(**options)(cls)


def _patch_reshape_port() -> None:
    """Reshape by position.

    Fault: ReshapePort calls np.reshape(newshape=...), which NumPy 2.1 warns of and 2.4 refuses.
    """
    from lava.magma.core.process.ports.ports import ReshapePort

    ReshapePort.get_transform_func_fwd = lambda port: functools.partial(_reshape, port.shape)
    ReshapePort.get_transform_func_bwd = lambda port: functools.partial(_reshape, port.old_shape)


def _reshape(shape: tuple[int, ...], values: Any) -> Any:
    return np.reshape(values, shape)
