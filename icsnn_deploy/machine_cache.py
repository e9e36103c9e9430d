"""The folder that this machine's results are kept in, and what tells one machine from another."""

from __future__ import annotations

import os
import platform
from pathlib import Path

FOLDER = "ICSNN_KERNEL_CACHE"

_CPU_FIELDS = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")


def cache_folder() -> Path | None:
    """$ICSNN_KERNEL_CACHE, else $XDG_CACHE_HOME/icsnn-deploy, else ~/.cache/icsnn-deploy.

    None if ICSNN_KERNEL_CACHE is empty, or if there is no home folder: nothing is kept then.
    """
    chosen = os.environ.get(FOLDER)
    if chosen == "":
        return None
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # there is no home folder
        return None
    return Path(chosen) if chosen else cache / "icsnn-deploy"


def processor() -> str:
    """Model, microcode and flags as Linux lists them; elsewhere the name alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(line for line in lines if line.partition("\t")[0].strip() in _CPU_FIELDS)
