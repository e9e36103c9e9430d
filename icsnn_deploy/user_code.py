"""Import and call code of the user's, named on the command line; what it raises is one error."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from icsnn_deploy.errors import IcsnnError


def load_callable(spec: str, error: type[IcsnnError]) -> Callable[[], Any]:
    """The callable that is named as package.module:callable or path/to/file.py:callable.

    Args:
        spec: place and name, with a colon between them; the working folder is searched as well.
        error: the type that is raised.

    Raises:
        error: names what could not be found or imported, and what importing it raised.
    """
    place, _, name = spec.rpartition(":")
    found = getattr(_import(place, error), name, None)
    if not callable(found):
        raise error(f"{place}: has no callable {name!r}")
    return found  # type: ignore[no-any-return]


@contextmanager
def running(what: str, error: type[IcsnnError]) -> Iterator[None]:
    """Run code of the user's: what it raises becomes one error, what it prints goes to stderr.

    Args:
        what: what is run, the beginning of the message: "data.py:calibration: calling it".
        error: the type that is raised.
    """
    try:
        with redirect_stdout(sys.stderr):  # standard output holds results alone
            yield
    except IcsnnError:
        raise
    except SystemExit as stop:
        raise error(f"{what} ended the program (SystemExit: {stop})") from stop
    except Exception as raised:  # may be anything
        raise error(f"{what} raised {type(raised).__name__}: {_message(raised)}") from raised


def _message(raised: Exception) -> str:
    """What an exception says; of a DataLoader's worker without its traceback."""
    text = str(raised).strip()
    if "Original Traceback" in text:
        return text.splitlines()[-1].removeprefix(f"{type(raised).__name__}: ")
    return text


def _import(place: str, error: type[IcsnnError]) -> ModuleType:
    if not place.endswith(".py"):
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            with running(f"module {place!r}: importing it", error):
                return importlib.import_module(place)
        except IcsnnError as failed:
            if isinstance(failed.__cause__, ImportError):
                message = f"module {place!r} can't be imported: {failed.__cause__}"
                raise error(message) from failed.__cause__
            raise
    path = Path(place)
    if not path.is_file():
        raise error(f"{place}: no such file")
    name = f"_icsnn_model_{path.stem}"  # a user's torch.py must not stand in for torch
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise error(f"{place}: not a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module  # dataclasses and pickling in the user's file look it up
    with running(f"{place}: importing it", error):
        module_spec.loader.exec_module(module)
    return module
