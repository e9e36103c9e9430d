"""Golden spikes: an integer network's exact spikes for a few inputs, for tests of devices.

A safetensors file:

    inputs                  [N, *shape], the network's integer input; spikes [T, N, *shape]
    logit_sums              int64 [N, classes], the output's current summed over (readout_start, T]
    spikes/<population>     uint8 [T, N, ceil(neurons / 8)], eight neurons per byte, the first in
                            the highest bit, neurons in C order
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from icsnn_deploy.backends.recording import Record, Recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.errors import BundleError, LatticeError
from icsnn_deploy.exporters.expected import ExpectedRun
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, Population

FILE = "golden.safetensors"


def golden_bytes(network: Graph, inputs: Array) -> bytes:
    """Run an integer network on the inputs; returns the content of a golden file."""
    from safetensors.numpy import save

    if not network.is_integer:
        raise LatticeError("golden spikes need an integer network; make one with quantize")
    recording = ReferenceSimulator(network).run(inputs)
    steps = network.steps - network.readout_start
    tensors = {
        "inputs": np.ascontiguousarray(inputs),
        "logit_sums": np.rint(recording.logits * steps).astype(np.int64),
    }
    for name, spikes in recording.spikes.items():
        rows = spikes.reshape(*spikes.shape[:2], -1)  # [T, N, neurons]
        tensors[f"spikes/{name}"] = np.packbits(rows, axis=-1)
    return save(tensors)


def read_golden(path: Path, network: Graph) -> tuple[Array, Recording]:
    """Read the inputs and the recording; raises BundleError if they are not of this network."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
        inputs, sums = tensors["inputs"], tensors["logit_sums"]
        count = inputs.shape[network.input.batch_axis]
        spikes = {}
        for node in network.nodes_of(Population):
            shape = network.shape(node.name)
            packed = tensors[f"spikes/{node.name}"]
            bits = np.unpackbits(packed, axis=-1, count=int(np.prod(shape)))
            spikes[node.name] = bits.reshape(network.steps, count, *shape)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise BundleError(f"{path}: not golden spikes of this network ({error})") from error
    logits = sums / (network.steps - network.readout_start)
    return inputs, Recording(backend="golden", logits=logits, spikes=spikes)


def expected_run(network: Graph, inputs: Array) -> ExpectedRun:
    """Run an integer network on the reference, for files that hold tests of their own.

    Args:
        network: an integer network.
        inputs: [N, *shape]; spikes [T, N, *shape] for rate and event input.
    """
    whole = replace(network, readout_start=0)  # its running mean tells the current of every step
    populations = whole.nodes_of(IF)
    record = Record(logits_t=True, potentials=frozenset(node.name for node in populations))
    recording = ReferenceSimulator(whole).run(inputs, record)
    potentials, currents = {}, {}
    for node in populations:
        s, u = recording.spikes[node.name], recording.potentials[node.name] - 0.5
        reset = u - node.v_threshold if node.v_reset is None else node.v_reset - 0.5
        after = np.where(s, reset, u)
        start = np.broadcast_to(node.v_init - 0.5, after.shape[1:])
        before = np.concatenate([start[None], after[:-1]])
        potentials[node.name] = after.astype(np.int64)
        currents[node.name] = (u - before).astype(np.int64)
    assert recording.logits_t is not None
    steps = np.arange(1, whole.steps + 1).reshape(-1, *(1,) * recording.logits.ndim)
    sums = np.rint(recording.logits_t * steps).astype(np.int64)
    currents[network.output.name] = np.diff(sums, axis=0, prepend=0)
    start_sum = sums[network.readout_start - 1] if network.readout_start else 0
    return ExpectedRun(
        logit_sums=sums[-1] - start_sum,
        spikes=recording.spikes,
        potentials=potentials,
        currents=currents,
    )
