"""The certificate: why an integer network gives the same spikes on every backend.

Every value of an integer network is an integer, except v_init (and v_reset, with hard reset), which
is an integer plus one half: no potential ever equals a threshold. float32 represents every integer
up to 2^24 and every half integer up to 2^23. Where neither a potential nor a partial sum of a
population's current, in any order, reaches that, float32 makes no rounding error, and the order of
summation can't change a spike.

The bounds come from interval arithmetic over the graph (see interval.py).

A population whose current I is the same at every step (direct input, first layer) needs less. A
potential that such a current drives away from the threshold never comes back: with I <= 0 it only
falls, and with I >= v_threshold it spikes at every step from the first spike on. Rounding is
monotone, so that it changes neither. Only the current and the potentials near the threshold must
be exact. With hard reset a spike sets the potential to v_reset, and the same holds from there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from typing_extensions import assert_never

from icsnn_deploy.errors import LatticeError, lines
from icsnn_deploy.graph.connection_chains import connections_in_a_row
from icsnn_deploy.graph.copied_range import range_of_copies
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.interval import Range, range_of
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AvgPool,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Output,
    Relu,
)
from icsnn_deploy.graph.potential_range import largest_potential

FLOAT32_POTENTIAL = 2**23  # half integers are exact below
FLOAT32_INTEGER = 2**24  # integers are exact below
TF32_INTEGER = 2**11
BFLOAT16_INTEGER = 2**8


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What one population, or the output, can reach; all in lattice units."""

    layer: str
    current: tuple[int, int]  # least and largest current of one step
    partial_sum: int  # largest |partial sum| on the way to the current, in any order
    potential: int  # largest |u| and |v| over T, rounded up; at the output |sum of T currents|
    exact_below: int  # largest magnitude that has to be exact
    limit: int  # what float32 can do here
    bits: int  # of a signed integer register that holds every potential
    steady: bool  # the current is the same at every step

    @property
    def headroom_bits(self) -> float:
        """log2(limit / exact_below); negative where float32 is not enough."""
        return math.log2(self.limit / max(self.exact_below, 1))


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Bounds of a whole network, and where they hold."""

    graph_hash: str
    time_steps: int
    bounds: tuple[Bound, ...]  # populations in topological order, then the output
    weight_bits: Mapping[str, int]  # signed bits of each connection's weights
    tf32: bool  # every weight and every value that meets one is exact in TF32
    bfloat16: bool  # likewise in bfloat16; sums still in float32
    int32: bool  # every potential fits a signed 32-bit register

    @property
    def tightest(self) -> Bound:
        """The bound of least headroom."""
        return min(self.bounds, key=lambda bound: bound.headroom_bits)

    @property
    def float32(self) -> bool:
        """float32 is exact: the network certifies."""
        return self.tightest.headroom_bits > 0

    def failures(self) -> tuple[Bound, ...]:
        """The bounds that float32 does not hold."""
        return tuple(bound for bound in self.bounds if bound.headroom_bits <= 0)

    def summary(self) -> dict[str, Any]:
        """Where the network is exact, and how far from the limit, without the single bounds."""
        return {
            "time_steps": self.time_steps,
            "float32": self.float32,
            "tf32": self.tf32,
            "bfloat16": self.bfloat16,
            "int32": self.int32,
            "tightest": self.tightest.layer,
            "headroom_bits": round(self.tightest.headroom_bits, 2),
        }

    def to_json(self) -> dict[str, Any]:
        """The certificate as JSON values."""
        return {**asdict(self), **self.summary()}


def certify(graph: Graph) -> Certificate:
    """Bound every value that an integer network can reach, from the graph alone.

    Raises:
        LatticeError: the network is not an integer network.
    """
    if not graph.is_integer:
        raise LatticeError(
            "only integer networks have a certificate: weights, biases and thresholds integers, "
            "v_init and v_reset half integers, integer input; make one with quantize"
        )
    ranges: dict[str, Range] = {}
    bounds: list[Bound] = []
    constant = graph.constant_nodes()
    readout = graph.readout_nodes()
    products: list[int] = []  # magnitudes that a multiplier gets: weights and what they meet
    for node in graph.nodes:
        sources = [ranges[name] for name in node.inputs]
        match node:
            case IF():
                bounds.append(_bound_if(node, sources[0], graph.steps, node.inputs[0] in constant))
            case Output():
                bounds.append(_bound_readout(node, sources[0], graph.steps - graph.readout_start))
            case Conv() | Linear():
                # The readout may run once, on sums over time.
                times = graph.steps - graph.readout_start if node.name in readout else 1
                products += [-int(node.weight.min()), int(node.weight.max())]
                products += [times * sources[0].magnitude]
            case Input() | ChannelAffine() | AvgPool() | Flatten() | Add() | Relu():
                pass
            case _:
                assert_never(node)
        copied = range_of_copies(graph, node, ranges) if isinstance(node, Add) else None
        ranges[node.name] = (copied or range_of(node, sources)).limited()
    largest = max(products, default=0)
    return Certificate(
        graph_hash=graph.hash(),
        time_steps=graph.steps,
        bounds=tuple(bounds),
        weight_bits=_weight_bits(graph),
        tf32=largest <= TF32_INTEGER,
        bfloat16=largest <= BFLOAT16_INTEGER,
        int32=all(bound.bits <= 32 for bound in bounds),
    )


def require_certificate(graph: Graph, *, narrowest: bool = False) -> Certificate:
    """The certificate of a network that float32 runs exactly.

    Args:
        graph: an integer network.
        narrowest: the weights have as few bits as they can have; the remedy then is another.

    Raises:
        LatticeError: names each layer beyond the limits, its bound, and the remedy.
    """
    certificate = certify(graph)
    if certificate.float32:
        return certificate
    listed = [
        f"{bound.layer}: reaches {bound.exact_below:,}, float32 is exact below {bound.limit:,}"
        for bound in certificate.failures()
    ]
    raise LatticeError(
        lines(
            f"{len(listed)} of {len(certificate.bounds)} layers are not exact in float32:",
            listed,
            _remedy(graph, certificate, narrowest=narrowest),
        )
    )


def _remedy(graph: Graph, certificate: Certificate, *, narrowest: bool) -> str:
    """What makes the tightest layer exact."""
    tightest = certificate.tightest
    over = math.ceil(-tightest.headroom_bits + 1e-9)
    chain = connections_in_a_row(graph, tightest.layer)
    if chain:
        return (
            f"Into {tightest.layer}, {' -> '.join(chain)} follow each other without a population "
            "between them, and multiply sums of weights by weights. Narrower weights do not help "
            "enough: put a ReLU between them, or convert the model again with icsnn convert, which "
            "passes relu(x) - relu(-x) between such layers."
        )
    if narrowest:
        return (
            f"{tightest.layer} takes too many inputs for {graph.steps} time steps, also with the "
            f"narrowest weights. Take {2**over} times fewer time steps, or split the layer."
        )
    return f"Take {over} bits less for their weights, or fewer time steps."


def _weight_bits(graph: Graph) -> dict[str, int]:
    weights = {
        node.name: node.scale if isinstance(node, ChannelAffine) else node.weight
        for node in graph.nodes_of(Conv, Linear, ChannelAffine)
    }
    return {
        name: signed_bits(int(weight.min()), int(weight.max())) for name, weight in weights.items()
    }


def signed_bits(low: int, high: int) -> int:
    """Bits of the narrowest two's complement register that holds low..high."""
    return max((-low - 1).bit_length() if low < 0 else 0, high.bit_length()) + 1


