"""Commands that set NIR readers up: icsnn readers setup, icsnn readers status."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from icsnn_deploy.cli.output import JsonFlag, print_json, progress_bars, reporting
from icsnn_deploy.readers.environment import KINDS, ReaderEnvironment, find_environment

readers = typer.Typer(
    name="readers",
    help="Set up the environments that other frameworks read NIR files in.",
    no_args_is_help=True,
)


@readers.command()
def setup(as_json: JsonFlag = False) -> None:
    """Make the environments of the NIR readers; those that are ready are left as they are."""
    with reporting(as_json):
        from icsnn_deploy.readers.setup import set_up

        with progress_bars() as progress:
            found = {name: set_up(name, progress) for name in KINDS}
        _show(found, as_json=as_json)


@readers.command()
def status(as_json: JsonFlag = False) -> None:
    """Show the environments of the NIR readers, and run three neurons in each reader."""
    with reporting(as_json):
        from icsnn_deploy.readers.setup import check

        found = {name: find_environment(name) for name in KINDS}
        for name, environment in found.items():
            check(name, environment)
        _show(found, as_json=as_json)


def _show(found: Mapping[str, ReaderEnvironment], *, as_json: bool) -> None:
    """Environments whose self-tests passed."""
    if as_json:
        print_json(
            {
                name: {
                    "folder": str(environment.folder),
                    "python": str(environment.python),
                    "versions": dict(environment.versions),
                    "self_test": "passed",
                }
                for name, environment in found.items()
            }
        )
        return
    for environment in found.values():
        versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
        typer.echo(f"{environment.folder}: {versions}; self-test passed")
