"""The table of hardware targets (name -> "module:constant"); modules are imported on use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from icsnn_deploy.errors import TargetError

if TYPE_CHECKING:
    from icsnn_deploy.targets.profile import TargetProfile

TARGETS = {
    "generic": "generic:GENERIC",
    "loihi1": "loihi1:LOIHI1",
    "loihi2": "loihi2:LOIHI2",
    "speck": "speck:SPECK",
    "spinnaker2": "spinnaker2:SPINNAKER2",
}


def find_target(name: str) -> TargetProfile:
    """The profile of that name; raises TargetError that lists them."""
    if name not in TARGETS:
        raise TargetError(f"no target {name!r}; there are {', '.join(TARGETS)}")
    module, constant = TARGETS[name].split(":")
    profile: TargetProfile = getattr(import_module(f"{__name__}.{module}"), constant)
    return profile
