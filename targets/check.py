"""Check whether a network fits a hardware target; list every misfit, each with a remedy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from icsnn_deploy.errors import TargetError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Output, Population
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.allocate import Allocation, Placement, allocate_cnn, allocate_identical
from icsnn_deploy.targets.cnn import cnn_layers
from icsnn_deploy.targets.misfit import Misfit, amount
from icsnn_deploy.targets.paths import chip_targets, paths_into, takes_input
from icsnn_deploy.targets.profile import TargetProfile
from icsnn_deploy.targets.resources import (
    ResourceReport,
    certificate_of,
    count_resources,
    weight_of,
)
from icsnn_deploy.targets.widths import check_widths, parallel_synapses


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The verdict on one network and one target."""

    profile: TargetProfile
    graph_hash: str
    host_first_layer: bool  # as given to check()
    on_host: tuple[str, ...]  # populations, and the output, that the host runs
    misfits: tuple[Misfit, ...]
    resources: ResourceReport  # of the whole network
    allocation: Allocation | None  # None if the target has no number of cores
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything fits."""
        return not self.misfits

    @property
    def needs_narrower_numbers(self) -> bool:
        """Whether quantizing for this target may remove every misfit."""
        return bool(self.misfits) and all(misfit.is_of_numbers for misfit in self.misfits)

    @property
    def cores_used(self) -> int | None:
        """Number of cores that the network needs; None if the target has no number of cores."""
        return self.allocation.cores_used if self.allocation else None

    @property
    def bottleneck(self) -> Placement | None:
        """The layer that needs the most cores."""
        return self.allocation.bottleneck if self.allocation else None

    def summary(self) -> str:
        """The verdict in one line."""
        used = ""
        if self.allocation:
            used = f"; {self.allocation.cores_used} of {self.allocation.cores_available} cores"
        if self.ok:
            return f"fits {self.profile.name}{used}"
        count = len(self.misfits)
        return f"does not fit {self.profile.name}: {count} misfit{'s' * (count > 1)}{used}"

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return {
            "target": self.profile.name,
            "ok": self.ok,
            "graph_hash": self.graph_hash,
            "host_first_layer": self.host_first_layer,
            "on_host": list(self.on_host),
            "misfits": [asdict(misfit) for misfit in self.misfits],
            "cores_used": self.cores_used,
            "bottleneck": asdict(self.bottleneck) if self.bottleneck else None,
            "allocation": self.allocation.to_json() if self.allocation else None,
            "resources": self.resources.to_json(),
            "notes": list(self.notes),
            "profile": self.profile.to_json(),
        }


def _is_all_on_host(graph: Graph) -> bool:
    """Whether every population takes analog values, which the host computes."""
    constant, populations = graph.constant_nodes(), graph.nodes_of(Population)
    return bool(populations) and all(one.inputs[0] in constant for one in populations)


def check(
    graph: Graph, profile: TargetProfile | str, *, host_first_layer: bool = False
) -> CheckResult:
    """Check whether a network fits a target; every misfit is listed.

    Args:
        graph: an IF network; widths are checked for integer networks only.
        profile: the target, or its name.
        host_first_layer: the host runs the populations that the analog input drives, and sends
            their spikes to the chip.

    Raises:
        TargetError: an unknown target; no graph, or an ANN; or host_first_layer for a network whose
            input is spikes already, or whose populations the host would all run.
    """
    if isinstance(profile, str):
        profile = find_target(profile)
    if not isinstance(graph, Graph):
        raise TargetError(
            f"a network of type {type(graph).__name__}: the graph is needed, such as "
            "conversion.network or bundle.network()"
        )
    resources = count_resources(graph)
    if host_first_layer and graph.input.is_timed:
        raise TargetError(
            f"host_first_layer: the input is spikes already ({graph.input.encoding} encoding)"
        )
    if host_first_layer and _is_all_on_host(graph):
        raise TargetError(
            "host_first_layer: the host would run every population, and no neuron is left for the "
            "chip. Check the network without it, or add a layer with a ReLU to the model"
        )
    targets, on_host = chip_targets(
        graph, host_first_layer=host_first_layer, host_readout=profile.readout == "host"
    )
    misfits = _input(graph, profile, targets)
    misfits += check_widths(graph, profile, certificate_of(graph), targets)
    misfits += _models(targets)
    misfits += _resets(graph, profile, targets)
    if profile.structure == "cnn":
        layers, problems = cnn_layers(graph, targets, profile)
        allocation = allocate_cnn(layers, profile)
        misfits += problems
    else:
        allocation = allocate_identical(graph, targets, resources, profile)
        misfits += _axons(resources, profile, targets)
    if allocation is not None:
        misfits += [_too_few_cores(proof, allocation) for proof in allocation.proofs]
    return CheckResult(
        profile=profile,
        graph_hash=resources.graph_hash,
        host_first_layer=host_first_layer,
        on_host=on_host,
        misfits=tuple(misfits),
        resources=resources,
        allocation=allocation,
        notes=(*_notes(graph, profile, targets, on_host), *profile.notes),
    )


def _input(
    graph: Graph, profile: TargetProfile, targets: tuple[Population | Output, ...]
) -> list[Misfit]:
    node = graph.input
    if profile.analog_input or node.is_timed:
        return []
    fed = [target.name for target in targets if takes_input(graph, target)]
    if not fed:
        return []
    return [
        Misfit(
            node=node.name,
            what="analog input",
            got=f"direct encoding of {node.dtype} values into {', '.join(fed)}",
            allowed="spikes only",
            over="",
            remedy=(
                "Convert the model for an input of spikes (icsnn convert --encoding rate, or "
                "events); or run the first layer on the host and send its spikes "
                "(--host-first-layer; icsnn split makes both parts)."
            ),
        )
    ]


def _models(targets: tuple[Population | Output, ...]) -> list[Misfit]:
    """Neuron models other than integrate-and-fire, which the profiles do not describe."""
    return [
        Misfit(
            node=target.name,
            what="neuron model",
            got=target.kind,
            allowed=IF.kind,
            over="",
            remedy="Run it on the host.",
        )
        for target in targets
        if isinstance(target, Population) and not isinstance(target, IF)
    ]


def _resets(
    graph: Graph, profile: TargetProfile, targets: tuple[Population | Output, ...]
) -> list[Misfit]:
    """Hard resets to potentials other than the target's; a v_reset of 1/2 is 0 in integers."""
    if profile.hard_reset == "any":
        return []
    down = np.floor if graph.is_integer else np.asarray
    return [
        Misfit(
            node=target.name,
            what="hard reset",
            got=f"v_reset from {float(target.v_reset.min()):g} to {float(target.v_reset.max()):g}",
            allowed="a spike sets v to 0 (or subtracts v_threshold)",
            over="",
            remedy=(
                "Subtract v_reset from v_init, v_threshold and v_reset: the spikes stay the same."
            ),
        )
        for target in targets
        if isinstance(target, IF) and target.v_reset is not None and down(target.v_reset).any()
    ]


