"""icsnn targets: list the hardware targets."""

from __future__ import annotations

from icsnn_deploy.cli.arguments import JsonFlag
from icsnn_deploy.cli.printing import print_json, print_table


def targets(as_json: JsonFlag = False) -> None:
    """List the hardware targets."""
    from icsnn_deploy.report.resources import targets_table
    from icsnn_deploy.targets import TARGETS, find_target

    profiles = [find_target(name) for name in TARGETS]
    if as_json:
        print_json([profile.to_json() for profile in profiles])
        return
    print_table(targets_table(profiles))
