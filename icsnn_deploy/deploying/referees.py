"""The referees of a deployment: other software that runs, or writes, what was exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from icsnn_deploy.backends.event_driven.simulator import EventDrivenSimulator
from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.deploying.plans import Plan
from icsnn_deploy.errors import (
    BackendUnavailableError,
    ExportError,
    GraphError,
    SimulationError,
    first_line,
)
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.parity.verify import verify
from icsnn_deploy.progress_display import ProgressOption
from icsnn_deploy.readers.speck import compare_with_sinabs


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a deployment.

    Args:
        name: quantize, check, split, export, or the referee.
        outcome: in one line.
        ok: False where a referee found a difference, or failed.
        ran: False where it is not installed, or can't run the network.
    """

    name: str
    outcome: str
    ok: bool = True
    ran: bool = True


def referee_steps(bundle: Bundle, plan: Plan, target: str, progress: ProgressOption) -> list[Step]:
    """Run every referee of a target that is there.

    Args:
        bundle: the network that the chip runs, with its exports and samples.
        plan: of the target.
        target: its name.
        progress: see `verify`.
    """
    referees = {name: partial(_verified, bundle, name, progress) for name in plan.backends}
    if target == "speck":
        referees |= {"sinabs": partial(_sinabs, bundle), "events": partial(_event_driven, bundle)}
    return [_step(name, referee) for name, referee in referees.items()]


def _step(name: str, referee: Callable[[], Step]) -> Step:
    """What a referee found; one that can't run the network, or fails, is a step as well."""
    try:
        return referee()
    except (BackendUnavailableError, GraphError) as error:
        return Step(name=name, outcome=f"not run: {first_line(error)}", ran=False)
    except SimulationError as error:
        return Step(name=name, outcome=f"failed: {first_line(error)}", ok=False)
    except ExportError as error:
        return Step(name=name, outcome=str(error), ok=False)


def _verified(bundle: Bundle, backend: str, progress: ProgressOption) -> Step:
    report = verify(bundle, backend, progress=progress)
    (found,) = report.comparisons
    counts = f"{found.spike_mismatches} of {found.spikes_compared:,} spikes and "
    return Step(
        name=backend,
        outcome=f"{counts}{found.logit_mismatches} logits differ on {found.images} samples",
        ok=report.verdict == "pass",
    )


def _sinabs(bundle: Bundle) -> Step:
    """Whether sinabs writes the configuration that was exported."""
    (found,) = compare_with_sinabs(bundle.export("speck"))
    return Step(
        name="sinabs",
        outcome=f"sinabs {found.version} writes the same configuration: {found.cores} cores, "
        f"{found.values:,} weights, biases and potentials",
    )


def _event_driven(bundle: Bundle) -> Step:
    """How far the chip's order of events is from time steps, on the bundle's samples."""
    graph = bundle.network()
    x = to_input_units(graph, bundle.samples())
    simulator = EventDrivenSimulator(graph)
    expected = ReferenceSimulator(graph).run(x, Record(spikes=False, counts=True))
    found = simulator.run(x, Record(spikes=False, counts=True))
    before, after = (
        sum(int(counts.sum()) for counts in each.spike_counts().values())
        for each in (expected, found)
    )
    _, operations = simulator.run_events(x)
    most = {
        layer.name: int(np.max(operations[:, number], initial=0))
        for number, layer in enumerate(simulator.layers)
    }
    busiest = max(most, key=lambda name: most[name])
    flat = [each.logits.reshape(len(each.logits), -1).argmax(axis=1) for each in (expected, found)]
    same = int((flat[0] == flat[1]).sum())
    return Step(
        name="events",
        outcome=f"event by event: the largest output is that of time steps in {same} of "
        f"{len(flat[0])} samples; {after:,} spikes, {before:,} in time steps; up to "
        f"{most[busiest]:,} synaptic operations per sample on one core ({busiest})",
    )
