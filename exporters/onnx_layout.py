"""Which layout an exported network gets when none is asked for."""

from __future__ import annotations

from icsnn_deploy.exporters.onnx_format import Layout, OnnxOptions, Runtime
from icsnn_deploy.graph import Graph


def layout_of(graph: Graph, options: OnnxOptions) -> Layout:
    """The layout that a network is written in."""
    if options.layout == "auto":
        return choose_layout(graph, options.runtime)
    return options.layout


def choose_layout(graph: Graph, runtime: Runtime) -> Layout:
    """The layout that runs and loads best, by T, size and runtime."""
    return "unrolled" if graph.steps <= 32 else "scan"
