"""Check a .pt2 archive before torch.export loads it, and refuse what could run code.

torch.export.load unpickles some records without weights_only, loads compiled libraries, evaluates
the expressions of symbolic sizes and the guards as Python, resolves operator names by getattr
beginning at `torch`, and pastes names into generated source. So only what a program of tensors
needs is accepted: known records, no pickled payloads, aten operators, plain names.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from icsnn_deploy.errors import ConversionError, DataError, first_line

_RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|extra/.*"
    r"|\.format_version|\.storage_alignment"
    r"|models/\w+\.json|data/sample_inputs/\w+\.pt"
    r"|data/weights/(weight_\d+|\w+_weights_config\.json)"
    r"|data/constants/(tensor_\d+|\w+_constants_config\.json)"
)
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_NAME = re.compile(r"[A-Za-z0-9_.-]*")
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims)\.(?!from_file|.*__)\w+(\.\w+)?|torch\.sym_[a-z]+"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|neg|eq|ne|lt|le|gt|ge|and_|or_)"
)
_NUMBER = r"\d{1,19}(?!\d)"  # the look-ahead leaves one way to split a number: no backtracking
_SIZE = re.compile(
    r"(Symbol\('[a-z]+\d+'|Integer\(|Add\(|Mul\(|FloorDiv\(|CleanDiv\(|Mod\(|PythonMod\(|Max\("
    r"|Min\(|(positive|integer|nonnegative|negative|nonzero)=(True|False)|[-(), ]"
    rf"|{_NUMBER})*"
)
_GUARD = re.compile(
    r"(L\['\w+'\]\.size\(\)\[\d+\]|(torch\.sym_)?(max|min)\(|(?!\*\*)[-+*/%(), ]"
    rf"|[<>=!]=|[<>]|and |or |{_NUMBER})*"
)
_CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")
_FREE_TEXT = (  # torch only looks these up or stores them; it never calls or evaluates them
    *("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node"),
    *("custom", "torch_version"),
)


def load_program(path: Path) -> torch.export.ExportedProgram:
    """The exported program in a .pt2 file that passes every check.

    Raises:
        ConversionError: this PyTorch has another kind of .pt2 file.
        DataError: damaged, or it holds what could run code; names the file and what was found.
    """
    try:
        from torch.export.pt2_archive import PT2ArchiveReader
        from torch.export.pt2_archive._package import load_pt2
    except ImportError as error:
        raise ConversionError(
            f"{path}: PyTorch {torch.__version__} can't read it safely; upgrade to 2.8 or newer, "
            "or convert the nn.Module"
        ) from error
    try:
        data = path.read_bytes()  # read once, so that what is checked is what is loaded
        reader = PT2ArchiveReader(io.BytesIO(data))
        problem = next(_problems(reader), None)
        programs = {} if problem else load_pt2(io.BytesIO(data)).exported_programs
    except Exception as error:  # a damaged archive raises nearly any type
        raise DataError(
            f"{path}: not a readable exported program ({first_line(error):.300})"
        ) from error
    if problem:
        raise DataError(
            f"{path}: not loaded, because loading it could run code: {problem}. Convert the "
            "nn.Module with a state dict instead"
        )
    if len(programs) != 1:
        raise DataError(f"{path}: holds {len(programs)} exported programs, one is needed")
    return next(iter(programs.values()))


def _problems(reader: Any) -> Iterator[str]:
    """Everything in the archive that a program of tensors does not need."""
    for name in reader.get_file_names():
        if not _RECORDS.fullmatch(name):
            yield f"record {name[:100]!r}"
        elif name.endswith("_config.json"):
            yield from _payload_problems(name, json.loads(reader.read_bytes(name)))
        elif name.endswith(".json"):
            program = json.loads(reader.read_bytes(name))
            yield from _value_problems("", program)
        elif name.endswith(".pt"):
            try:  # torch reads it again, and without weights_only where this fails
                torch.load(io.BytesIO(reader.read_bytes(name)), weights_only=True)
            except pickle.UnpicklingError:
                yield f"record {name!r} holds more than tensors"


def _payload_problems(name: str, config: Any) -> Iterator[str]:
    for key, payload in config["config"].items():
        if payload["use_pickle"] is not False:
            yield f"{name}: {key[:100]!r} is pickled"
        if not _PAYLOAD.fullmatch(payload["path_name"]):
            yield f"{name}: {key[:100]!r} lies at {payload['path_name'][:100]!r}"


def _value_problems(key: str, value: Any) -> Iterator[str]:
    """Strings that are not plain names where torch would evaluate or paste them."""
    if isinstance(value, dict):
        for inner, entry in value.items():
            if not _NAME.fullmatch(inner):
                yield f"the name {inner[:100]!r}"
            yield from _value_problems(inner, entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _value_problems(key, entry)
    elif isinstance(value, str) and key not in _FREE_TEXT:
        yield from _text_problems(key, value)


def _text_problems(key: str, text: str) -> Iterator[str]:
    if key in ("in_spec", "out_spec"):
        if text and not _plain_tree(json.loads(text)[1]):
            yield f"inputs or outputs in other than tuples, lists and dicts: {text[:100]!r}"
    elif key == "guards_code":
        if not _GUARD.fullmatch(text):
            yield f"the guard {text[:100]!r}"
    elif key == "expr_str":
        if not _SIZE.fullmatch(text):
            yield f"the size {text[:100]!r}"
    elif key == "target":
        if not _TARGET.fullmatch(text):
            yield f"the operator {text[:100]!r}"
    elif not _NAME.fullmatch(text):
        yield f"the name {text[:100]!r}"


def _plain_tree(tree: Any) -> bool:
    """Whether a tree of inputs or outputs names no class that torch would import."""
    context = json.loads(tree["context"]) if tree["context"] else None
    keys = context if isinstance(context, list) else []
    return (
        tree["type"] in _CONTAINERS
        and (context is None or isinstance(context, list))
        and all(isinstance(key, str) for key in keys)
        and all(_plain_tree(child) for child in tree["children_spec"])
    )
