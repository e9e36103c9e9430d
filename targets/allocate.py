"""Allocate layers to cores; if they do not fit, give a proof.

Identical cores: a layer is split by channels (or by positions) over the largest of
ceil(need / limit) over the core's resources. That is a lower bound, which an even split reaches for
all resources but axons, because those depend on how the neurons are placed.
Different cores with one layer each: an exact matching.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import ChannelAffine, Output, Population
from icsnn_deploy.targets.cnn import CnnLayer
from icsnn_deploy.targets.connectivity import reached
from icsnn_deploy.targets.matching import match
from icsnn_deploy.targets.misfit import amount
from icsnn_deploy.targets.paths import SpikePath, distinct_sources, paths_into
from icsnn_deploy.targets.profile import TargetProfile
from icsnn_deploy.targets.resources import LayerResources, ResourceReport, bias_of, weight_of
from icsnn_deploy.targets.widths import parallel_synapses


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The cores of one layer, and their scarcest resource."""

    layer: str
    cores: int
    core: int | None  # its number, if cores differ; None if the network does not fit
    resource: str  # the scarcest
    need: int
    limit: int  # of one core

    @property
    def share(self) -> float:
        """Share of that resource that the layer needs, on its cores."""
        return self.need / (self.limit * self.cores)


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The placements of all layers."""

    placements: tuple[Placement, ...]
    cores_used: int
    cores_available: int
    proofs: tuple[str, ...]  # why the network does not fit; empty if it does

    @property
    def bottleneck(self) -> Placement | None:
        """The layer with the most cores; of several, the one that fills them most."""
        return max(self.placements, key=lambda p: (p.cores, p.share), default=None)

    def to_json(self) -> dict[str, Any]:
        """The allocation as JSON values."""
        return asdict(self)


Needs = dict[str, tuple[int, int]]  # resource -> need of the layer, limit of a core


def allocate_identical(
    graph: Graph,
    targets: Sequence[Population | Output],
    resources: ResourceReport,
    profile: TargetProfile,
) -> Allocation | None:
    """Split layers over identical cores; None if the target has no number of cores."""
    if profile.cores is None:
        return None
    cores: dict[str, int] = {}
    needs: dict[str, Needs] = {}
    paths = {target.name: paths_into(graph, target) for target in targets}
    rows = {row.layer: row for row in resources.layers}
    for target in reversed(targets):  # a layer's axons depend on the cores it sends to
        row = rows[target.name]
        needed = _needs(graph, target, paths[target.name], row, profile)
        if profile.core_out_axons is not None:
            needed["output axons"] = (
                _output_axons(graph, target, targets, paths, cores),
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
    paths: Mapping[str, Sequence[SpikePath]],
    cores: Mapping[str, int],
) -> int:
    """Lower bound of a layer's output axons: one for each neuron and each core it sends to.

    A neuron that sends to n neurons of a layer with m neurons per core reaches at least ceil(n / m)
    cores; the actual number depends on how that layer's neurons are placed.
    """
    total = 0
    for target in targets:
        found = [path for path in paths[target.name] if path.source.name == source.name]
        if found:
            # Paths that end in one join may reach the same neurons: the widest one counts.
            widest = np.maximum.reduce([reached(graph, path) for path in found])
            per_core = math.ceil(math.prod(graph.shape(target.name)) / cores[target.name])
            total += int(np.ceil(widest / per_core).sum())
    return total


def _needs(
    graph: Graph,
    target: Population | Output,
    paths: Sequence[SpikePath],
    row: LayerResources,
    profile: TargetProfile,
) -> Needs:
    nodes = list({node.name: node for path in paths for node in path.weighted}.values())
    weights = sum(weight_of(node).size * parallel_synapses(node, profile) for node in nodes)
    synapses = row.synapses
    for node in nodes:
        if isinstance(node, ChannelAffine):  # wide weights need several synapses per neuron
            synapses += row.neurons * (parallel_synapses(node, profile) - 1)
    weight_bits = profile.weight_bits or row.weight_bits
    stored = weights if profile.shares_kernels else synapses
    sources = sum(math.prod(graph.shape(s.name)) for s in distinct_sources(paths))
    state = list(target.arrays().values()) if isinstance(target, Population) else []
    # 32-bit words: potential and current per neuron, biases, thresholds, initial potentials.
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
    """Name each resource that alone needs more cores than exist; if none does, the sum of all."""
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
    """Assign one core to each layer, from cores that differ; None if the target has none."""
    if profile.kernel_words is None:
        return None
    count = len(profile.kernel_words)
    memories = [(name, need, getattr(profile, field)) for name, need, field in _MEMORIES]
    fits = [
        [
            core
            for core in range(count)
            if all(need(layer) <= words[core] for _, need, words in memories)
        ]
        for layer in layers
    ]
    matching = match(fits)
    placements = []
    for layer, core in zip(layers, matching.cores, strict=True):
        number = core if matching.complete else None
        needs = {
            name: (need(layer), words[number] if number is not None else max(words))
            for name, need, words in memories
        }
        placements.append(replace(_tightest(layer.layer, 1, needs), core=number))
    return Allocation(
        placements=tuple(placements),
        cores_used=len(layers),
        cores_available=count,
        proofs=() if matching.complete else _hall_proofs(layers, fits, memories),
    )


def _hall_proofs(
    layers: Sequence[CnnLayer],
    fits: Sequence[Sequence[int]],
    memories: Sequence[tuple[str, Callable[[CnnLayer], int], tuple[int, ...]]],
) -> tuple[str, ...]:
    """Describe the Hall violator of each memory alone; if there is none, that of all together."""
    proofs = []
    for name, need, words in memories:
        alone = [[c for c in range(len(words)) if need(layer) <= words[c]] for layer in layers]
        violator = match(alone).violator
        if violator is None:
            continue
        group, cores = violator
        names = ", ".join(f"{layers[i].layer} ({need(layers[i]):,})" for i in group)
        least = min(need(layers[i]) for i in group)
        proofs.append(
            f"{name}: {names} need{_s(group)} {amount(len(group), 'core')} of >= {least:,} words, "
            f"{len(cores)} such {'exists' if len(cores) == 1 else 'exist'}"
        )
    if proofs:
        return tuple(proofs)
    violator = match(fits).violator
    group, cores = violator if violator is not None else ((), ())
    names = ", ".join(
        f"{layers[i].layer} "
        f"({'; '.join(f'{name} {need(layers[i]):,}' for name, need, _ in memories)})"
        for i in group
    )
    numbers = ", ".join(map(str, cores)) or "none"
    return (
        f"all memories together: {names} need{_s(group)} {amount(len(group), 'core')}, "
        f"only {len(cores)} can hold any of them: {numbers}",
    )


def _s(group: Sequence[int]) -> str:
    """The ending of a verb after this many nouns."""
    return "s" if len(group) == 1 else ""
