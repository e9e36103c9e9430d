"""Change numbers of a profile by KEY=VALUE settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from icsnn_deploy.errors import TargetError
from icsnn_deploy.targets.profile import FLAGS, LISTS, TargetProfile

_FIXED = ("name", "about", "uncertain", "notes")
_CHOICES = ("threshold_granularity", "hard_reset", "soft_reset", "structure", "readout")


def override(profile: TargetProfile, settings: Mapping[str, Any]) -> TargetProfile:
    """The profile with some of its numbers replaced.

    Args:
        profile: the target.
        settings: field name -> value; a string is read as the field's type ("120", "none",
            "true", "1,2,4", "layer").

    Raises:
        TargetError: the field does not exist, or does not accept the value.
    """
    allowed = [field.name for field in fields(profile) if field.name not in _FIXED]
    changes: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in allowed:
            raise TargetError(
                f"{profile.name} has no number {key!r} to override; there are {', '.join(allowed)}"
            )
        changes[key] = _read(profile.name, key, value) if isinstance(value, str) else value
    uncertain = tuple(name for name in profile.uncertain if name not in changes)
    return replace(profile, **changes, uncertain=uncertain)


def parse_settings(lines: Sequence[str]) -> dict[str, str]:
    """Parse KEY=VALUE strings; raises TargetError."""
    settings: dict[str, str] = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise TargetError(f"{line!r}: KEY=VALUE is needed, for example cores=120")
        if key.strip() in settings:
            raise TargetError(f"{key.strip()} is set more than once")
        settings[key.strip()] = value.strip()
    return settings


def _read(target: str, key: str, text: str) -> Any:
    lower = text.strip().lower()
    if lower == "none":
        return None
    if key in _CHOICES:
        return lower
    if key in FLAGS:
        if lower not in ("true", "false"):
            raise TargetError(f"{target}.{key}={text}: true or false is needed")
        return lower == "true"
    try:
        if key in LISTS:
            return tuple(int(part) for part in lower.split(","))
        return int(lower)
    except ValueError:
        needed = "integers with commas" if key in LISTS else "an integer"
        raise TargetError(f"{target}.{key}={text}: {needed} or none is needed") from None
