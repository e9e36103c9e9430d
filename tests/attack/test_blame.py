"""Faults of this package inside the guard of the user's code are told from those of the user."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from icsnn_deploy.conversion.frontend.working_copy import working_copy
from icsnn_deploy.errors import ConversionError, plain
from icsnn_deploy.user_code import running
from tests.attack.blame import misattributed


def _error_of(call: Callable[[], object]) -> ConversionError:
    with pytest.raises(ConversionError) as raised, running("x", ConversionError):
        call()
    return raised.value


def _recursion() -> None:
    _recursion()


class _Stops(nn.Linear):
    def __hash__(self) -> int:
        raise StopIteration


class _Poisoned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.__dict__["_modules"] = None


@pytest.mark.parametrize("runs_code", [True, False])
def test_a_fault_of_this_package_inside_the_guard_is_found(runs_code: bool) -> None:
    error = _error_of(lambda: plain(3))  # type: ignore[arg-type]
    assert misattributed(error, runs_code=runs_code).startswith("TypeError at errors.py:")


def test_a_library_that_this_package_calls_wrongly_counts_where_no_code_is_the_users() -> None:
    error = _error_of(lambda: working_copy(_Poisoned()))
    assert " at working_copy.py:" in misattributed(error, runs_code=False)
    assert misattributed(error, runs_code=True) == ""


@pytest.mark.parametrize("runs_code", [True, False])
@pytest.mark.parametrize(
    "call", [lambda: 1 / 0, lambda: nn.Linear(2, 2)(torch.zeros(3)), _recursion]
)
def test_what_the_users_code_raises_does_not_count(
    call: Callable[[], object], runs_code: bool
) -> None:
    assert misattributed(_error_of(call), runs_code=runs_code) == ""


def test_a_stop_of_the_users_inside_a_generator_does_not_count() -> None:
    assert misattributed(_error_of(lambda: working_copy(_Stops(2, 2))), runs_code=True) == ""


def test_what_the_guarded_block_asks_of_the_users_object_does_not_count() -> None:
    with pytest.raises(ConversionError) as raised, running("x", ConversionError):
        len(3)  # type: ignore[arg-type]
    assert misattributed(raised.value, runs_code=True) == ""


def test_errors_on_purpose_do_not_count() -> None:
    assert misattributed(ConversionError("no such layer"), runs_code=False) == ""
