"""Names of a program that begin otherwise, so that several networks fit one firmware."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from icsnn_deploy.exporters.c.parameters import Parameter

USUAL = "icsnn"
"""What the names of a program begin with."""

ALLOWED = re.compile(r"[a-z][a-z0-9_]{0,30}")
"""A prefix."""

_SHARED = ("ICSNN_HOST", "ICSNN_TOGETHER")  # macros that are set for all networks of a build
_GUARD = re.compile(r"^#ifndef ([A-Z0-9_]{1,40})_NETWORK_H$", re.MULTILINE)


def renamed(texts: Mapping[str, str], arrays: Sequence[Parameter], prefix: str) -> dict[str, str]:
    """The files of a program with names that begin with `prefix`; macros in upper case.

    Args:
        texts: files by name, as for the prefix `icsnn`.
        arrays: of weights.c, whose names get the prefix in front.
        prefix: as ALLOWED.
    """
    if prefix == USUAL:
        return dict(texts)
    names = "|".join(re.escape(each.name) for each in arrays)
    shared = "|".join(_SHARED)
    pattern = re.compile(rf"\b(?:({names})\b|(?!(?:{shared})\b)(icsnn|ICSNN)_(?=\w))")

    def new(match: re.Match[str]) -> str:
        if match[1]:
            return f"{prefix}_{match[1]}"
        return f"{prefix}_" if match[2] == USUAL else f"{prefix.upper()}_"

    return {name: pattern.sub(new, text) for name, text in texts.items()}


def prefix_of(header: str) -> str:
    """The prefix of a network.h; the usual one where it has none that is allowed."""
    found = _GUARD.search(header)
    prefix = found[1].lower() if found else USUAL
    return prefix if ALLOWED.fullmatch(prefix) else USUAL
