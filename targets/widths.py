"""Check the numbers of an integer network against the register widths of a target."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from icsnn_deploy.graph.certificate import Bound, Certificate, signed_bits
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF, ChannelAffine, Conv, Linear, Output, Population
from icsnn_deploy.targets.misfit import Misfit, amount
from icsnn_deploy.targets.paths import SpikePath, paths_into
from icsnn_deploy.targets.profile import GRANULARITIES, Granularity, TargetProfile
from icsnn_deploy.targets.resources import array_bits, total_bias, weight_of


def check_widths(
    graph: Graph,
    profile: TargetProfile,
    certificate: Certificate | None,
    targets: Iterable[Population | Output],
) -> list[Misfit]:
    """Check the weights, biases, thresholds and potentials that are on the chip.

    Args:
        graph: the network.
        profile: the target.
        certificate: of an integer network; None for a float network.
        targets: the populations, and the output, that the chip runs.
    """
    widths = (
        profile.weight_bits,
        profile.potential_bits,
        profile.accumulator_bits,
        profile.threshold_bits,
    )
    if all(bits is None for bits in widths):
        return []
    if certificate is None:
        return [_not_on_the_lattice(graph)]
    bounds = {bound.layer: bound for bound in certificate.bounds}
    found: list[Misfit] = []
    seen: set[str] = set()
    for target in targets:
        paths = paths_into(graph, target)
        for path in paths:
            new = [node for node in path.weighted if node.name not in seen]
            seen.update(node.name for node in new)
            found += [misfit for node in new for misfit in _weights(node, profile)]
            found += _chain(path)
        found += _bias(graph, target, profile)
        if isinstance(target, Population):
            found += _threshold(target, profile)
        found += _accumulator(target, bounds[target.name], profile)
        found += _potential(bounds[target.name], profile, graph)
    return found


def parallel_synapses(node: Conv | Linear | ChannelAffine, profile: TargetProfile) -> int:
    """Number of parallel synapses of the target's width that a shortcut's widest weight needs."""
    limit, scale = profile.weight_bits, weight_of(node)
    if limit is None or not isinstance(node, ChannelAffine) or array_bits(scale) <= limit:
        return 1
    largest = float(np.abs(scale.astype(np.float64)).max())
    widest: int = 2 ** (limit - 1) - 1
    return math.ceil(largest / widest)


def granularity(v_threshold: Array) -> Granularity:
    """The granularity of a threshold's values, whatever shape they are stored in."""
    if np.all(v_threshold == v_threshold.flat[0]):
        return "layer"
    flat = v_threshold.reshape(len(v_threshold), -1)
    return "channel" if np.all(flat == flat[:, :1]) else "neuron"


def _not_on_the_lattice(graph: Graph) -> Misfit:
    return Misfit(
        node="network",
        what="lattice",
        got=f"parameters or input in float ({graph.input.dtype} input)",
        allowed="integers",
        over="",
        remedy=(
            "Not on the lattice: run icsnn quantize with --target. Widths are not checked until "
            "then."
        ),
    )


def _weights(node: Conv | Linear | ChannelAffine, profile: TargetProfile) -> list[Misfit]:
    limit = profile.weight_bits
    weight = weight_of(node)
    bits = signed_bits(int(weight.min()), int(weight.max()))
    if limit is None or bits <= limit:
        return []
    if isinstance(node, ChannelAffine) and profile.parallel_synapses:
        return []  # a few wide weights, each as several synapses between two neurons
    over = bits - limit
    remedy = f"Quantize it to {limit} bits."
    if isinstance(node, ChannelAffine):
        remedy = (
            "A shortcut's weight is its source's threshold in the units of the branch it joins: "
            f"reduce that branch's weights by {amount(over, 'bit')}."
        )
    return [
        Misfit(
            node=node.name,
            what="weight width",
            got=f"{bits} bits ({int(weight.min())} to {int(weight.max())})",
            allowed=f"{limit} bits signed",
            over=amount(over, "bit"),
            remedy=remedy,
            bits_over=over,
        )
    ]


def _chain(path: SpikePath) -> list[Misfit]:
    names = [node.name for node in path.weighted]
    if len(names) < 2:
        return []
    return [
        Misfit(
            node=names[-1],
            what="connections in a row",
            got=f"{len(names)} weighted connections: {', '.join(names)}",
            allowed="one between two populations",
            over=amount(len(names) - 1, "connection"),
            remedy="Fold them into one, or put a population between them.",
        )
    ]


