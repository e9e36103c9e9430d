"""Load a PyTorch model: a callable in a module or file, with weights; or a .pt2 program."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from icsnn_deploy.conversion.frontend.checkpoint_scan import scan_checkpoint
from icsnn_deploy.conversion.frontend.exported_program import load_program
from icsnn_deploy.conversion.frontend.onnx_model.read import read_onnx
from icsnn_deploy.conversion.frontend.state_dict import State, check_states, find_states, fit_state
from icsnn_deploy.errors import ConversionError, DataError, first_line, lines, text_of
from icsnn_deploy.user_code import load_callable, running


def load_model(
    spec: str, weights: Path | None = None, note: Callable[[str], None] | None = None
) -> nn.Module | ExportedProgram:
    """The model in eval mode.

    Args:
        spec: `package.module:callable`, `path/to/file.py:callable`, `program.pt2` or `model.onnx`.
            The callable is called without arguments and returns an nn.Module.
        weights: a state dict, or a checkpoint with one under "state_dict", "model", "net", "ema"
            or the like, read without running code. Prefixes such as "module." and "_orig_mod." are
            cut or added where all keys fit then. Not with .pt2 and .onnx, which hold their own.
        note: called with a sentence where the weights may be random: none are given, and the
            callable drew random numbers.

    Raises:
        ConversionError: names what could not be found, loaded or called.
        DataError: the weights can't be read, or do not fit the model.
    """
    if spec.endswith((".pt2", ".onnx")):
        if weights is not None:
            raise ConversionError(f"{spec}: an exported model holds its weights; drop --weights")
        if not Path(spec).is_file():
            raise ConversionError(f"{spec}: no such file")
        return read_onnx(spec) if spec.endswith(".onnx") else load_program(Path(spec))
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise ConversionError(
            f"model {spec!r}: give package.module:callable, path/to/file.py:callable, "
            "or a .pt2 or .onnx file"
        )
    states = None if weights is None else _read_states(weights)
    make = load_callable(spec, ConversionError)
    drawn = torch.get_rng_state()
    with running(f"{spec}: calling it", ConversionError):
        model = make()
    with running(f"{spec}: the model that it returned", ConversionError):
        if not isinstance(model, nn.Module):
            raise ConversionError(
                f"{spec}: returned {type(model).__name__}, an nn.Module is needed"
            )
        if model.__class__ is not type(model):  # isinstance would believe it
            raise ConversionError(
                f"{spec}: returned {type(model).__name__}, whose __class__ is another; a plain "
                "nn.Module is needed"
            )
        if weights is not None and states is not None:
            _fit(model, states, weights, spec)
        elif note is not None and not torch.equal(drawn, torch.get_rng_state()):
            note(
                f"no --weights: the weights are those that {spec} returns, which are random unless "
                "it loads trained ones"
            )
        model.eval()  # what it returns may be anything
        return model


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from a checkpoint, with torch's weights_only reader: no code in it is run.

    The keys are those of the file; `load_model` fits them to a model.

    Raises:
        DataError: not a checkpoint, one that needs code to load, or one without tensors.
    """
    return next(iter(_read_states(path).values()))


def _read_states(path: Path) -> dict[str, State]:
    """The state dicts in a checkpoint, the preferred one first."""
    scan_checkpoint(path)
    try:
        value: Any = torch.load(path, map_location="cpu", weights_only=True)
        states = find_states(value)
        check_states(path, states)
    except DataError:
        raise
    except pickle.UnpicklingError as error:
        first = str(error).strip().splitlines()
        reason = next((line for line in first if "Unsupported" in line or "GLOBAL" in line), "")
        raise DataError(
            f"{path}: holds more than tensors and was not loaded, because loading it could run "
            f"code ({reason.strip() or first[0]}). Save a state dict: "
            "torch.save(model.state_dict(), path)"
        ) from error
    except Exception as error:  # a damaged checkpoint raises nearly any type
        raise DataError(
            f"{path}: not a readable PyTorch checkpoint ({first_line(error)})"
        ) from error
    if states:
        return states
    while isinstance(value, Mapping) and isinstance(value.get("state_dict"), Mapping):
        value = value["state_dict"]
    if isinstance(value, Mapping) and value:
        raise DataError(
            f"{path}: entry {str(next(iter(value)))!r} is no tensor; a state dict is needed"
        )
    raise DataError(f"{path}: holds a {type(value).__name__}; a state dict is needed")


def _fit(model: nn.Module, states: dict[str, State], path: Path, spec: str) -> None:
    """Load the weights; raises DataError with everything that does not fit."""
    own = {
        name: each for name, each in model.state_dict().items() if isinstance(each, torch.Tensor)
    }
    state, misfits = fit_state(path, states, own)
    if misfits:
        listed = [*misfits[:20], *(["..."] if len(misfits) > 20 else [])]
        raise DataError(lines(f"{path}: does not fit {spec}, {len(misfits)} entries:", listed))
    try:
        model.load_state_dict(state, strict=False)  # counts of batches may be missing
    except Exception as error:  # copying a tensor of another kind
        raise DataError(f"{path}: can't be loaded into {spec} ({text_of(error)})") from error
