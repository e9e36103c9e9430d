"""Distributed runs: the processes that torchrun starts for one run.

Work items are numbered. Each is done by one process, and every process gets all results in the
order of their numbers. So nothing that is computed from the results depends on the number of
processes, or on which one was faster.
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

WorkResult = TypeVar("WorkResult")

WAIT_S = 1800.0
"""How long one process waits for the others before it gives up."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; this base class is a run of one process."""

    rank: int = 0
    size: int = 1

    def assign(self, count: int) -> range:
        """The numbers below `count` of the work items of this process."""
        return range(self.rank, count, self.size)

    def each(self, count: int, work: Callable[[int], WorkResult]) -> Iterator[WorkResult]:
        """Yield work(0), work(1), ... work(count - 1) in every process; each is computed by one.

        Tensors are moved to this process's device.
        """
        return map(work, range(count))

    def gather(self, value: WorkResult) -> list[WorkResult]:
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

    def each(self, count: int, work: Callable[[int], WorkResult]) -> Iterator[WorkResult]:
        for first in range(0, count, self.size):
            number = first + self.rank
            own = _to_device(work(number), "cpu") if number < count else None
            for found in self.gather(own)[: count - first]:
                yield _to_device(found, self.device)

    def gather(self, value: WorkResult) -> list[WorkResult]:
        import torch.distributed as dist

        found: list[Any] = [None] * self.size
        with _as_rank_error():
            dist.all_gather_object(found, value)
        return found

    def sum(self, counts: Tensor) -> Tensor:
        import torch.distributed as dist

        with _as_rank_error():
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
    """Whether torchrun, or a similar launcher, started this as one of several processes."""
    env = os.environ if environment is None else environment
    return "RANK" in env and "MASTER_ADDR" in env and env.get("WORLD_SIZE", "1") != "1"


def is_first(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this process is the one that prints and writes."""
    env = os.environ if environment is None else environment
    return not is_launched(env) or env.get("RANK") == "0"


def own_device(device: str) -> str:
    """The device of this process: on one machine each process has its own GPU."""
    if device == "cuda" and is_launched():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device


@contextmanager
def open_ranks(device: str = "cpu", *, wait_s: float = WAIT_S) -> Iterator[Ranks]:
    """Join the processes that this one was started with; yields SINGLE without torchrun.

    Args:
        device: of this process (own_device). CPU tensors are sent by gloo, GPU tensors by NCCL.
        wait_s: how long to wait for the others, at the start and at each exchange.

    Raises:
        RankError: the others don't join or are lost, or the environment variables are wrong.
        BackendUnavailableError: the device of a distributed process is not available.
        DataError: wait_s is not positive.
    """
    if not wait_s > 0:
        raise DataError(f"a wait of {wait_s} s for other processes: more than 0 is needed")
    if not is_launched():
        yield SINGLE
        return
    _check_environment(os.environ)
    import torch
    import torch.distributed as dist

    # Loaded by the first optimizer otherwise: its functions' defaults are the group of that moment,
    # which then is never freed, and its threads abort a process that ends while they let go of
    # tensors (as in https://github.com/pytorch/pytorch/pull/179291).
    import torch.distributed.nn.functional

    from icsnn_deploy.backends.torch.ops import open_device

    opened = open_device(own_device(device))
    if opened.type == "cuda":
        torch.cuda.set_device(opened)
    with _as_rank_error("the other processes of this run did not join, or can't be reached"):
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if opened.type == "cuda" else "gloo",
            timeout=timedelta(seconds=wait_s),
        )
    try:
        yield Group(dist.get_rank(), dist.get_world_size(), str(opened))
    finally:
        dist.destroy_process_group()


def _check_environment(environment: Mapping[str, str]) -> None:
    """Raise RankError if the variables don't tell torch.distributed which process this is."""
    numbers = {}
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"):
        value = environment.get(name, "")
        if not (value.isascii() and value.isdigit()):
            raise RankError(
                f"{name} is {value!r} in the environment of this process, a number is needed; "
                "torchrun sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
            )
        numbers[name] = int(value)
    if numbers["RANK"] >= numbers["WORLD_SIZE"]:
        raise RankError(
            f"RANK {numbers['RANK']} of WORLD_SIZE {numbers['WORLD_SIZE']}: ranks count from 0"
        )


@contextmanager
def _as_rank_error(
    what: str = "another process of this run is gone, or did not answer in time",
) -> Iterator[None]:
    """Turn what torch.distributed raises for missing or lost processes into a RankError."""
    try:
        yield
    except RuntimeError as error:  # DistBackendError and its like are RuntimeErrors
        raise RankError(
            f"{what} ({first_line(error):.200}). Start all of them again; results that were saved "
            "are not computed again"
        ) from error


def _to_device(value: Any, device: str) -> Any:
    """The value, with its tensors moved to a device."""
    from torch import Tensor

    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_to_device(inner, device) for inner in value)
    if isinstance(value, dict):
        return {name: _to_device(inner, device) for name, inner in value.items()}
    return value
