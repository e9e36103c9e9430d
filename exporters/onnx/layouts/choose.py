"""Choose the layout of an exported network."""

from __future__ import annotations

from icsnn_deploy.exporters.onnx.contract import Layout, OnnxOptions, Runtime
from icsnn_deploy.exporters.onnx.time_split import TimeSplit
from icsnn_deploy.graph.graph import Graph

# Measured (docs/reference/onnx.md). ONNX Runtime: unrolled runs 1.0 to 1.25 times as fast as scan,
# but its load time grows faster than T, while that of scan is constant. OpenVINO: unrolled runs
# 1.5 times as fast and takes twenty times as long to load. Folded mostly lies between the two.
_MOST_UNROLLED: dict[Runtime, int] = {"onnxruntime": 1024, "openvino": 512}
"""Largest number of nodes per step, times T, that is unrolled: up to T = 18 for a ResNet20."""


def layout_of(graph: Graph, options: OnnxOptions) -> Layout:
    """The layout in which a network is written."""
    if options.layout == "auto":
        return choose_layout(graph, options.runtime)
    return options.layout


def choose_layout(graph: Graph, runtime: Runtime) -> Layout:
    """The layout that loads and runs fastest, by T, network size and runtime."""
    per_step = len(TimeSplit.of(graph).per_step) * graph.steps
    return "unrolled" if per_step <= _MOST_UNROLLED[runtime] else "scan"
