"""Constants of an ONNX model: those in the file, and those in files beside it."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.onnx_model.types import BYTES, TORCH_TYPES
from icsnn_deploy.errors import DataError

if TYPE_CHECKING:
    import onnx

_MOST_AXES = 16


def inside(path: Path, stored: onnx.TensorProto, budget: list[int]) -> None:
    """Bring the values of a constant that lie in another file into the message, in place.

    Args:
        path: of the model; the other file must lie in its folder, or in one below it.
        stored: the constant.
        budget: bytes that may still be read, as its one entry.

    Raises:
        DataError: names the constant and what is wrong with the place of its values.
    """
    from onnx import TensorProto

    if stored.data_location != TensorProto.EXTERNAL:
        return
    entries = {entry.key: entry.value for entry in stored.external_data}
    where = f"{path}: constant {stored.name[:80]!r}"
    location = PurePosixPath(str(entries.get("location", "")))
    plain = str(location).isprintable() and not location.is_absolute()
    if not plain or not location.parts or ".." in location.parts:
        raise DataError(
            f"{where} lies in {str(location)[:80]!r}: a file beside the model is needed"
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
    except ValueError as error:
        raise DataError(f"{where}: its place in {location} is not given in numbers") from error
    size = _values(where, stored) * BYTES[stored.data_type]
    if length not in (-1, size) or offset < 0:
        raise DataError(f"{where}: {length} bytes at {offset} of {location}, {size} are needed")
    budget[0] -= size
    if budget[0] < 0:
        raise DataError(f"{where}: constants of more than 2 GB in all; export a smaller model")
    stored.raw_data = _read(where, path.parent, location, offset, size)
    stored.data_location = TensorProto.DEFAULT
    del stored.external_data[:]


def tensor(path: Path, stored: onnx.TensorProto) -> torch.Tensor:
    """The values of a constant: float32 for real numbers, integers and booleans as they are.

    Raises:
        DataError: a type that is not read, or a shape that the values do not fill.
    """
    from onnx import numpy_helper

    where = f"{path}: constant {stored.name[:80]!r}"
    count = _values(where, stored)
    if stored.HasField("raw_data"):
        held = len(stored.raw_data) // BYTES[stored.data_type]
        whole = len(stored.raw_data) == held * BYTES[stored.data_type]
    else:
        fields = (stored.float_data, stored.double_data, stored.int32_data)
        held = max(map(len, (*fields, stored.int64_data, stored.uint64_data)))
        whole = True
    if held != count or not whole:
        raise DataError(
            f"{where} of shape {list(stored.dims)[:8]} holds {held} values, {count} are needed"
        )
    values = np.array(numpy_helper.to_array(stored))
    kind = TORCH_TYPES[stored.data_type]
    if kind.is_floating_point:
        values = values.astype(np.float32)
    elif kind == torch.int64:
        values = values.astype(np.int64)
    return torch.from_numpy(values)


def _values(where: str, stored: onnx.TensorProto) -> int:
    """How many values the shape of a constant has."""
    if stored.data_type not in BYTES:
        raise DataError(
            f"{where} has the type {stored.data_type}: real numbers of 16 to 64 bits, integers of "
            "8 to 64 and booleans are read"
        )
    if len(stored.dims) > _MOST_AXES or any(size < 0 for size in stored.dims):
        raise DataError(f"{where} of shape {list(stored.dims)[:8]}: no shape of a tensor")
    return math.prod(stored.dims)


def _read(where: str, folder: Path, location: PurePosixPath, offset: int, size: int) -> bytes:
    """Bytes of a regular file in a folder; links that lead out of it are refused."""
    file = folder.joinpath(*location.parts)
    try:
        resolved = file.resolve(strict=True)
        if not resolved.is_relative_to(folder.resolve()):
            raise DataError(f"{where}: {location} leads out of the model's folder")
        with open(os.open(resolved, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise DataError(f"{where}: {location} is not a regular file")
            if os.fstat(opened.fileno()).st_size < offset + size:
                raise DataError(f"{where}: {location} ends before byte {offset + size}")
            opened.seek(offset)
            return opened.read(size)
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where}: {location} can't be read ({error})") from error
