"""Let lava-nc 0.10.0, which supports Python 3.10 and NumPy 1, run on later versions.

Call `apply()` before the first `import lava`. Only what fails on the running versions is patched.
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
    """Patch Lava for the running versions of Python and NumPy."""
    if sys.version_info >= (3, 11):
        _import_var_model()
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        _patch_reshape_port()


def _import_var_model() -> None:
    """Import the one module of Lava whose dataclasses have unhashable defaults.

    Fault: `x: ByteEncoder = ByteEncoder()` in lava.magma.compiler.var_model. Since 3.11, Python
    treats an unhashable default as mutable and raises ValueError.
    """
    dataclasses.dataclass = _lenient_dataclass
    try:
        importlib.import_module("lava.magma.compiler.var_model")
    finally:
        dataclasses.dataclass = _DATACLASS


def _lenient_dataclass(cls: type | None = None, /, **options: Any) -> Any:
    """Like dataclasses.dataclass, but make the classes of default values hashable first."""
    if cls is None:
        return functools.partial(_lenient_dataclass, **options)
    for default in vars(cls).values():
        kind: Any = type(default)
        if dataclasses.is_dataclass(kind) and kind.__hash__ is None:
            kind.__hash__ = object.__hash__
    return _DATACLASS(**options)(cls)


def _patch_reshape_port() -> None:
    """Pass the shape to np.reshape by position.

    Fault: ReshapePort calls np.reshape(newshape=...), deprecated in NumPy 2.1, removed in 2.4.
    """
    from lava.magma.core.process.ports.ports import ReshapePort

    ReshapePort.get_transform_func_fwd = lambda port: functools.partial(_reshape, port.shape)
    ReshapePort.get_transform_func_bwd = lambda port: functools.partial(_reshape, port.old_shape)


def _reshape(shape: tuple[int, ...], values: Any) -> Any:
    return np.reshape(values, shape)
