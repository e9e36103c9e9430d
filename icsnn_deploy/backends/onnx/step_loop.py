"""The loop over time that runs a one-step file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from icsnn_deploy.backends.onnx.extra_outputs import Tap
from icsnn_deploy.backends.onnx.session import Session
from icsnn_deploy.exporters.onnx.contract import CURRENT, LOGITS, LOGITS_T, tensor_name
from icsnn_deploy.exporters.onnx.read import OnnxFile
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import inner_tracked


def run_steps(
    file: OnnxFile,
    session: Session,
    tapped: Session | None,
    x: Array,
    taps: Mapping[tuple[str, str], Tap],
) -> dict[tuple[str, str], Array]:
    """Run T steps from v_init, feeding each v_out back as v_in.

    Args:
        file: of the step layout.
        session: over the file's own bytes; the logits are computed from its output y.
        tapped: over the model with the taps' outputs; None without taps.
        x: one batch, [B, *shape], or [T, B, *shape] for rate and event input.
        taps: what to record at each step, by (role, population).

    Returns:
        logits [B, ...], logits_t and taps [T, B, ...], by (role, population).
    """
    metadata = file.metadata
    timed = metadata.is_timed
    inputs = list(x) if timed else [x] * metadata.time_steps
    currents = [row[0] for row in _loop(file, session, inputs, [CURRENT])]
    values = dict(_means(currents, metadata.readout_start))
    if tapped is not None:
        rows = _loop(file, tapped, inputs, [tap.output for tap in taps.values()])
        for index, key in enumerate(taps):
            values[key] = np.stack([row[index] for row in rows])  # [T, B, *shape]
    return values


def _loop(
    file: OnnxFile, session: Session, inputs: list[Array], outputs: list[str]
) -> list[list[Array]]:
    """Run all steps; returns the named outputs of each."""
    metadata = file.metadata
    batch = len(inputs[0])
    v = [
        np.broadcast_to(metadata.v_init[name], (batch, *shape)).astype(np.float32)
        for name, shape in metadata.populations.items()
    ]
    v_in = [tensor_name(name, "v_in") for name in metadata.populations]
    v_out = [tensor_name(name, "v_out") for name in metadata.populations]
    rows = []
    for x in inner_tracked(inputs, "steps in the ONNX runtime"):
        feed = {**file.feed(x), **dict(zip(v_in, v, strict=True))}
        results = session.run([*outputs, *v_out], feed)
        rows.append(results[: len(outputs)])
        v = results[len(outputs) :]
    return rows


def _means(currents: list[Array], readout_start: int) -> dict[tuple[str, str], Array]:
    """Logits and running mean of the readout's current over (readout_start, t]; 0 before."""
    means = np.zeros((len(currents), *currents[0].shape), np.float32)
    total = np.zeros(currents[0].shape, np.float64)
    for index in range(readout_start, len(currents)):
        total += currents[index]
        means[index] = total / (index + 1 - readout_start)
    return {(LOGITS, ""): means[-1], (LOGITS_T, ""): means}
