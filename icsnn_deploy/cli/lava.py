"""Commands that set Lava up: icsnn lava setup, icsnn lava status."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icsnn_deploy.cli.output import JsonFlag, print_json, progress_bars, reporting
from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.lava.environment import WorkerEnvironment, find_worker

lava = typer.Typer(
    name="lava",
    help="Set up the environment that Intel's Lava runs in.",
    no_args_is_help=True,
)

Folder = Annotated[
    Path | None,
    typer.Option("--at", help="Its folder; default: $ICSNN_LAVA, or .venv-lava beside this one."),
]


@lava.command()
def setup(
    python: Annotated[
        str | None, typer.Option(help="The Python to make it with: 3.10, 3.11, 3.12 or a path.")
    ] = None,
    at: Folder = None,
    as_json: JsonFlag = False,
) -> None:
    """Make the environment that Lava runs in; one that is ready is left as it is."""
    with reporting(as_json):
        from icsnn_deploy.lava.setup import set_up

        with progress_bars() as progress:
            environment = set_up(at, python, progress)
        _show(environment, as_json=as_json)
        if not as_json and not _is_found(environment):
            typer.echo(f"to use it: export ICSNN_LAVA={environment.folder}")


@lava.command()
def status(at: Folder = None, as_json: JsonFlag = False) -> None:
    """Show the environment that Lava runs in, and run two neurons in it."""
    with reporting(as_json):
        from icsnn_deploy.lava.setup import check

        environment = find_worker(at)
        check(environment)
        _show(environment, as_json=as_json)


def _is_found(environment: WorkerEnvironment) -> bool:
    """Whether it is the one that is used when no folder is named."""
    try:
        return find_worker().folder == environment.folder
    except BackendUnavailableError:
        return False


def _show(environment: WorkerEnvironment, *, as_json: bool) -> None:
    """An environment whose self-test passed."""
    if as_json:
        print_json(
            {
                "folder": str(environment.folder),
                "python": str(environment.python),
                "versions": dict(environment.versions),
                "shim": environment.is_shimmed,
                "self_test": "passed",
            }
        )
        return
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    kind = "with the shim for later Pythons" if environment.is_shimmed else "plain"
    typer.echo(f"folder     {environment.folder}")
    typer.echo(f"versions   {versions} ({kind})")
    typer.echo("self-test  passed")
