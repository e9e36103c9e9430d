"""What a graph must satisfy beyond its single nodes; each function raises GraphError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from icsnn_deploy.errors import GraphError
from icsnn_deploy.graph.limits import check_time_steps
from icsnn_deploy.graph.node import is_integer, is_positive
from icsnn_deploy.graph.nodes import IF, NODE_TYPES, Input, Node, Output, Population, Relu
from icsnn_deploy.graph.tasks import TASKS

PROVENANCE_KEYS = {
    "output_unit": "logit_unit",
    "calibrated_steps": "counted",
    "max_pools": "max_pool",
    "tasks": "output_task",
}
"""Fields of a graph that its file stores among the provenance, and their keys there."""


def check_ends(nodes: Sequence[Node], consumers: Mapping[str, Sequence[str]]) -> None:
    """Check that all kinds are known, with one input, one output and no unused result."""
    for node in nodes:
        if type(node) is not NODE_TYPES.get(node.kind):
            kinds = ", ".join(kind.__name__ for kind in NODE_TYPES.values())
            raise GraphError(f"{node.name}: a {type(node).__name__}; allowed in a graph: {kinds}")
    for wanted in (Input, Output):
        found = [node.name for node in nodes if isinstance(node, wanted)]
        if len(found) != 1:
            raise GraphError(f"{len(found)} {wanted.kind} nodes {found}, exactly one is needed")
    for node in nodes:
        if not consumers[node.name] and not isinstance(node, Output):
            raise GraphError(f"{node.name}: its result is not used; remove the node")
        if consumers[node.name] and isinstance(node, Output):
            raise GraphError(f"{node.name}: an output can't be a source")


def check_time(nodes: Sequence[Node], time_steps: int | None, readout_start: int) -> None:
    """Check the steps, that populations have them and a Relu has not, and that resets agree."""
    spiking = [node.name for node in nodes if isinstance(node, Population)]
    analog = [node.name for node in nodes if isinstance(node, Relu)]
    if time_steps is None:
        if spiking:
            raise GraphError(f"{spiking[0]}: an IF population needs a graph with time_steps")
        if readout_start:
            raise GraphError("readout_start needs time_steps")
        return
    if isinstance(time_steps, bool) or not isinstance(time_steps, int):
        raise GraphError(f"time_steps {time_steps!r}: an integer >= 1 is needed")
    if isinstance(readout_start, bool) or not isinstance(readout_start, int):
        raise GraphError(f"readout_start {readout_start!r}: an integer >= 0 is needed")
    if time_steps < 1 or not 0 <= readout_start < time_steps:
        raise GraphError(
            f"time_steps {time_steps}, readout_start {readout_start}: "
            "time_steps >= 1 and 0 <= readout_start < time_steps are needed"
        )
    check_time_steps(time_steps)
    if analog:
        raise GraphError(f"{analog[0]}: a Relu in a graph with time_steps; convert it to IF")
    populations = [node for node in nodes if isinstance(node, IF)]
    hard = next((node.name for node in populations if node.v_reset is not None), None)
    soft = next((node.name for node in populations if node.v_reset is None), None)
    if hard and soft:
        raise GraphError(f"{hard} has a v_reset (hard reset), {soft} has none: all of them or none")


def check_output_unit(unit: Any, parts: int) -> None:
    """Check the unit of the output: one number, or one per part of the output where it has several.

    Raises:
        GraphError: anything else; files may bring any value.
    """
    if unit is None or is_positive(unit):
        return
    several = _is_list(unit) and len(unit) == parts > 1 and all(is_positive(one) for one in unit)
    if not several:
        wanted = f", or {parts} of them" if parts > 1 else ""
        raise GraphError(
            f"output_unit (logit_unit in files) {unit!r:.40}: a finite number > 0{wanted} needed"
        )


def check_records(
    calibrated_steps: Any, max_pools: Any, tasks: Any, provenance: Mapping[str, Any]
) -> None:
    """Check the fields that are not part of the hash; files may bring any value."""
    if not _is_list(calibrated_steps) or not all(is_integer(t, 1) for t in calibrated_steps):
        raise GraphError(
            f"calibrated_steps (counted in files) {calibrated_steps!r:.40}: integers >= 1 needed"
        )
    if not isinstance(max_pools, Mapping) or not all(
        isinstance(pool, str) and _is_list(names) and all(isinstance(name, str) for name in names)
        for pool, names in max_pools.items()
    ):
        raise GraphError(
            f"max_pools (max_pool in files) {max_pools!r:.40}: node names for the name of each "
            "pooling needed"
        )
    if not isinstance(tasks, Mapping) or not all(
        isinstance(name, str) and isinstance(task, str) and task in TASKS
        for name, task in tasks.items()
    ):
        raise GraphError(
            f"tasks (output_task in files) {tasks!r:.40}: for the name of each output one of "
            f"{', '.join(TASKS)} needed"
        )
    for field, key in PROVENANCE_KEYS.items():
        if key in provenance:
            raise GraphError(f"provenance {key!r}: set the graph's field {field} instead")


def _is_list(value: Any) -> bool:
    return isinstance(value, (tuple, list))
