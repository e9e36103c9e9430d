"""A cache of the results of kernel proofs, in memory and on disk.

A proof takes two to six milliseconds per shape, 7 to 11 % of a first run over 64 images of a small
network; a process that finds its verdicts on disk runs none. The file's name is a hash of all that
the library may choose its code by: processor, build of torch and oneDNN, environment variables.
Another machine or build has its own file and runs the proofs again.

The folder is machine_cache.cache_folder. A file that can't be read or written is ignored.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import platform
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.graph.node import is_integer
from icsnn_deploy.machine_cache import cache_folder, processor
from icsnn_deploy.version import __version__

LOGGER = logging.getLogger(__name__)
_VARIABLE_PREFIXES = ("ONEDNN_", "DNNL_", "MKL_", "ATEN_", "TORCH_", "OMP_", "KMP_")
_MAX_BYTES = 1 << 24


@dataclass
class Verdict:
    """The result of a kernel's proof for a shape."""

    fault: str | None  # None: proven
    batches: set[int] = field(default_factory=set)  # sizes that were proven

    def settle(self, batch: int, fault: str | None) -> None:
        """Note what the proof of a batch size found; a fault stays."""
        self.fault = self.fault or fault
        self.batches.add(batch)

    def joined(self, other: Verdict) -> Verdict:
        """What two processes found together."""
        return Verdict(self.fault or other.fault, self.batches | other.batches)


class Verdicts:
    """Verdicts by the text of their ProofKey.

    Args:
        path: file that they are read from and written to; None: kept in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._by_key: dict[str, Verdict] = {} if path is None else _read(path)
        self._written = self._rows()
        self._reported: set[str] = set()
        self.lock = threading.RLock()  # held while a proof runs

    def get(self, key: str) -> Verdict | None:
        """The verdict for a key, or None."""
        return self._by_key.get(key)

    def add(self, key: str, verdict: Verdict) -> None:
        """Add a verdict."""
        self._by_key[key] = verdict

    def is_news(self, what: str) -> bool:
        """Whether this was not reported before, in this process."""
        known = what in self._reported
        self._reported.add(what)
        return not known

    def clear(self) -> None:
        """Remove all verdicts from memory, not from disk."""
        self._by_key.clear()
        self._reported.clear()

    def keys(self) -> list[str]:
        """The keys that have a verdict."""
        return list(self._by_key)

    def __len__(self) -> int:
        return len(self._by_key)

    def save(self) -> None:
        """Write the verdicts to the file, together with those that other processes wrote."""
        rows = self._rows()
        if self._path is None or rows == self._written:
            return
        joined = _read(self._path)
        for key, verdict in self._by_key.items():
            joined[key] = verdict.joined(joined[key]) if key in joined else verdict
        content = {key: _row(verdict) for key, verdict in joined.items()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._path) as draft:
                draft.write_text(json.dumps(content, indent=1, sort_keys=True))
        except OSError as error:
            LOGGER.debug("%s: can't be written (%s)", self._path, error.strerror)

    def _rows(self) -> dict[str, Any]:
        return {key: _row(verdict) for key, verdict in self._by_key.items()}


def default_path() -> Path | None:
    """The file of this machine and this build of torch; None if nothing is kept on disk."""
    folder = cache_folder()
    return None if folder is None else folder / f"kernels-{_machine()}.json"


def _machine() -> str:
    """A hash of all that a library may choose its code by."""
    variables = {k: v for k, v in os.environ.items() if k.startswith(_VARIABLE_PREFIXES)}
    known = [__version__, platform.platform(), processor(), torch.__version__]
    known += [torch.__config__.show(), torch.backends.cpu.get_cpu_capability()]
    text = json.dumps([known, variables], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _row(verdict: Verdict) -> dict[str, Any]:
    return {"fault": verdict.fault, "batches": sorted(verdict.batches)}


def _read(path: Path) -> dict[str, Verdict]:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return {}
        rows = json.loads(path.read_text())
        return {
            str(key): Verdict(_fault(row["fault"]), set(map(_size, row["batches"])))
            for key, row in rows.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _size(value: Any) -> int:
    if is_integer(value, 1):
        return int(value)
    raise ValueError(f"a batch of {value!r:.40}")


def _fault(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise ValueError(f"a fault of {value!r:.40}")


VERDICTS = Verdicts(default_path())
"""The verdicts of this process."""
atexit.register(VERDICTS.save)
