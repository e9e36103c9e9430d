"""Compile C files once per machine, and load them: those of this folder, and exported programs.

Every function of this folder has a slower equivalent in PyTorch, which is used where there is no C
compiler, where the compiler fails, or where its result is not that of the equivalent. The runner of
exported programs (c_runner.c) has none: it is compiled together with the program.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.errors import first_line
from icsnn_deploy.leftovers import temporary_folder
from icsnn_deploy.machine_cache import cache_folder, processor

LOGGER = logging.getLogger(__name__)

_FLAGS = (
    "-std=c99",
    "-O3",
    "-march=native",
    "-ffp-contract=off",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
)
"""Without contraction a sum of products is rounded as PyTorch rounds it."""
_LIMIT_S = 60.0


@cache
def load_library(name: str) -> ctypes.CDLL | None:
    """The library of NAME.c, compiled if it was not yet; None where it cannot be had.

    The file is kept in the cache folder (machine_cache.cache_folder); with none, or one that can't
    be written, in a temporary folder for as long as it takes to load it.
    """
    source = Path(__file__).with_name(f"{name}.c")
    compiler = find_compiler()
    if compiler is None:
        LOGGER.debug("%s: no C compiler (CC, cc, gcc, clang); PyTorch is used instead", source.name)
        return None
    try:
        return compile_library(name, {source.name: source.read_bytes()}, compiler)
    except (OSError, subprocess.SubprocessError) as error:
        LOGGER.debug("%s: %s; PyTorch is used instead", source.name, first_line(error))
        return None


def compile_library(
    name: str,
    files: Mapping[str, bytes],
    compiler: list[str],
    *,
    flags: Sequence[str] = (),
    limit_s: float = _LIMIT_S,
) -> ctypes.CDLL:
    """The library of C files, compiled if these were not yet.

    Args:
        name: of the library, for the file in the cache.
        files: content by name: C files, and the headers that they include.
        compiler: the command (find_compiler).
        flags: of the compiler, after the usual ones.
        limit_s: seconds that the compiler may take.

    Raises:
        OSError: files can't be written, or the library can't be loaded.
        subprocess.SubprocessError: the compiler fails or takes too long.
    """
    parts = [part for file, code in sorted(files.items()) for part in (file.encode(), code)]
    parts += [repr([*compiler, *_FLAGS, *flags]).encode(), processor().encode()]
    parts.append(platform.platform().encode())
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    folder = _writable_cache()
    with temporary_folder("build") as temporary:
        folder = folder or temporary
        target = folder / f"{name}-{digest}.so"
        if not _is_own(target):
            for file, code in files.items():
                (temporary / file).write_bytes(code)
            sources = [str(temporary / file) for file in files if file.endswith(".c")]
            with atomic_write(target) as draft:
                command = [*compiler, *_FLAGS, *flags, *sources, "-o", str(draft)]
                subprocess.run(command, check=True, capture_output=True, timeout=limit_s)
                draft.chmod(0o700)  # whatever the umask: _is_own takes no other
        return ctypes.CDLL(str(target))


def find_compiler() -> list[str] | None:
    """The command of the C compiler: $CC, or the first that is there."""
    try:
        chosen = shlex.split(os.environ.get("CC", ""))
    except ValueError:  # a quotation that is not closed
        return None
    if chosen:
        return chosen if shutil.which(chosen[0]) else None
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


def missing_compiler() -> str:
    """Why find_compiler finds none, and what to do."""
    chosen = os.environ.get("CC", "")
    if chosen.strip():
        return f"CC={chosen!r} names no program; unset it, or name a C compiler"
    install = "install one, on Debian: apt-get install gcc libc6-dev"
    return f"no C compiler found (cc, gcc, clang); {install}"


def _writable_cache() -> Path | None:
    """The cache folder; None where there is none, or it can't be written."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _is_own(path: Path) -> bool:
    """Whether a file exists that nobody but this user can have written."""
    try:
        status = path.stat()
    except OSError:
        return False
    own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return own and not status.st_mode & 0o022