def _bound_if(node: IF, current: Range, time_steps: int, steady: bool) -> Bound:
    """Bounds of u and v over all steps, per channel."""
    threshold = node.v_threshold.astype(np.float64)
    start = node.v_init.astype(np.float64)
    hard = None if node.v_reset is None else node.v_reset.astype(np.float64)
    limits = [threshold] if hard is None else [threshold, hard]
    reach = largest_potential(
        (_channel(start, np.min), _channel(start, np.max)),
        (current.low.astype(np.float64), current.high.astype(np.float64)),
        *((_channel(values, np.min), _channel(values, np.max)) for values in limits),
        steps=time_steps,
    )
    potential = math.ceil(reach)
    needed = potential + current.partial
    if steady:
        starts = max(float(np.abs(start).max()), 0.0 if hard is None else float(np.abs(hard).max()))
        between = starts + 2 * float(threshold.max())
        needed = math.ceil(between) + current.partial
    return Bound(
        layer=node.name,
        current=(int(current.low.min()), int(current.high.max())),
        partial_sum=current.partial,
        potential=potential,
        exact_below=needed,
        limit=FLOAT32_POTENTIAL,
        bits=signed_bits(-potential, potential),
        steady=steady,
    )


def _channel(values: Array, reduce: Any) -> Array:
    if values.ndim == 1:
        return values
    result: Array = reduce(values, axis=tuple(range(1, values.ndim)), keepdims=True)
    return result


def _bound_readout(node: Output, current: Range, steps: int) -> Bound:
    """Bounds of the sum over the steps, which must be exact; the logits are its quotient."""
    reach = steps * max(current.magnitude, current.partial)
    return Bound(
        layer=node.name,
        current=(int(current.low.min()), int(current.high.max())),
        partial_sum=current.partial,
        potential=reach,
        exact_below=reach,
        limit=FLOAT32_INTEGER,
        bits=signed_bits(-reach, reach),
        steady=False,
    )
