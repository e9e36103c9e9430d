"""Store parameters in a second file beside the model, for networks beyond 2 GB."""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from icsnn_deploy.errors import ExportError
from icsnn_deploy.graph.neuron import Array

if TYPE_CHECKING:
    import onnx

ALIGNMENT = 4096  # runtimes map the file into memory page by page
SMALLEST = 1024
"""Smallest parameter, in bytes, that is moved to the second file."""


@dataclass(frozen=True, kw_only=True)
class ExternalData:
    """The second file, as the model's metadata describes it."""

    sha256: str
    size: int


def data_file(path: Path) -> str:
    """Name of the second file, beside the model's."""
    return f"{path.name}.data"


def consume(tensors: list[onnx.TensorProto]) -> Iterator[onnx.TensorProto]:
    """Yield and remove tensors one by one, so that memory does not hold all of them twice."""
    tensors.reverse()
    while tensors:
        yield tensors.pop()


def move_out(tensors: list[onnx.TensorProto], location: str) -> list[bytes]:
    """Replace large parameters by references into the second file; returns its bytes."""
    from onnx import TensorProto

    kept, pieces, offset = [], [], 0
    for tensor in consume(tensors):
        size = len(tensor.raw_data)
        if size < SMALLEST or tensor.data_type != TensorProto.FLOAT:
            kept.append(tensor)
            continue
        pieces += [tensor.raw_data, bytes(-size % ALIGNMENT)]
        # a new message: protobuf keeps the memory of a cleared field
        outside = TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        outside.data_location = TensorProto.EXTERNAL
        for key, value in _place(location, offset, size).items():
            outside.external_data.add(key=key, value=value)
        kept.append(outside)
        offset += size + -size % ALIGNMENT
    tensors.extend(kept)
    return pieces


def data_of(pieces: Sequence[bytes]) -> ExternalData:
    """Description of a second file made of these pieces."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return ExternalData(sha256=digest.hexdigest(), size=sum(map(len, pieces)))


def read_parameters(
    path: Path, model: onnx.ModelProto, expected: ExternalData | None
) -> dict[str, Array]:
    """Read the parameters in the second file, by name; {} where all are in the model.

    The file is read and hashed here, and the hashed bytes are returned: no runtime opens it by
    its name.

    Args:
        path: of the model.
        model: its parameters must lie in the second file exactly where `move_out` puts them.
        expected: the second file according to the model's metadata; None if there is none.

    Raises:
        ExportError: a parameter in another place, or a second file that is missing, damaged or
            changed.
    """
    from onnx import TensorProto

    location, offset, places = data_file(path), 0, {}
    for tensor in model.graph.initializer:
        name = tensor.name[:80]
        if tensor.data_location == TensorProto.DEFAULT and not tensor.external_data:
            continue
        if expected is None:
            raise ExportError(f"parameter {name!r} lies in another file; external data is refused")
        size = 4 * math.prod(tensor.dims)
        entries = [(entry.key, entry.value) for entry in tensor.external_data]
        if (
            tensor.data_location != TensorProto.EXTERNAL
            or tensor.data_type != TensorProto.FLOAT
            or tensor.raw_data
            or any(length < 1 for length in tensor.dims)
            or entries != list(_place(location, offset, size).items())
        ):
            raise ExportError(
                f"parameter {name!r} lies in another place than bytes {offset} to {offset + size} "
                f"of {location}"
            )
        places[tensor.name] = (offset, tuple(tensor.dims))
        offset += size + -size % ALIGNMENT
    if expected is None:
        return {}
    if offset != expected.size:
        raise ExportError(f"its parameters fill {offset} of {expected.size} bytes of {location}")
    data = _bytes(path.with_name(location), expected)
    return {
        name: np.frombuffer(data, "<f4", math.prod(shape), start).reshape(shape)
        for name, (start, shape) in places.items()
    }


def _place(location: str, offset: int, size: int) -> dict[str, str]:
    return {"location": location, "offset": str(offset), "length": str(size)}


def _bytes(path: Path, expected: ExternalData) -> bytes:
    """The bytes of the second file, after checking that it was written with the model."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise ExportError(f"its parameters, {path.name}, are not a regular file")
        if status.st_size != expected.size:
            raise ExportError(f"{path.name} holds {status.st_size} bytes, not {expected.size}")
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(
            f"its parameters, {path.name}, can't be read: {error.strerror or error}"
        ) from error
    if hashlib.sha256(data).hexdigest() != expected.sha256:
        raise ExportError(f"{path.name} does not match its sha256: damaged or changed")
    return data
