"""The environments of the tools, one each, with the versions that were tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from icsnn_deploy.environments.spec import EnvironmentSpec, default_folder, python_of
from icsnn_deploy.environments.stamp import read_stamp, read_strings
from icsnn_deploy.errors import BackendUnavailableError

SETUP = "icsnn tools setup"


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool and what its environment holds.

    Args:
        name: of the tool, on the command line.
        title: of the tool, in messages.
        module: of the worker that runs it, in the package icsnn_tools.
        pins: the distributions that determine its results, with the tested versions.
        megabytes: of the environment on disk.
        most_synapses: of a network that it runs in reasonable time and memory.
    """

    name: str
    title: str
    module: str
    pins: Mapping[str, str]
    megabytes: int
    most_synapses: int

    @property
    def spec(self) -> EnvironmentSpec:
        """Its environment."""
        return EnvironmentSpec(
            title=self.title,
            name=self.name,
            command=f"{SETUP} {self.name}",
            variable=f"ICSNN_{self.name.upper().replace('-', '_')}",
        )

    def check_versions(self, content: bytes, where: str) -> dict[str, str]:
        """Read the versions of `pins` from a JSON object.

        Raises:
            BackendUnavailableError: versions are missing, or are not the tested ones.
        """
        installed = read_strings(content, where, tuple(self.pins))
        wrong = [
            f"{package} {installed[package][:40]}, tested with {version}"
            for package, version in self.pins.items()
            if installed[package] != version
        ]
        if wrong:
            raise BackendUnavailableError(f"{where}: {'; '.join(wrong)}")
        return installed


TOOLS: Mapping[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            name="nengo-loihi",
            title="nengo-loihi",
            module="icsnn_tools.nengo_loihi_emulator",
            pins={"nengo-loihi": "1.1.0", "nengo": "4.1.0", "numpy": "2.2.6"},
            megabytes=250,
            most_synapses=20_000_000,
        ),
        Tool(
            name="sanafe",
            title="SANA-FE",
            module="icsnn_tools.sanafe_chip",
            pins={"sanafe": "2.2.9", "numpy": "2.2.6"},
            megabytes=110,
            most_synapses=1_000_000,  # 4.4 kB of memory each
        ),
        Tool(
            name="brian2",
            title="Brian2",
            module="icsnn_tools.brian2_network",
            pins={"Brian2": "2.9.0", "numpy": "2.2.6"},
            megabytes=220,
            most_synapses=20_000_000,
        ),
    )
}
"""By name."""


@dataclass(frozen=True, kw_only=True)
class ToolEnvironment:
    """An environment that is ready."""

    folder: Path
    python: Path
    versions: Mapping[str, str]


def find_environment(tool: Tool) -> ToolEnvironment:
    """Find the environment of a tool; nothing is started.

    Raises:
        BackendUnavailableError: it is missing or not ready; names the command that creates it.
    """
    folder = default_folder(tool.spec)
    versions = read_stamp(tool.spec, folder, tool.check_versions, tool.spec.command)
    return ToolEnvironment(folder=folder, python=python_of(folder), versions=versions)


def find_tool(name: str) -> Tool:
    """The tool of a name; raises BackendUnavailableError if there is none."""
    if name not in TOOLS:
        raise BackendUnavailableError(f"no tool {name!r}; there are {', '.join(TOOLS)}")
    return TOOLS[name]
