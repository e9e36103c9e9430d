"""Whether an error that names the user's model or data as its origin was raised by this package.

Code of the user's runs inside a guard (icsnn_deploy/user_code.py) that turns whatever is raised
there into one clear error. A fault of this package inside the guard would be hidden by it.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import icsnn_deploy
from icsnn_deploy import user_code
from icsnn_deploy.errors import IcsnnError

_ROOT = Path(icsnn_deploy.__file__).parents[1]
_OURS = tuple(f"{_ROOT / name}/" for name in ("icsnn_deploy", "exporters", "targets"))
_LIBRARIES = tuple(f"{path}/" for path in sysconfig.get_paths().values())
_FRAMES = 200


def misattributed(error: BaseException, *, runs_code: bool) -> str:
    """Where this package raised what the guard described as the user's; empty if it did not.

    Args:
        error: that a command ends with.
        runs_code: whether the input is code of the user's. Then an object of theirs may be the
            reason why a library fails that this package calls, and only what is raised by this
            package's own lines counts; otherwise also what libraries raise that it calls.
    """
    for each in _chain(error):
        cause = each.__cause__
        # not isinstance: __class__ may be a property that raises
        if cause is None or not issubclass(type(each), IcsnnError) or not _is_of_guard(each):
            continue
        if type(cause.__cause__) is StopIteration:  # in a generator it becomes a RuntimeError
            cause = cause.__cause__
        frames = traceback.extract_tb(cause.__traceback__, limit=-_FRAMES)
        if runs_code and len(frames) == 2:
            continue  # what the guarded block itself asks of the user's object
        own = [f for f in frames if runs_code or not _is_of_library(f.filename)]
        inside = own if issubclass(type(cause), RecursionError) else own[-1:]
        if inside and all(frame.filename.startswith(_OURS) for frame in inside):
            place = inside[-1]
            name = Path(place.filename).name
            return f"{type(cause).__name__} at {name}:{place.lineno} (raised at {_last(frames)})"
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its cause, the cause of that, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _is_of_guard(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    return last is not None and last.filename == user_code.__file__ and last.name == "running"


def _is_of_library(path: str) -> bool:
    return path.startswith((*_LIBRARIES, "<")) or "/site-packages/" in path


def _last(frames: traceback.StackSummary) -> str:
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
