"""The contract of an exported ONNX file: its layouts, options, tensor names and operators.

What the exporter writes and the reader demands stands here once. Nothing in it needs onnx.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["unrolled", "folded", "scan", "step"]

LAYOUTS: tuple[Layout, ...] = ("unrolled", "folded", "scan", "step")
TIMED_LAYOUTS: tuple[Layout, ...] = ("unrolled", "folded", "scan")
"""Those of a file that runs all T steps."""
Runtime = Literal["onnxruntime", "openvino"]

RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino")

Step = int | Literal["t"] | None

OPSET = 18
IR_VERSION = 8  # the one that came with opset 18, so that old runtimes read the file
FORMAT = "1"  # raise it when a reader of today would misread a file of tomorrow
PRODUCER = "icsnn-deploy"

# Each of these runs on ONNX Runtime, TensorRT, OpenVINO and onnx's own reference evaluator.
OPERATORS = frozenset(
    {
        "Add",
        "AveragePool",
        "Cast",
        "Concat",
        "Conv",
        "CumSum",
        "Div",
        "Gemm",
        "GreaterOrEqual",
        "Mul",
        "ReduceSum",
        "Reshape",
        "Scan",
        "Slice",
        "Split",
        "Sub",
        "Where",
    }
)

INPUT = "x"  # [N, *shape], or [T, N, *shape] for rate and event input
LOGITS = "logits"  # [N, *output shape], mean over the steps in (readout_start, T]
LOGITS_T = "logits_t"  # [T, N, *output shape], running mean; 0 up to readout_start
CURRENT = "y"  # step layout: the readout's current of this step, [N, *output shape]
BATCH = "N"
FOLDED = "TN"  # folded and scan: all steps of all samples on one axis, T slowest

# First parts of names that are not a node's: a node called like one gets a scope of its own.
_TAKEN = ("const", "spike_count", "spikes")

MAX_BYTES = 2**31 - 1
"""A protobuf message can't be longer."""


@dataclass(frozen=True, kw_only=True)
class OnnxOptions:
    """How an exported file is laid out, and what it hands out besides the logits.

    Outputs that sum over time are not in the step layout, which calls its spikes
    <population>/spikes.
    """

    layout: Layout | Literal["auto"] = "auto"
    runtime: Runtime = "onnxruntime"  # what auto chooses for
    logits_t: bool = False  # running mean of the readout, [T, N, *output shape]
    spike_counts: bool = False  # int32 spike_count/<population>, [N, *shape]
    raw_spikes: bool = False  # uint8 spikes/<population>, [T, N, *shape]
    inline_bytes: int = 2**31 - 2**26  # of parameters; more go into a second file, <name>.data


def tensor_name(node: str, role: str, step: Step = None) -> str:
    """Name of a tensor of a node: layer1.0.if1/v@7; @t in a Scan's body; else without @."""
    scope = f"{node}/" if node in _TAKEN else node
    return f"{scope}/{role}" if step is None else f"{scope}/{role}@{step}"


def spike_count_name(population: str) -> str:
    """Name of the output that counts a population's spikes."""
    return f"spike_count/{population}"


def raw_spikes_name(population: str) -> str:
    """Name of the output that holds a population's spikes at all steps."""
    return f"spikes/{population}"


def constant_name(what: str) -> str:
    """Name of a constant that belongs to no node."""
    return f"const/{what}"
