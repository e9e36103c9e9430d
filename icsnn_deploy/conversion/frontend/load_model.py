"""Load a PyTorch model: a callable in a module or file, with weights; or a .pt2 program."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from icsnn_deploy.conversion.frontend.checkpoint_scan import scan_checkpoint
from icsnn_deploy.conversion.frontend.exported_program import load_program
from icsnn_deploy.errors import ConversionError, DataError, IcsnnError, first_line


def load_model(spec: str, weights: Path | None = None) -> nn.Module | ExportedProgram:
    """The model in eval mode.

    Args:
        spec: `package.module:callable`, `path/to/file.py:callable`, or `program.pt2`. The callable
            is called without arguments and returns an nn.Module.
        weights: a state dict (or a checkpoint with one under "state_dict"), read without running
            code; not with a .pt2 program, which holds its own.

    Raises:
        ConversionError: names what could not be found, loaded or called.
        DataError: the weights can't be read, or do not fit the model.
    """
    if spec.endswith(".pt2"):
        if weights is not None:
            raise ConversionError(f"{spec}: an exported program holds its weights; drop --weights")
        if not Path(spec).is_file():
            raise ConversionError(f"{spec}: no such file")
        return load_program(Path(spec))
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise ConversionError(
            f"model {spec!r}: give package.module:callable, path/to/file.py:callable, "
            "or a .pt2 file"
        )
    state = None if weights is None else load_weights(weights)
    make = getattr(_import(place), name, None)
    if not callable(make):
        raise ConversionError(f"{place}: has no callable {name!r}")
    try:
        model = make()
    except Exception as error:  # the user's code may raise anything
        raise ConversionError(
            f"{spec}: calling it raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ConversionError(f"{spec}: returned {type(model).__name__}, an nn.Module is needed")
    if state is not None:
        _fit(model, state, weights, spec)
    return model.eval()


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """A state dict from a checkpoint, with torch's weights_only reader: no code in it is run.

    Raises:
        DataError: not a checkpoint, one that needs code to load, or one without tensors.
    """
    scan_checkpoint(path)
    try:
        value: Any = torch.load(path, map_location="cpu", weights_only=True)
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
    if isinstance(value, Mapping) and isinstance(value.get("state_dict"), Mapping):
        value = value["state_dict"]
    if not isinstance(value, Mapping) or not value:
        raise DataError(f"{path}: holds a {type(value).__name__}; a state dict is needed")
    others = [key for key, tensor in value.items() if not isinstance(tensor, torch.Tensor)]
    if others:
        raise DataError(f"{path}: entry {others[0]!r} is no tensor; a state dict is needed")
    return {str(key).removeprefix("module."): tensor for key, tensor in value.items()}


def _fit(model: nn.Module, state: dict[str, torch.Tensor], path: Path | None, spec: str) -> None:
    """Load the weights; raises DataError with everything that does not fit."""
    own = model.state_dict()
    problems = [f"missing {key}" for key in own if key not in state]
    problems += [f"not in the model: {key}" for key in state if key not in own]
    problems += [
        f"{key}: shape {list(state[key].shape)}, the model has {list(tensor.shape)}"
        for key, tensor in own.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if problems:
        listed = "\n  ".join(problems[:20]) + ("\n  ..." if len(problems) > 20 else "")
        raise DataError(f"{path}: does not fit {spec}, {len(problems)} entries:\n  {listed}")
    model.load_state_dict(state)


def _import(place: str) -> ModuleType:
    """The module of that name, or of that file."""
    if not place.endswith(".py"):
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            return importlib.import_module(place)
        except IcsnnError:
            raise
        except ImportError as error:
            raise ConversionError(f"module {place!r} can't be imported: {error}") from error
        except Exception as error:  # the user's own code: whatever it raises is its message
            raise ConversionError(
                f"module {place!r}: importing it raised {type(error).__name__}: {error}"
            ) from error
    path = Path(place)
    if not path.is_file():
        raise ConversionError(f"{place}: no such file")
    name = f"_icsnn_model_{path.stem}"  # a user's torch.py must not stand in for torch
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise ConversionError(f"{place}: not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module  # dataclasses and pickling in the user's file look it up
    try:
        module_spec.loader.exec_module(module)
    except IcsnnError:
        raise
    except Exception as error:  # the user's own code: whatever it raises is its message
        raise ConversionError(
            f"{place}: importing it raised {type(error).__name__}: {error}"
        ) from error
    return module
