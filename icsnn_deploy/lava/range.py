"""Check that a network fits Lava's models and their number ranges; every misfit is listed."""

from __future__ import annotations

import numpy as np

from icsnn_deploy.errors import GraphError, LatticeError, Rejection, rejection_table
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, AvgPool, Input, Population
from icsnn_deploy.lava.assemble import LIF_UNIT, Style
from icsnn_deploy.lava.plan import Connection, LavaPlan

POTENTIAL = 2**23
"""Loihi's potentials have 24 bits, signed."""

STOCK_WEIGHTS = 2**24
"""Limit for Lava's own connections, on the sum of sources times targets over all connections."""

SMALL_NETWORK = 2**22
"""The same sum up to which Lava's own connections are the default."""


def matrix_entries(plan: LavaPlan) -> int:
    """The sum of sources times targets over all connections."""
    return sum(
        int(np.prod(connection.shape_in)) * int(np.prod(connection.shape_out))
        for connection in plan.connections
    )


def check_range(plan: LavaPlan, style: Style) -> None:
    """Check that a style can run a network exactly.

    Raises:
        LatticeError: a float network, but the style needs integers.
        GraphError: lists every misfit.
    """
    graph = plan.graph
    needs_integers = style.tag == "fixed_pt" or style.neurons == "lif"
    if needs_integers and not graph.is_integer:
        what = "Lava's fixed point" if style.tag == "fixed_pt" else "Lava's own LIF neuron"
        raise LatticeError(
            f"{what} runs integer networks only, this one has float parameters; make an integer "
            "one with icsnn quantize, or run backend lava-float"
        )
    rejections = [
        Rejection(
            node=population.name,
            got=f"a population of kind {population.kind!r}",
            allowed=f"{IF.kind!r}",
            remedy="Run it on another backend",
        )
        for population in graph.nodes_of(Population)
        if not isinstance(population, IF)
    ]
    if style.connections == "stock" and matrix_entries(plan) > STOCK_WEIGHTS:
        rejections.append(
            Rejection(
                node="all connections",
                got=f"{matrix_entries(plan):,} pairs of neurons",
                allowed=f"up to {STOCK_WEIGHTS:,}",
                remedy="Lava's own connections are slow: run backend lava-fixed or lava-float",
            )
        )
    if style.tag == "fixed_pt":
        rejections += _beyond_24_bits(plan)
    if style.neurons == "lif" and not rejections:
        rejections += _beyond_lif(plan, style)
    if rejections:
        raise GraphError(rejection_table("this network does not fit Lava's models", rejections))


def _beyond_24_bits(plan: LavaPlan) -> list[Rejection]:
    found = [
        Rejection(
            node=pool.name,
            got="a mean",
            allowed="sums",
            remedy="icsnn quantize turns pooling into sums",
        )
        for pool in plan.graph.nodes_of(AvgPool)
    ]
    for name in plan.offsets:
        node = plan.graph.node(name)
        if isinstance(node, Input):
            continue
        values = {"current": plan.reach(name)}
        if isinstance(node, IF):
            values["v_threshold"] = float(node.v_threshold.max())
            values["v_init"] = float(np.abs(node.v_init).max())
            if node.v_reset is not None:
                values["v_reset"] = float(np.abs(node.v_reset).max())
        found += [
            Rejection(
                node=name,
                got=f"{what} up to {value:,.0f}",
                allowed=f"below {POTENTIAL:,} (24 bits)",
                remedy="Quantize to fewer bits",
            )
            for what, value in values.items()
            if value >= POTENTIAL
        ]
    return found


def _beyond_lif(plan: LavaPlan, style: Style) -> list[Rejection]:
    """What Lava's LIF can't run: hard reset, v_init >= v_threshold, potentials beyond 17 bits."""
    found = []
    limit = POTENTIAL // LIF_UNIT
    for node in plan.graph.nodes_of(IF):
        if node.v_reset is not None:
            found.append(
                Rejection(
                    node=node.name,
                    got="hard reset",
                    allowed="reset by subtraction",
                    remedy="Lava's LIF resets by a connection to itself: run lava-fixed or "
                    "lava-float",
                )
            )
        if (node.v_init >= node.v_threshold).any():
            found.append(
                Rejection(
                    node=node.name,
                    got="v_init of v_threshold or more",
                    allowed="v_init < v_threshold",
                    remedy="Lava's LIF would fire before its input arrives: run lava-fixed",
                )
            )
        if style.tag == "fixed_pt":
            reach = potential_reach(plan, node)
            if reach >= limit:
                found.append(
                    Rejection(
                        node=node.name,
                        got=f"potentials up to {reach:,.0f}",
                        allowed=f"below {limit:,} (24 bits, six of them fractional)",
                        remedy="Quantize for loihi2, or run lava-stock in floating point",
                    )
                )
    return found


def potential_reach(plan: LavaPlan, node: IF) -> float:
    """Bound of |u| of a population over T steps, shifted to LIF's single threshold.

    u[t] <= max(v_init, v_threshold) + t max(I_high - v_threshold, 0) + max(I_high, 0)
    u[t] >= min(v_init, 0) + t min(I_low, 0)
    """
    low = high = plan.bias[node.name].astype(np.float64).ravel()
    for connection in plan.incoming(node.name):
        least, most = current_range(connection, plan.graph.node(connection.source))
        low, high = low + least, high + most
    shape = plan.graph.shape(node.name)
    v_threshold, v_init = (
        np.broadcast_to(value, shape).astype(np.float64).ravel()
        for value in (node.v_threshold, node.v_init)
    )
    steps = plan.graph.steps
    drift = steps * np.maximum(high - v_threshold, 0) + np.maximum(high, 0)
    top = np.maximum(v_init, v_threshold) + drift
    bottom = np.minimum(v_init, 0) + steps * np.minimum(low, 0)
    shift = v_threshold.max() - v_threshold
    return float(max(np.abs(top + shift).max(), np.abs(bottom + shift).max(), np.abs(bottom).max()))


def current_range(connection: Connection, source: object) -> tuple[Array, Array]:
    """Smallest and largest current of each target neuron, flattened."""
    ends = (0.0, 1.0)
    if isinstance(source, Input) and not source.is_timed:
        limits = np.iinfo(source.dtype)
        ends = (float(limits.min), float(limits.max))
    matrix = connection.matrix().astype(np.float64)
    positive = np.maximum(matrix, 0).sum(axis=1)
    negative = np.minimum(matrix, 0).sum(axis=1)
    return positive * ends[0] + negative * ends[1], positive * ends[1] + negative * ends[0]
