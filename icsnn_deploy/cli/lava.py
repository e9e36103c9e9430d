"""icsnn lava setup, icsnn lava status: the environment that Lava runs in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from icsnn_deploy.cli.arguments import JsonFlag
from icsnn_deploy.cli.printing import print_json, progress_bars, report_errors
from icsnn_deploy.errors import BackendUnavailableError
from icsnn_deploy.lava.environment import WorkerEnvironment, find_worker

lava = typer.Typer(
    name="lava",
    help="Set up the environment that Intel's Lava runs in.",
    no_args_is_help=True,
)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--at",
        help="Its folder. Default: $ICSNN_LAVA, or .venv-lava beside the current environment.",
    ),
]


@lava.command()
def setup(
    python: Annotated[
        str | None, typer.Option(help="The Python to create it with: 3.10, 3.11, 3.12 or a path.")
    ] = None,
    at: Folder = None,
    as_json: JsonFlag = False,
) -> None:
    """Create the environment that Lava runs in; a complete one is left as it is."""
    with report_errors(as_json):
        from icsnn_deploy.lava.setup import set_up

        with progress_bars() as progress:
            environment = set_up(at, python, progress)
        _show(environment, as_json=as_json)
        if not as_json and not _is_found(environment):
            typer.echo(f"to use it: export ICSNN_LAVA={environment.folder}")


@lava.command()
def status(at: Folder = None, as_json: JsonFlag = False) -> None:
    """Show the environment that Lava runs in, and test it with two neurons."""
    with report_errors(as_json):
        from icsnn_deploy.lava.setup import check

        environment = find_worker(at)
        with progress_bars() as progress:
            progress("testing Lava", 0, None)
            check(environment)
        _show(environment, as_json=as_json)


def _is_found(environment: WorkerEnvironment) -> bool:
    """Whether this environment is used where no folder is named."""
    try:
        return find_worker().folder == environment.folder
    except BackendUnavailableError:
        return False


def _show(environment: WorkerEnvironment, *, as_json: bool) -> None:
    """Print an environment whose self-test passed."""
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
