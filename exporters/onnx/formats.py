"""The ONNX formats of the table: onnx and onnx-step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.onnx.contract import OnnxOptions
from icsnn_deploy.exporters.onnx.write import write
from icsnn_deploy.graph.graph import Graph


def write_all_steps(graph: Graph, path: Path, options: OnnxOptions) -> None:
    """Write the format onnx: a model that runs all T steps; raises ExportError."""
    if options.layout == "step":
        raise ExportError("layout step is a format of its own: export onnx-step")
    write(graph, path, options)


def write_one_step(graph: Graph, path: Path, options: OnnxOptions) -> None:
    """Write the format onnx-step: a model of one step, with explicit state; raises ExportError.

    `options` may be shared with the format onnx: outputs over all steps are left out here.
    """
    write(graph, path, replace(options, layout="step", logits_t=False, spike_counts=False))
