"""C identifiers of a model's names."""

from __future__ import annotations

import re
from collections.abc import Sequence


def identifiers(names: Sequence[str]) -> dict[str, str]:
    """A C identifier for each name, unique: layer1.0.conv1 becomes layer1_0_conv1."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name).strip("_")[:60] or "node"
        if plain[0].isdigit():
            plain = f"n{plain}"
        unique, number = plain, 2
        while unique in taken:
            unique, number = f"{plain}_{number}", number + 1
        taken.add(unique)
        found[name] = unique
    return found
