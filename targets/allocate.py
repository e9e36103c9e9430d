"""Layers onto cores: how many and which, what is tightest, and a proof where they do not fit.

Cores that are alike: a layer is split by channels (or by positions) over the largest of
ceil(need / limit) over the core's resources. That is a lower bound; an even split reaches it, but
for axons, which depend on how neurons are laid out.
Cores that differ, one layer each: an exact matching.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import ChannelAffine, Output, Population
from icsnn_deploy.targets.cnn import CnnLayer
from icsnn_deploy.targets.connectivity import reached
from icsnn_deploy.targets.matching import match
from icsnn_deploy.targets.misfit import amount
from icsnn_deploy.targets.paths import distinct_sources, paths_into
from icsnn_deploy.targets.profile import TargetProfile
from icsnn_deploy.targets.resources import LayerResources, ResourceReport, bias_of, weight_of
from icsnn_deploy.targets.widths import parallel_synapses


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The cores of one layer and the resource that is tightest there."""

    layer: str
    cores: int
    core: int | None  # which one, where cores differ; None while the network does not fit
    resource: str
    need: int
    limit: int  # of one core

    @property
    def share(self) -> float:
        """How full its cores are by that resource."""
        return self.need / (self.limit * self.cores)


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """All layers on cores."""

    placements: tuple[Placement, ...]
    cores_used: int
    cores_available: int
    proofs: tuple[str, ...]  # why it does not fit; empty when it does

    @property
    def bottleneck(self) -> Placement | None:
        """The layer that takes the most cores, or is the fullest."""
        return max(self.placements, key=lambda p: (p.cores, p.share), default=None)

    def to_json(self) -> dict[str, Any]:
        """The allocation as JSON values."""
        return asdict(self)


Needs = dict[str, tuple[int, int]]  # resource -> need of the layer, limit of a core


def allocate_alike(
    graph: Graph,
    targets: Sequence[Population | Output],
    resources: ResourceReport,
    profile: TargetProfile,
) -> Allocation | None:
    """Layers over cores that are all alike; None where the target has no cores to count."""
    if profile.cores is None:
        return None
    cores: dict[str, int] = {}
    needs: dict[str, Needs] = {}
    for target in reversed(targets):  # a layer's axons depend on the cores it sends to
        row = resources.layer(target.name)
        needed = _needs(graph, target, row, profile)
        if profile.core_out_axons is not None:
            needed["output axons"] = (
                _output_axons(graph, target, targets, cores),
                profile.core_out_axons,
            )
        needs[target.name] = needed
        cores[target.name] = max(
            (math.ceil(need / limit) for need, limit in needed.values()), default=1
        )
    placements = tuple(_tightest(t.name, max(1, cores[t.name]), needs[t.name]) for t in targets)
    used = sum(placement.cores for placement in placements)
    return Allocation(
        placements=placements,
        cores_used=used,
        cores_available=profile.cores,
        proofs=_too_many(placements, needs, profile.cores) if used > profile.cores else (),
    )


def _output_axons(
    graph: Graph,
    source: Population | Output,
    targets: Sequence[Population | Output],
    cores: Mapping[str, int],
) -> int:
    """Axons of a layer, one for each neuron and each core it sends to; at least so many.

    A neuron that sends to n neurons of a layer with m on each core reaches ceil(n / m) cores, or
    more: how many more depends on who lies beside whom.
    """
    total = 0
    for target in targets:
        found = [p for p in paths_into(graph, target) if p.source.name == source.name]
        if found:
            # Paths that end in one join may reach the same neurons: the widest counts.
            widest = np.maximum.reduce([reached(graph, path) for path in found])
            a_core = math.ceil(math.prod(graph.shape(target.name)) / cores[target.name])
            total += int(np.ceil(widest / a_core).sum())
    return total


def _needs(
    graph: Graph, target: Population | Output, row: LayerResources, profile: TargetProfile
) -> Needs:
    paths = paths_into(graph, target)
    nodes = list({node.name: node for path in paths for node in path.weighted}.values())
    weights = sum(weight_of(node).size * parallel_synapses(node, profile) for node in nodes)
    synapses = row.synapses
    for node in nodes:
        if isinstance(node, ChannelAffine):  # wide shortcuts take several synapses a neuron
            synapses += row.neurons * (parallel_synapses(node, profile) - 1)
    weight_bits = profile.weight_bits or row.weight_bits
    stored = weights if profile.shares_kernels else synapses
    sources = sum(math.prod(graph.shape(s.name)) for s in distinct_sources(paths))
    state = list(target.arrays().values()) if isinstance(target, Population) else []
    # 32-bit words: a potential and a current a neuron, biases, thresholds, initial potentials.
    words = 2 * row.neurons + sum(a.size for a in [*state, *(bias_of(n) for n in nodes)])
    limits = {
        "neurons": (row.neurons, profile.core_neurons),
        "synapse memory (bits)": (stored * weight_bits, profile.core_synapse_bits),
        "input axons": (sources, profile.core_in_axons),
        "thresholds": (row.thresholds, profile.core_thresholds),
        "SRAM (bytes)": (
            stored * math.ceil(weight_bits / 8) + 4 * words,
            profile.core_sram_bytes,
        ),
    }
    return {name: (need, limit) for name, (need, limit) in limits.items() if limit is not None}


