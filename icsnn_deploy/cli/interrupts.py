"""Ctrl-C ends a command with exit code 130, wherever it is pressed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

INTERRUPTED = 130
"""Exit code of a command that was interrupted, as shells know it: 128 and the signal's number."""


def exit_code_of(command: Callable[[], object]) -> int:
    """Run a command, and return its exit code.

    Python loses an interrupt that arrives in a destructor or a callback, and libraries may turn one
    into another error. So what counts is that the signal arrived, not what became of it.

    Args:
        command: may raise SystemExit with a code.
    """
    arrived = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal arrived
        arrived = True
        raise KeyboardInterrupt

    previous = signal.getsignal(signal.SIGINT)
    is_ours = threading.current_thread() is threading.main_thread() and previous in (
        signal.SIG_DFL,
        signal.default_int_handler,  # one that is ignored, as under nohup, stays so
    )
    code = 0
    try:
        if is_ours:
            signal.signal(signal.SIGINT, interrupt)
        command()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        arrived = True
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, previous)
    return INTERRUPTED if arrived else code
