"""The contract of an exported ONNX file: its layouts, options, tensor names and operators.

The writer follows it and the reader checks it. Nothing here needs the onnx package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from icsnn_deploy.exporters.options import ExportOptions

TimedLayout = Literal["unrolled", "folded", "scan"]
Layout = Literal["unrolled", "folded", "scan", "step"]
Runtime = Literal["onnxruntime", "openvino"]
Step = int | Literal["t"] | None

TIMED_LAYOUTS: tuple[TimedLayout, ...] = ("unrolled", "folded", "scan")
"""Layouts of a file that runs all T steps."""
LAYOUTS: tuple[Layout, ...] = (*TIMED_LAYOUTS, "step")
RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino")

OPSET = 18
IR_VERSION = 8  # released with opset 18, so that old runtimes read the file
FORMAT = "1"  # increase it when today's reader would misread the new files
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
        "Gather",
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

# First parts of names that belong to no node: a node with such a name gets its own scope.
_TAKEN = ("const", "spike_count", "spikes")

MAX_BYTES = 2**31 - 1
"""Longest protobuf message."""


@dataclass(frozen=True, kw_only=True)
class OnnxOptions(ExportOptions):
    """Layout and outputs of an exported ONNX file.

    The step layout has no outputs that sum over time (logits_t, spike_counts); its spikes are
    called <population>/spikes.

    Args:
        layout: how T steps are written; "auto" chooses by T, network size and runtime.
        runtime: the runtime that "auto" chooses for.
        logits_t: add the output logits_t, the running mean of the readout
            [T, N, *output shape].
        spike_counts: add the outputs spike_count/<population>, int32 [N, *shape].
        raw_spikes: add the outputs spikes/<population>, uint8 [T, N, *shape].
        inline_bytes: largest size of all parameters together that stays in the model; beyond it
            they are written to a second file, <name>.data.
    """

    layout: Layout | Literal["auto"] = "auto"
    runtime: Runtime = "onnxruntime"
    logits_t: bool = False
    spike_counts: bool = False
    raw_spikes: bool = False
    inline_bytes: int = 2**31 - 2**26


def tensor_name(node: str, role: str, step: Step = None) -> str:
    """Name of a tensor of a node: layer1.0.if1/v@7; v@t in the body of a Scan; v elsewhere."""
    scope = f"{node}/" if node in _TAKEN else node
    return f"{scope}/{role}" if step is None else f"{scope}/{role}@{step}"


def input_tensors(names: Sequence[str]) -> tuple[str, ...]:
    """Names of the ONNX inputs for the model's inputs of these names."""
    return _free_names(names, {LOGITS, LOGITS_T, CURRENT})


def output_tensors(names: Sequence[str], inputs: Sequence[str]) -> tuple[str, ...]:
    """Names of the ONNX outputs for the model's outputs of these names, beside these inputs."""
    return _free_names(names, {INPUT, LOGITS, LOGITS_T, CURRENT, *inputs})


def _free_names(names: Sequence[str], taken: set[str]) -> tuple[str, ...]:
    """The names with "." for "/", as all others have one, and "_" added to those that are taken."""
    found = []
    for name in names:
        free = name.replace("/", ".")
        while free in taken:
            free += "_"
        taken = {*taken, free}
        found.append(free)
    return tuple(found)


def spike_count_name(population: str) -> str:
    """Name of the output that counts a population's spikes."""
    return f"spike_count/{population}"


def raw_spikes_name(population: str) -> str:
    """Name of the output that holds a population's spikes at all steps."""
    return f"spikes/{population}"


def constant_name(what: str) -> str:
    """Name of a constant that belongs to no node."""
    return f"const/{what}"
