"""The processes of one run, as torchrun starts them.

A piece of work is known by its number alone, is done by one process, and its result comes to all of
them in the order of the numbers. So nothing that is computed from the results can depend on how
many processes there are, or on which one was faster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from icsnn_deploy.errors import DataError, RankError, first_line

if TYPE_CHECKING:
    from torch import Tensor

Result = TypeVar("Result")

WAIT_S = 1800.0
"""How long one process waits for the others before it gives up."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; as it stands, one alone."""

    rank: int = 0
    size: int = 1

    def assign(self, count: int) -> range:
        """The numbers below `count` that are this process's own."""
        return range(self.rank, count, self.size)

    def each(self, count: int, work: Callable[[int], Result]) -> Iterator[Result]:
        """work(0), work(1), ... work(count - 1), each done by one process, in order in all.

        Tensors come back on this process's device.
        """
        return map(work, range(count))

    def gather(self, value: Result) -> list[Result]:
        """Every process's value, by rank."""
        return [value]

    def sum(self, counts: Tensor) -> Tensor:
        """The sum of every process's integers, which is exact in any order."""
        return counts

    def require_equal(self, what: str, digest: Callable[[], str]) -> None:
        """Raise RankError unless the digest is the same in all processes."""


SINGLE = Ranks()


@dataclass(frozen=True)
class Group(Ranks):
    """One of several processes, connected by torch.distributed."""

    device: str = "cpu"

    def each(self, count: int, work: Callable[[int], Result]) -> Iterator[Result]:
        for first in range(0, count, self.size):
            number = first + self.rank
            own = _moved(work(number), "cpu") if number < count else None
            for found in self.gather(own)[: count - first]:
                yield _moved(found, self.device)

    def gather(self, value: Result) -> list[Result]:
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        with _together():
            dist.all_gather_object(found, value)
        return found

    def sum(self, counts: Tensor) -> Tensor:
        import torch.distributed as dist

        with _together():
            dist.all_reduce(counts)
        return counts

    def require_equal(self, what: str, digest: Callable[[], str]) -> None:
        found = self.gather(digest())
        others = [rank for rank, other in enumerate(found) if other != found[0]]
        if others:
            raise RankError(
                f"{what}: process {others[0]} has {found[others[0]]:.12}, process 0 has "
                f"{found[0]:.12}; all must have the same files, model and weights, the same "
                "number of threads (OMP_NUM_THREADS) and the same kind of machine"
            )


def is_launched(environment: Mapping[str, str] | None = None) -> bool:
    """Whether torchrun, or something like it, started this as one of several processes."""
    found = os.environ if environment is None else environment
    return "RANK" in found and "MASTER_ADDR" in found and found.get("WORLD_SIZE", "1") != "1"


def is_first(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this process is the one that prints and writes."""
    found = os.environ if environment is None else environment
    return not is_launched(found) or found.get("RANK") == "0"


def own_device(device: str) -> str:
    """The device of this process: each has a GPU of its own on a machine."""
    if device == "cuda" and is_launched():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device


@contextmanager
def open_ranks(device: str = "cpu", *, wait_s: float = WAIT_S) -> Iterator[Ranks]:
    """The processes that this one was started with; ALONE without torchrun.

    Args:
        device: of this process (own_device). CPU data goes by gloo, what is on a GPU by NCCL.
        wait_s: how long to wait for the others, at the start and whenever they meet.

    Raises:
        RankError: the others don't come, or are lost; or the environment does not say who they are.
        BackendUnavailableError: one of several processes, whose device is not there.
        DataError: a wait of no seconds.
    """
    if not wait_s > 0:
        raise DataError(f"a wait of {wait_s} s for other processes: more than 0 is needed")
    if not is_launched():
        yield SINGLE
        return
    _check_environment(os.environ)
    import torch
    import torch.distributed as dist

    from icsnn_deploy.backends.torch.ops import open_device

    opened = open_device(own_device(device))
    if opened.type == "cuda":
        torch.cuda.set_device(opened)
    with _together("the other processes of this run don't come, or can't be reached"):
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if opened.type == "cuda" else "gloo",
            timeout=timedelta(seconds=wait_s),
        )
    try:
        yield Group(dist.get_rank(), dist.get_world_size(), str(opened))
    finally:
        dist.destroy_process_group()


def _check_environment(environment: Mapping[str, str]) -> None:
    """Raise RankError where torch.distributed could not know which process this is."""
    numbers = {}
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"):
        said = environment.get(name, "")
        if not (said.isascii() and said.isdigit()):
            raise RankError(
                f"{name} is {said!r} in the environment of this process, a number is needed; "
                "torchrun sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
            )
        numbers[name] = int(said)
    if numbers["RANK"] >= numbers["WORLD_SIZE"]:
        raise RankError(
            f"RANK {numbers['RANK']} of WORLD_SIZE {numbers['WORLD_SIZE']}: ranks count from 0"
        )


@contextmanager
def _together(
    what: str = "another process of this run is gone, or did not answer in time",
) -> Iterator[None]:
    """Whatever torch.distributed raises where others are not found, or lost, as one RankError."""
    try:
        yield
    except RuntimeError as error:  # DistBackendError and its like are RuntimeErrors
        raise RankError(
            f"{what} ({first_line(error):.200}). Start all of them again; what was finished and "
            "kept is not done twice"
        ) from error


def _moved(value: Any, device: str) -> Any:
    """The tensors in a result, on a device."""
    from torch import Tensor

    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_moved(inner, device) for inner in value)
    if isinstance(value, dict):
        return {name: _moved(inner, device) for name, inner in value.items()}
    return value