def _tightest(layer: str, cores: int, needs: Needs) -> Placement:
    name, (need, limit) = max(
        needs.items(), key=lambda item: item[1][0] / item[1][1], default=("none", (0, 1))
    )
    return Placement(layer=layer, cores=cores, core=None, resource=name, need=need, limit=limit)


def _too_many(
    placements: Sequence[Placement], needs: dict[str, Needs], available: int
) -> tuple[str, ...]:
    """Each resource that alone takes more cores than there are; else the sum of all."""
    proofs = []
    for name in next(iter(needs.values())):
        share = {layer: math.ceil(of[name][0] / of[name][1]) for layer, of in needs.items()}
        total = sum(share.values())
        if total > available:
            proofs.append(f"{name} alone: {total} cores needed, {available} exist; {_most(share)}")
    if not proofs:
        share = {p.layer: p.cores for p in placements}
        total = sum(share.values())
        proofs.append(f"all resources: {total} cores needed, {available} exist; {_most(share)}")
    return tuple(proofs)


def _most(share: dict[str, int]) -> str:
    ranked = sorted(share.items(), key=lambda item: -item[1])[:3]
    return "most of them " + ", ".join(f"{layer} ({count})" for layer, count in ranked)


_MEMORIES: tuple[tuple[str, Callable[[CnnLayer], int], str], ...] = (
    ("kernel memory", lambda layer: layer.kernel_words, "kernel_words"),
    ("neuron memory", lambda layer: layer.neuron_words, "neuron_words"),
    ("bias memory", lambda layer: layer.bias_words, "bias_words"),
)


def allocate_cnn(layers: Sequence[CnnLayer], profile: TargetProfile) -> Allocation | None:
    """One core for each layer, of cores that differ; None where the target has no such cores."""
    if profile.kernel_words is None:
        return None
    count = len(profile.kernel_words)
    room = [(name, need, getattr(profile, field)) for name, need, field in _MEMORIES]
    fits = [
        [core for core in range(count) if all(need(la) <= words[core] for _, need, words in room)]
        for la in layers
    ]
    matching = match(fits)
    placements = []
    for layer, core in zip(layers, matching.cores, strict=True):
        found = core if matching.complete else None
        needs = {
            name: (need(layer), words[found] if found is not None else max(words))
            for name, need, words in room
        }
        tight = _tightest(layer.layer, 1, needs)
        placements.append(
            Placement(
                layer=layer.layer,
                cores=1,
                core=found,
                resource=tight.resource,
                need=tight.need,
                limit=tight.limit,
            )
        )
    return Allocation(
        placements=tuple(placements),
        cores_used=len(layers),
        cores_available=count,
        proofs=() if matching.complete else _hall(layers, fits, room),
    )


def _hall(
    layers: Sequence[CnnLayer],
    fits: Sequence[Sequence[int]],
    room: Sequence[tuple[str, Callable[[CnnLayer], int], tuple[int, ...]]],
) -> tuple[str, ...]:
    """The violator of each memory taken alone; where there is none, that of all together."""
    proofs = []
    for name, need, words in room:
        alone = [[c for c in range(len(words)) if need(layer) <= words[c]] for layer in layers]
        violator = match(alone).violator
        if violator is None:
            continue
        crowd, cores = violator
        names = ", ".join(f"{layers[i].layer} ({need(layers[i]):,})" for i in crowd)
        least = min(need(layers[i]) for i in crowd)
        proofs.append(
            f"{name}: {names} need{_s(crowd)} {amount(len(crowd), 'core')} of >= {least:,} words, "
            f"{len(cores)} such {'exists' if len(cores) == 1 else 'exist'}"
        )
    if proofs:
        return tuple(proofs)
    violator = match(fits).violator
    crowd, cores = violator if violator is not None else ((), ())
    names = ", ".join(
        f"{layers[i].layer} ({'; '.join(f'{name} {need(layers[i]):,}' for name, need, _ in room)})"
        for i in crowd
    )
    numbers = ", ".join(map(str, cores)) or "none"
    return (
        f"all memories together: {names} need{_s(crowd)} {amount(len(crowd), 'core')}, "
        f"only {len(cores)} can hold any of them: {numbers}",
    )


def _s(crowd: Sequence[int]) -> str:
    return "s" if len(crowd) == 1 else ""
