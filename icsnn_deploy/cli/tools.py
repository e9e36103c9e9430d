"""icsnn tools setup, icsnn tools status: the environments of chip emulators and simulators."""

from __future__ import annotations

from typing import Annotated

import typer

from icsnn_deploy.cli.arguments import JsonFlag
from icsnn_deploy.cli.printing import print_json, progress_bars, report_errors
from icsnn_deploy.tools.environment import TOOLS, ToolEnvironment, find_environment, find_tool

tools = typer.Typer(
    name="tools",
    help="Set up the environments of chip emulators and simulators by others.",
    no_args_is_help=True,
)

ToolName = Annotated[str, typer.Argument(help=f"One of {', '.join(TOOLS)}.")]


@tools.command()
def setup(name: ToolName, as_json: JsonFlag = False) -> None:
    """Create the environment of a tool; a complete one is left as it is."""
    with report_errors(as_json):
        from icsnn_deploy.tools.setup import set_up

        tool = find_tool(name)
        with progress_bars() as progress:
            environment = set_up(tool, progress)
        _show(name, environment, as_json=as_json)


@tools.command()
def status(name: ToolName, as_json: JsonFlag = False) -> None:
    """Show the environment of a tool, and test it with three neurons."""
    with report_errors(as_json):
        from icsnn_deploy.tools.setup import check

        tool = find_tool(name)
        environment = find_environment(tool)
        with progress_bars() as progress:
            progress(f"testing {tool.title}", 0, None)
            check(tool, environment)
        _show(name, environment, as_json=as_json)


def _show(name: str, environment: ToolEnvironment, *, as_json: bool) -> None:
    """Print an environment whose self-test passed."""
    if as_json:
        print_json(
            {
                "tool": name,
                "folder": str(environment.folder),
                "python": str(environment.python),
                "versions": dict(environment.versions),
                "self_test": "passed",
            }
        )
        return
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    typer.echo(f"{environment.folder}: {versions}; self-test passed")