def _axons(
    resources: ResourceReport, profile: TargetProfile, targets: tuple[Population | Output, ...]
) -> list[Misfit]:
    """Neurons with too many sources: a neuron can't be split, and each source needs an axon."""
    limit = profile.core_in_axons
    if limit is None:
        return []
    rows = [resources.layer(target.name) for target in targets]
    return [
        Misfit(
            node=row.layer,
            what="fan-in of a neuron",
            got=f"{row.fan_in:,} sources",
            allowed=f"{limit:,} input axons per core",
            over=f"{row.fan_in - limit:,}",
            remedy="Pool before it, prune it, or put a population in between.",
        )
        for row in rows
        if row.fan_in > limit
    ]


def _too_few_cores(proof: str, allocation: Allocation) -> Misfit:
    over = allocation.cores_used - allocation.cores_available
    return Misfit(
        node="network",
        what="cores",
        got=proof,
        allowed=f"{allocation.cores_available} cores, each within its memory",
        over=amount(over, "core") if over > 0 else "",
        remedy="Use fewer or smaller layers: fewer channels, smaller maps (pool earlier), pruning.",
    )


def _notes(
    graph: Graph,
    profile: TargetProfile,
    targets: tuple[Population | Output, ...],
    on_host: tuple[str, ...],
) -> list[str]:
    """The assumptions of the check, as sentences."""
    notes = []
    populations = [name for name in on_host if isinstance(graph.node(name), Population)]
    if populations:
        notes.append(f"The host runs {', '.join(populations)} and sends its spikes to the chip.")
    if graph.output.name in on_host:
        notes.append(
            "The host reads out: the last affine layer is applied to spike counts, which gives "
            "the same logits because it is linear."
        )
    if profile.weight_step > 1 and graph.is_integer:
        notes.append(
            f"Weights are multiples of {profile.weight_step} on this chip: weights, biases, "
            f"thresholds and potentials are multiplied by {profile.weight_step}."
        )
    if graph.is_integer and profile.parallel_synapses:
        nodes = {n.name: n for t in targets for p in paths_into(graph, t) for n in p.weighted}
        wide = {name: parallel_synapses(node, profile) for name, node in nodes.items()}
        notes += [
            f"{name}: its widest weight needs {count} parallel synapses."
            for name, count in wide.items()
            if count > 1
        ]
    if profile.event_by_event and graph.is_integer:
        notes += _strong_weights(graph, targets)
    return notes


def _strong_weights(graph: Graph, targets: tuple[Population | Output, ...]) -> list[str]:
    """Populations that one event may lift by more than their threshold."""
    notes = []
    for target in targets:
        nodes = [node for path in paths_into(graph, target) for node in path.weighted]
        largest = max((int(weight_of(node).max()) for node in nodes), default=0)
        if isinstance(target, Population) and largest > target.v_threshold.min():
            notes.append(
                f"{target.name}: its largest weight, {largest}, exceeds its threshold, "
                f"{int(target.v_threshold.min())}: a neuron fires once per event, and the rest of "
                "its potential waits for the next one (SynSense advises smaller weights)."
            )
    return notes
