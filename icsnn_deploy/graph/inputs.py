"""Inputs of a network: their check, their units, and rate encoding.

The inputs and outputs of an integer network are integers. Input.unit and Graph.output_unit say what
the integer 1 stands for.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrays import to_numpy
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Input


def check_inputs(graph: Graph, inputs: Array) -> Array:
    """The inputs as an array that fits the graph's input node.

    Args:
        graph: the network.
        inputs: [B, *shape] for direct encoding; [T, B, *shape] spikes for rate and event input.

    Raises:
        DataError: a wrong shape, a type that can't hold the values, or a value not finite.
    """
    return check_input(graph.input, graph.time_steps, inputs)


def check_spikes(node: Input, inputs: Array) -> None:
    """Raise DataError where an input node takes spikes and the inputs hold other values.

    The certificate counts on it: a sum of events would be a larger current.
    """
    timed = node.is_timed and node.dtype != "float32"
    if timed and inputs.size and (inputs.min() < 0 or inputs.max() > 1):
        raise DataError(
            f"input values {inputs.min()} to {inputs.max()}: {node.encoding} encoding takes "
            "spikes, 0 or 1; clip the counts of events to 1, or use more time steps"
        )


def check_input(node: Input, steps: int | None, inputs: Array) -> Array:
    """The inputs as an array that fits an input node; see check_inputs.

    Args:
        node: the input node.
        steps: T of the network; None for an ANN.
        inputs: [B, *shape], or [T, B, *shape] where the node is timed.
    """
    array = to_numpy(inputs)
    timed = node.is_timed
    lead = ("T", "B") if timed else ("B",)
    rank_fits = array.ndim == len(lead) + len(node.shape)
    if not rank_fits or array.shape[len(lead) :] != node.shape:
        wanted = ", ".join([*lead, *map(str, node.shape)])
        raise DataError(f"input of shape {array.shape}: [{wanted}] is needed")
    if timed and array.shape[0] != steps:
        raise DataError(f"input of {array.shape[0]} steps: the network runs {steps}")
    if node.dtype != "float32":
        if array.dtype.kind not in "iub":
            raise DataError(f"input of type {array.dtype}: integers that fit {node.dtype} needed")
        limits = np.iinfo(node.dtype)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise DataError(
                f"input values {array.min()} to {array.max()}: {node.dtype} holds "
                f"{limits.min} to {limits.max}"
            )
        check_spikes(node, array)
    elif array.dtype.kind not in "fiub":
        raise DataError(f"input of type {array.dtype}: real numbers are needed")
    with np.errstate(over="ignore"):
        found = array.astype(node.dtype, copy=False)
    if not np.isfinite(found).all():
        raise DataError("input holds NaN or infinity, or values beyond float32")
    return found


def to_input_units(graph: Graph, samples: Array) -> Array:
    """Real samples as the network takes them: round(sample / unit) for an integer input.

    Values beyond the range of the input's type are clipped to it. Integer arrays, and samples for a
    float32 input, are returned as they are.

    Args:
        graph: the network.
        samples: real values, of any shape.

    Raises:
        DataError: NaN or infinity, which no integer stands for.
    """
    node = graph.input
    array = to_numpy(samples)
    if node.dtype == "float32" or array.dtype.kind != "f":
        return array
    if not np.isfinite(array).all():
        raise DataError("input holds NaN or infinity: no integer stands for them")
    limits = np.iinfo(node.dtype)
    steps = np.round(array.astype(np.float64) / node.unit)
    return np.clip(steps, limits.min, limits.max).astype(node.dtype)


def to_real_units(graph: Graph, inputs: Array) -> Array:
    """The real values that inputs stand for: the inverse of to_input_units up to rounding."""
    unit = graph.input.unit
    return inputs if unit == 1 else (np.asarray(inputs) * unit).astype(np.float32)


def logit_unit(graph: Graph) -> float | Array | None:
    """The logit that 1 at the output stands for: output_unit where recorded, otherwise 1.

    Returns:
        one number; or one per value, [*output shape], where the model's outputs have units of
        their own (a value that no output reads gets 1); None for an integer network without a
        recorded unit.
    """
    unit, node = graph.output_unit, graph.output
    if unit is None:
        return None if graph.is_integer else 1.0
    if not isinstance(unit, tuple):
        return float(unit)
    shape = graph.shape(node.name)
    values = np.ones(math.prod(shape), np.float64)
    if node.index is not None:
        values[node.index] = np.repeat(unit, [part.size for part in node.parts])
    return values.reshape(shape)


def part_units(graph: Graph) -> tuple[float, ...] | None:
    """The value that 1 stands for in each of the model's outputs; None as for logit_unit."""
    unit, count = graph.output_unit, max(1, len(graph.output.parts))
    if isinstance(unit, tuple):
        return unit
    if unit is None:
        return None if graph.is_integer else (1.0,) * count
    return (float(unit),) * count


def encode_rate(samples: Array, time_steps: int, *, seed: int | None = None) -> Array:
    """Spikes whose mean over time approaches the sample.

    Without a seed the spikes are deterministic, s[t] = floor(t x + 1/2) - floor((t-1) x + 1/2):
    those of an IF neuron with v_threshold 1 and v_init 1/2. With a seed each step is a Bernoulli
    draw; the draws of a sample depend on the seed and its values alone, whatever batch it is in.

    Args:
        samples: [B, *shape], values in [0, 1].
        time_steps: T, number of steps.
        seed: of the Bernoulli draws; None for deterministic spikes.

    Returns:
        Spikes as uint8, [T, B, *shape].

    Raises:
        DataError: values outside [0, 1].
    """
    x = to_numpy(samples).astype(np.float64)
    if not ((x >= 0) & (x <= 1)).all():  # NaN is neither
        raise DataError(f"rate encoding of values {x.min()} to {x.max()}: [0, 1] is needed")
    if seed is not None:
        spikes = np.empty((time_steps, *x.shape), np.uint8)
        for number, sample in enumerate(x):
            digest = hashlib.sha256(np.ascontiguousarray(sample).tobytes()).digest()
            generator = np.random.default_rng([seed, int.from_bytes(digest[:16], "little")])
            spikes[:, number] = generator.random((time_steps, *sample.shape)) < sample
        return spikes
    steps = np.arange(time_steps + 1, dtype=np.float64).reshape(-1, *(1,) * x.ndim)
    counts = np.floor(steps * x + 0.5)  # [T + 1, B, *shape]
    return np.diff(counts, axis=0).astype(np.uint8)
