"""Import and call code of the user's, named on the command line; what it raises is one error."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import signal
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from icsnn_deploy.errors import IcsnnError, said_by

_LIBRARIES = (*sysconfig.get_paths().values(), str(Path(__file__).parent))
_FRAMES = 200  # of a recursion without end the last ones


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
    except (IcsnnError, KeyboardInterrupt):
        raise
    except BaseException as raised:  # may be anything
        raise error(f"{what} {happened(raised)}") from raised


def happened(raised: BaseException) -> str:
    """What code of the user's did: "raised ValueError: no such layer (model.py, line 12)"."""
    name = type(raised).__name__  # not raised.__class__, which may be a property that raises
    line = _line_of(raised)
    place = f" ({line})" if line else ""
    if type(raised) is SystemExit:
        return f"ended the program (SystemExit: {_message(raised)}){place}"
    said = _message(raised)
    return f"raised {name}{': ' if said else ''}{said}{place}"


def _line_of(raised: BaseException) -> str:
    """The last line of the user's own code that an exception passed; empty without one."""
    for frame in reversed(traceback.extract_tb(raised.__traceback__, limit=-_FRAMES)):
        path = Path(frame.filename)
        if path.suffix == ".py" and not frame.filename.startswith(_LIBRARIES):
            return f"{path.name}, line {frame.lineno}"
    return ""


def _message(raised: BaseException) -> str:
    """What an exception says; of a DataLoader's worker without its traceback."""
    text = said_by(raised)
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


class _TimeIsUp(BaseException):
    """Raised inside code of the user's, past its `except Exception`."""


_OURS = (__file__, contextlib.__file__)
_SOON_S = 1e-3


@contextmanager
def time_limit(seconds: float | None, message: str, error: type[IcsnnError]) -> Iterator[None]:
    """Run code of the user's for at most some seconds.

    The limit acts between steps of Python: a single call into a library is not cut short. In other
    threads than the main one there is none. A limit around this one goes on afterwards.

    Args:
        seconds: None: no limit.
        message: of the error.
        error: the type that is raised.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    is_up = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal is_up
        is_up = True
        if frame is None or frame.f_code.co_filename not in _OURS:  # on the way in or out
            raise _TimeIsUp

    started = time.monotonic()
    previous = signal.signal(signal.SIGALRM, stop)
    left, interval = 0.0, 0.0
    try:
        # again where the code goes on
        left, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
        yield
        if is_up:
            raise _TimeIsUp
    except BaseException as raised:
        if is_up:
            raise error(message) from raised
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # drops one that is on its way
        signal.signal(signal.SIGALRM, previous)
        if left:
            left -= time.monotonic() - started
            signal.setitimer(signal.ITIMER_REAL, max(left, _SOON_S), interval)
