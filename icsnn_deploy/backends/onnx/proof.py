"""Proof that a runtime computes a certified file exactly, before its results are used.

If the certificate in the file says that float32 is exact, a runtime must give the same numbers as
onnx's own reference evaluator (NumPy, independent of every runtime), bit for bit. So each session
is run when it is opened, on random samples over the whole range of the file's input: once on a
batch, once on a single sample. That finds fused kernels that lose a term, a stride or a padding.

A float network has no exact result; `verify` compares its spikes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np

from icsnn_deploy.backends.onnx.reference_session import ReferenceSession
from icsnn_deploy.backends.onnx.session import Session
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.onnx.contract import LOGITS, LOGITS_T, tensor_name
from icsnn_deploy.exporters.onnx.read import OnnxFile, parse
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import inner_tracked

SAMPLES = 3
CHEAP = 1 << 26
"""Multiply-adds of all samples and steps up to which sessions are proven by default: about a second
of the reference evaluator."""
_SEED = 20261


def is_certified(file: OnnxFile) -> bool:
    """Whether the file's certificate says that float32 runs its network exactly."""
    try:
        summary = json.loads(file.metadata.certificate)
    except (ValueError, RecursionError):
        return False
    return isinstance(summary, dict) and summary.get("float32") is True


def is_cheap(file: OnnxFile) -> bool:
    """Whether a proof takes about a second at most."""
    return SAMPLES * multiply_adds(file) <= CHEAP


def multiply_adds(file: OnnxFile) -> int:
    """An upper estimate of the multiply-adds per sample, from the sizes of the tensors."""
    model = parse(file.data)
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    positions = file.sample_bytes // 4  # of the largest tensor
    total = 0
    for node in model.graph.node:
        weight = next((name for name in node.input[1:2] if name in sizes), None)
        if node.op_type not in ("Conv", "Gemm") or weight is None:
            continue
        dims = sizes[weight]
        spatial = positions // dims[0] if node.op_type == "Conv" else 1
        total += math.prod(dims) * max(1, spatial)
    # In these layouts one node runs all steps; in the others each step has its own, or is alone.
    folded = file.metadata.layout in ("folded", "scan")
    return total * (file.metadata.time_steps if folded else 1)


def prove_session(
    file: OnnxFile, data: bytes, session: Session, outputs: Sequence[str], runtime: str
) -> None:
    """Run a session on random samples and compare it with the reference evaluator.

    Args:
        file: the exported file.
        data: the session's serialized model: the file's, or one with added outputs.
        session: to be proven.
        outputs: names of the outputs that are compared.
        runtime: its name, for the message.

    Raises:
        ExportError: an output differs; names the file, the output and what to do.
    """
    reference = ReferenceSession(file, data)
    for samples in inner_tracked((SAMPLES, 1), f"proof of {runtime}"):
        feed = random_feed(file, samples)
        expected = reference.run(outputs, feed)
        got = session.run(outputs, feed)
        for name, right, actual in zip(outputs, expected, got, strict=True):
            if not _equal(file, name, actual, right):
                raise ExportError(
                    f"{file.path}: {runtime} computes {name[:80]!r} wrongly on this machine: "
                    f"{_difference(actual, right)}. The network is certified, so every runtime "
                    "must give the same numbers; use another backend or layout, or report it to "
                    "the runtime's authors"
                )


def random_feed(file: OnnxFile, samples: int) -> dict[str, Array]:
    """Random samples over the range of the file's input, and v_init if potentials are inputs."""
    rng = np.random.default_rng(_SEED)
    metadata = file.metadata
    timed = metadata.is_timed
    step = metadata.layout == "step"
    lead = (metadata.time_steps, samples) if timed and not step else (samples,)
    shape = (*lead, *file.input_shape)
    if timed:
        x = rng.integers(0, 2, shape).astype(file.input_dtype)
    elif file.input_dtype == "float32":
        x = rng.integers(-1, 2, shape).astype(np.float32)
    else:
        limits = np.iinfo(file.input_dtype)
        x = rng.integers(limits.min, limits.max + 1, shape).astype(file.input_dtype)
    states: Mapping[str, Array] = metadata.v_init if step else {}
    v = {
        tensor_name(name, "v_in"): np.broadcast_to(
            value, (samples, *metadata.populations[name])
        ).astype(np.float32)
        for name, value in states.items()
    }
    return {**file.split(x), **v}


def _equal(file: OnnxFile, name: str, actual: Array, right: Array) -> bool:
    if actual.shape != right.shape:
        return False
    units = {row.tensor: row.unit or 1.0 for row in file.metadata.outputs}
    if name not in (LOGITS, LOGITS_T, *units):
        return bool(np.array_equal(actual, right))
    # A mean of integers: runtimes may round the division, and the unit, differently.
    steps = file.metadata.time_steps - file.metadata.readout_start
    allowed = 0.5 / steps * units.get(name, 1.0)
    with np.errstate(all="ignore"):  # infinity less infinity
        near = np.abs(actual.astype(np.float64) - right) < allowed
    return bool((near | (actual == right)).all())


def _difference(actual: Array, right: Array) -> str:
    if actual.shape != right.shape:
        return f"shape {list(actual.shape)} instead of {list(right.shape)}"
    index = tuple(int(n) for n in np.argwhere(actual != right)[0])
    count = int((actual != right).sum())
    return (
        f"{count} of {right.size} values differ, the first at {index}: {actual[index]} instead of "
        f"{right[index]}"
    )