def _bias(graph: Graph, target: Population | Output, profile: TargetProfile) -> list[Misfit]:
    """Check the sum of all biases of a target, as mantissa and exponent in units of v."""
    if profile.bias_bits is None:
        return []
    total = total_bias(graph, target)
    values = (total * profile.weight_step) << profile.potential_shift
    # v & -v is the largest power of two that divides v, and may become the exponent.
    factor = np.minimum(np.where(values == 0, 1, values & -values), 2**profile.bias_exponent)
    mantissa = values // factor
    bits = signed_bits(int(mantissa.min()), int(mantissa.max()))
    if bits <= profile.bias_bits:
        return []
    exponent = f" with an exponent up to {profile.bias_exponent}" if profile.bias_exponent else ""
    return [
        Misfit(
            node=target.name,
            what="bias width",
            got=f"{bits} bits (biases {int(total.min())} to {int(total.max())})",
            allowed=f"{profile.bias_bits} bits signed{exponent}",
            over=amount(bits - profile.bias_bits, "bit"),
            remedy=(
                "Quantize its weights, whose units the bias has, to fewer bits; or replace the "
                "bias by synapses from a source that spikes at every step."
            ),
            bits_over=bits - profile.bias_bits,
        )
    ]


def _threshold(node: Population, profile: TargetProfile) -> list[Misfit]:
    found = []
    largest = int(node.v_threshold.max()) * profile.weight_step
    if profile.threshold_bits is not None and largest.bit_length() > profile.threshold_bits:
        over = largest.bit_length() - profile.threshold_bits
        found.append(
            Misfit(
                node=node.name,
                what="threshold width",
                got=f"{largest.bit_length()} bits (v_threshold {largest:,} in units of weight)",
                allowed=f"{profile.threshold_bits} bits unsigned",
                over=amount(over, "bit"),
                remedy=(
                    f"Reduce its weights by {amount(over, 'bit')}: the threshold has their units."
                ),
                bits_over=over,
            )
        )
    got, limit = granularity(node.v_threshold), profile.threshold_granularity
    if GRANULARITIES.index(got) > GRANULARITIES.index(limit):
        found.append(
            Misfit(
                node=node.name,
                what="threshold granularity",
                got=f"one v_threshold per {got}, {np.unique(node.v_threshold).size} values",
                allowed=f"one per {limit}",
                over="",
                remedy=f"Quantize with one threshold per {limit} ({_granularity_option(limit)}).",
            )
        )
    return found


def _granularity_option(limit: Granularity) -> str:
    """The option that quantizes with thresholds of a granularity."""
    return "icsnn quantize --per-layer" if limit == "layer" else "icsnn quantize"


def _accumulator(target: Population | Output, bound: Bound, profile: TargetProfile) -> list[Misfit]:
    """Check the sum of one step's synapses, in units of u, against the accumulator.

    Biases are counted as synapses of a source that spikes at every step. Where soft reset is a
    synapse of weight -v_threshold from a neuron to itself, its spike arrives with the others.
    """
    if profile.accumulator_bits is None or bound.steady:
        return []
    low, high = bound.current
    reset = ""
    if (
        profile.soft_reset == "self-connection"
        and isinstance(target, IF)
        and target.v_reset is None
    ):
        low -= int(target.v_threshold.max())
        reset = ", with the synapse that subtracts v_threshold"
    unit = profile.weight_step << profile.potential_shift
    bits = signed_bits(low * unit, high * unit)
    if bits <= profile.accumulator_bits:
        return []
    over = bits - profile.accumulator_bits
    return [
        Misfit(
            node=target.name,
            what="accumulator width",
            got=f"{bits} bits ({low:,} to {high:,} lattice units in one step{reset})",
            allowed=f"{profile.accumulator_bits} bits signed",
            over=amount(over, "bit"),
            remedy=(
                f"Reduce its weights by {amount(over, 'bit')}, pool before it, or prune it: fewer "
                "inputs may spike in one step."
            ),
            bits_over=over,
        )
    ]


def _potential(bound: Bound, profile: TargetProfile, graph: Graph) -> list[Misfit]:
    """Check the certificate's bound, in the target's units, against the potential register."""
    if profile.potential_bits is None:
        return []
    reach = bound.potential
    if bound.steady and profile.potential_saturates:
        # A potential that a constant current drives out of the register would not have returned.
        reach = min(reach, bound.exact_below)
    elif profile.event_by_event:
        reach += bound.partial_sum
    units = (reach * profile.weight_step) << profile.potential_shift
    bits = signed_bits(-units, units)
    if bits <= profile.potential_bits:
        return []
    over = bits - profile.potential_bits
    remedy = f"Reduce its weights by {amount(over, 'bit')}"
    if graph.steps > 1:
        remedy += f", or use fewer than T = {graph.steps} time steps"
    if bound.steady:
        remedy += ", or run the first layer on the host (--host-first-layer)"
    if isinstance(graph.node(bound.layer), Output):
        remedy += ", or read out on the host (--set readout=host)"
    scale = f", {units:,} in its register" if units != reach else ""
    return [
        Misfit(
            node=bound.layer,
            what="potential width",
            got=f"{bits} bits (reaches {reach:,} lattice units{scale})",
            allowed=f"{profile.potential_bits} bits signed",
            over=amount(over, "bit"),
            remedy=f"{remedy}.",
            bits_over=over,
        )
    ]
