"""Write the NIR file for py-spinnaker2."""

from __future__ import annotations

from pathlib import Path

from icsnn_deploy.exporters.nir.write.file import write as write_nir
from icsnn_deploy.exporters.spinnaker2.network import for_spinnaker2
from icsnn_deploy.graph.graph import Graph


def write(graph: Graph, path: Path) -> None:
    """Write a network as a NIR file of profile spec, in the form that the importer runs.

    Args:
        graph: an integer network that takes spikes.
        path: the file.

    Raises:
        ExportError: the importer can't run it; names the nodes.
    """
    write_nir(for_spinnaker2(graph), path)


def check_form(graph: Graph, names: tuple[str, ...], options: None) -> None:
    """Raise ExportError where a network has no such form; see formats.Format."""
    for_spinnaker2(graph)
