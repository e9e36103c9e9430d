"""The contract of an exported ONNX file: its layouts, options, tensor names and operators.

What the exporter writes and the reader demands stands here once. Nothing in it needs onnx.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["unrolled", "step"]

LAYOUTS: tuple[Layout, ...] = ("unrolled", "step")
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
        "Div",
        "Gemm",
        "GreaterOrEqual",
        "Mul",
        "Reshape",
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

# First parts of names that are not a node's: a node called like one gets a scope of its own.
_TAKEN = ("const", "spike_count", "spikes")

MAX_STEPS = 100_000


@dataclass(frozen=True, kw_only=True)
class OnnxOptions:
    """What an exported file hands out besides the logits."""

    logits_t: bool = False  # unrolled: running mean of the readout, [T, N, *output shape]
    spike_counts: bool = False  # unrolled: int32 spike_count/<population>, [N, *shape]
    raw_spikes: bool = False  # uint8 spikes/<population> [T, N, *shape]; step: <population>/spikes


def tensor_name(node: str, role: str, step: int | None = None) -> str:
    """Name of a tensor of a node: layer1.0.if1/v@7; without @ where it is the same at all steps."""
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
