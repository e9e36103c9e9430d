"""Scan a checkpoint, without PyTorch, for anything but tensors.

torch.load(weights_only=True) makes the final decision. But PyTorch takes seconds and half a
gigabyte to import, and a hostile file should be refused before that.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path

from icsnn_deploy.errors import DataError, first_line

_MODULES = frozenset({"torch", "collections", "numpy", "_codecs"})  # all that tensors need
_BUILTINS = frozenset({"set", "frozenset", "complex", "bytearray", "int", "float", "list", "dict"})
_LARGEST = 1 << 26  # bytes of a structure pickle; tensors lie outside it
_LEGACY_PICKLES = 4  # magic number, protocol, system, structure


def scan_checkpoint(path: Path) -> None:
    """Refuse a checkpoint that names code.

    Raises:
        DataError: names the file and what it would call; or it is missing or not a checkpoint.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        found = [name for pickle in _pickles(path) for name in _globals(pickle)]
    except DataError:
        raise
    except Exception as error:  # zipfile and zlib raise nearly any type
        raise DataError(
            f"{path}: not a readable PyTorch checkpoint ({first_line(error)})"
        ) from error
    foreign = [name for name in found if not _is_known(name)]
    if foreign:
        raise DataError(
            f"{path}: holds more than tensors and was not loaded, because loading it could run "
            f"code (it names {', '.join(dict.fromkeys(foreign))}). Save a state dict: "
            "torch.save(model.state_dict(), path)"
        )


def _pickles(path: Path) -> Iterator[bytes]:
    """The pickles that hold the structure, of a zip archive or of the legacy format."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield file.read(_LARGEST)
        return
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith(".pkl"):
                if entry.file_size > _LARGEST:
                    raise DataError(f"{path}: {entry.filename} declares {entry.file_size} bytes")
                yield archive.read(entry)


def _globals(data: bytes) -> Iterator[str]:
    """Names that a pickle, or several in sequence, would import, each as "module name"."""
    stream = io.BytesIO(data)
    for _ in range(_LEGACY_PICKLES):
        texts: list[str] = []
        try:
            for opcode, argument, _position in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    yield str(argument)
                elif opcode.name == "STACK_GLOBAL":
                    yield " ".join(texts[-2:])
                elif isinstance(argument, str):
                    texts.append(argument)
        except Exception:  # genops raises nearly any type; torch refuses a damaged pickle later
            return


def _is_known(name: str) -> bool:
    module, _, attribute = name.partition(" ")
    if module in ("builtins", "__builtin__"):
        return attribute in _BUILTINS
    return module.partition(".")[0] in _MODULES
