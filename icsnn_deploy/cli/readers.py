"""icsnn readers setup, icsnn readers status: the environments of the NIR readers."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from icsnn_deploy.cli.arguments import JsonFlag
from icsnn_deploy.cli.printing import print_json, progress_bars, report_errors
from icsnn_deploy.progress import tracked
from icsnn_deploy.readers.environment import ENVIRONMENTS, ReaderEnvironment, find_environment

readers = typer.Typer(
    name="readers",
    help="Set up the environments in which other frameworks read NIR files.",
    no_args_is_help=True,
)


@readers.command()
def setup(as_json: JsonFlag = False) -> None:
    """Create the environments of the NIR readers; complete ones are left as they are."""
    with report_errors(as_json):
        from icsnn_deploy.readers.setup import set_up

        with progress_bars() as progress:
            found = {name: set_up(name, progress) for name in ENVIRONMENTS}
        _show(found, as_json=as_json)


@readers.command()
def status(as_json: JsonFlag = False) -> None:
    """Show the environments of the NIR readers, and test each reader with three neurons."""
    with report_errors(as_json):
        from icsnn_deploy.readers.setup import check

        found = {name: find_environment(name) for name in ENVIRONMENTS}
        with progress_bars() as progress:
            for name in tracked(found, "testing readers", len(found), progress):
                check(name, found[name])
        _show(found, as_json=as_json)


def _show(found: Mapping[str, ReaderEnvironment], *, as_json: bool) -> None:
    """Print environments whose self-tests passed."""
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
