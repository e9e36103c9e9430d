"""The guard around everything that runs the user's model while it is traced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from icsnn_deploy.errors import ConversionError
from icsnn_deploy.user_code import running, time_limit

_LIMIT_S: ContextVar[float | None] = ContextVar("limit of tracing", default=None)


@contextmanager
def tracing_at_most(seconds: float) -> Iterator[None]:
    """Limit the time that tracing a model may take inside.

    Raises:
        ConversionError: no positive number of seconds.
    """
    if not seconds > 0:
        raise ConversionError(f"--trace-limit {seconds:g}: a number of seconds above 0 is needed")
    token = _LIMIT_S.set(seconds)
    try:
        yield
    finally:
        _LIMIT_S.reset(token)


@contextmanager
def tracing() -> Iterator[None]:
    """Turn whatever the user's model raises into a ConversionError, and keep the time limit."""
    seconds = _LIMIT_S.get()
    message = (
        f"tracing the model took more than {seconds} s; its forward may not end. A large model "
        "needs a higher limit: --trace-limit SECONDS"
    )
    with (
        running("tracing the model", ConversionError),
        time_limit(seconds, message, ConversionError),
    ):
        yield
