"""The NIR formats of the table: nir, nir-portable and nir-relay, and their options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.nir.metadata import NirProfile, VInitEncoding
from icsnn_deploy.exporters.nir.portable.reader_limits import require_held
from icsnn_deploy.exporters.nir.write.file import write
from icsnn_deploy.exporters.options import ExportOptions
from icsnn_deploy.graph.graph import Graph

VARIANTS: dict[str, tuple[NirProfile, VInitEncoding]] = {
    "nir": ("spec", "metadata"),
    "nir-portable": ("portable", "metadata"),
    "nir-relay": ("portable", "relay"),
}
"""Profile and encoding of the initial potentials in the file of each format."""


@dataclass(frozen=True, kw_only=True)
class NirOptions(ExportOptions):
    """Which NIR file the format "nir" stands for, and which framework will read it.

    The formats nir-portable and nir-relay stand for themselves, whatever `profile` and
    `v_init_encoding` are; VARIANTS has theirs.

    Args:
        profile: "spec" keeps the network's own operations; "portable" uses the few operations
            that other frameworks run correctly. None: "portable" where `v_init_encoding` or
            `for_reader` asks for it, else "spec".
        v_init_encoding: where initial potentials are stored: in the "metadata" of the nodes, or
            by a "relay", an extra input channel (profile portable only).
        for_reader: name of a framework in READERS that must be able to run the portable file.
    """

    profile: NirProfile | None = None
    v_init_encoding: VInitEncoding = "metadata"
    for_reader: str | None = None


def select_format(options: NirOptions) -> str:
    """The format that "nir" stands for; raises ExportError where there is no such file."""
    portable = options.for_reader is not None or options.v_init_encoding != "metadata"
    profile = options.profile or ("portable" if portable else "spec")
    wanted = (profile, options.v_init_encoding)
    for name, variant in VARIANTS.items():
        if variant == wanted:
            return name
    raise ExportError(
        f"no NIR with profile {profile} and v_init_encoding {options.v_init_encoding}; there are "
        + ", ".join(f"{one} with {other}" for one, other in VARIANTS.values())
    )


def check_reader(graph: Graph, formats: Sequence[str], options: NirOptions) -> None:
    """Check that the framework of `options.for_reader` can run one of the formats.

    Raises:
        ExportError: an unknown framework, no portable file among the formats, or a network that
            the framework can't hold.
    """
    if options.for_reader is None:
        return
    portable = [name for name, (profile, _) in VARIANTS.items() if profile == "portable"]
    if not set(portable) & set(formats):
        raise ExportError(
            f"for {options.for_reader}: other frameworks take {' or '.join(portable)}, "
            f"not {', '.join(formats)}; export with profile portable"
        )
    require_held(graph, options.for_reader)


def write_spec(graph: Graph, path: Path, options: NirOptions) -> None:
    """Write the format nir; raises ExportError."""
    write(graph, path, *VARIANTS["nir"])


def write_portable(graph: Graph, path: Path, options: NirOptions) -> None:
    """Write the format nir-portable; raises ExportError."""
    write(graph, path, *VARIANTS["nir-portable"])


def write_relay(graph: Graph, path: Path, options: NirOptions) -> None:
    """Write the format nir-relay; raises ExportError."""
    write(graph, path, *VARIANTS["nir-relay"])
