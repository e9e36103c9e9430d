"""Which layout an exported network gets when none is asked for."""

from __future__ import annotations

from icsnn_deploy.exporters.onnx.contract import Layout, OnnxOptions, Runtime
from icsnn_deploy.exporters.onnx.time_split import TimeSplit
from icsnn_deploy.graph.graph import Graph

# Measured (docs/onnx.md). ONNX Runtime: unrolled runs 1.0 to 1.25 times as fast as scan, but takes
# a time to load that grows faster than T, and scan one for every T. OpenVINO: unrolled runs 1.5
# times as fast and takes twenty times as long to load. Folded lies between the two in most of it.
_MOST_STEPPED: dict[Runtime, int] = {"onnxruntime": 1024, "openvino": 512}
"""Nodes that iterate times T, up to which a network is unrolled: T = 18 for a ResNet20."""


def layout_of(graph: Graph, options: OnnxOptions) -> Layout:
    """The layout that a network is written in."""
    if options.layout == "auto":
        return choose_layout(graph, options.runtime)
    return options.layout


def choose_layout(graph: Graph, runtime: Runtime) -> Layout:
    """The layout that runs and loads best, by T, size and runtime."""
    per_step = len(TimeSplit.of(graph).per_step) * graph.steps
    return "unrolled" if per_step <= _MOST_STEPPED[runtime] else "scan"
