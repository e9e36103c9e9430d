"""The report of a conversion: plain data, filled by the front end and by calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.graph.tasks import Task


@dataclass(frozen=True, kw_only=True)
class OutputTask:
    """The task that an output is judged by, and where it is known from.

    Args:
        name: of the output.
        shape: without the batch.
        task: a task of graph.tasks.
        origin: "declared", or detected from the "shape" or from the "samples".
    """

    name: str
    shape: tuple[int, ...]
    task: Task
    origin: Literal["declared", "shape", "samples"]


@dataclass(frozen=True, kw_only=True)
class OutputScore:
    """The score of one output on the held-out calibration samples.

    Args:
        task: that it is judged by.
        agreement: share of samples (binary: decisions; segmentation: positions) with the class of
            the ANN; None for regression and detection.
        divergence: mean KL divergence between the class distributions of ANN and network, nats;
            for regression and detection the mean squared difference from the ANN, relative to the
            variance of the ANN's values (1 - R^2).
    """

    task: Task
    agreement: float | None
    divergence: float


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """A point of the curve of a distillation.

    Args:
        iteration: steps of the optimizer so far.
        samples: that were learned from so far, repeated ones included.
        seconds: of training so far.
        training_divergence: mean over the iterations since the last point.
        held_out_divergence: on held-out samples, if it was measured.
    """

    iteration: int
    samples: int
    seconds: float
    training_divergence: float
    held_out_divergence: float | None


@dataclass(frozen=True, kw_only=True)
class CandidateResult:
    """Scores of one candidate on the held-out calibration samples.

    Args:
        method: the method, or the stage of the recipe auto.
        agreement: share of samples with the class of the ANN, mean over the outputs that are
            classes; None if there are none.
        divergence: sum over the outputs (OutputScore).
        seconds: to build and score it.
        outputs: the scores of each output, by name.
        loss: that training with labels minimizes, which then decides (calibration.labels); None
            where the divergence does.
        gap_error: standard error of the difference of its criterion from that of the chosen
            candidate, over the samples; None for the chosen one, or where there is one sample.
    """

    method: str
    agreement: float | None
    divergence: float
    seconds: float
    outputs: Mapping[str, OutputScore] = field(default_factory=dict)
    loss: float | None = None
    gap_error: float | None = None

    @property
    def criterion(self) -> float:
        """What candidates are compared by: the least is chosen."""
        return self.divergence if self.loss is None else self.loss


@dataclass(frozen=True, kw_only=True)
class PopulationResult:
    """Calibrated potentials of one population, activation units.

    Args:
        name: the population.
        shape: its neurons, [C, ...].
        v_threshold: least, mean and largest.
        v_init: least, mean and largest.
        granularity: of v_threshold: layer, channel or neuron.
    """

    name: str
    shape: tuple[int, ...]
    v_threshold: tuple[float, float, float]
    v_init: tuple[float, float, float]
    granularity: str


@dataclass(frozen=True, kw_only=True)
class MaxPoolCost:
    """What one max pooling costs as populations of its own."""

    name: str
    populations: int
    neurons: int


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """The recipe, the candidates, and the network that was chosen.

    Args:
        recipe: its name.
        time_steps: T that the network runs for.
        readout_steps: the T at which candidates were scored ("counted" in JSON).
        calibration_samples: number of samples given.
        held_out_samples: number of them that candidates were scored on.
        chosen: the best candidate.
        candidates: all candidates, in order.
        populations: the potentials of the network.
        seconds: of the whole conversion.
        max_pools: max poolings that became populations.
        losses: requested changes that make it another network than the trained one, one sentence
            each.
        outputs: the task of each output, in order.
        approximation: the fits of smooth activations and products and their errors
            (frontend.approximate.measures.record_of); empty without any.
        curves: of the distillations, by the name of their candidate.
        divergence_without: by population, the divergence that is left where it gives the ANN's
            activations, after that of the network itself, by the name of the input
            (calibration.layer_errors); recipe auto alone.
    """

    recipe: str
    time_steps: int
    readout_steps: tuple[int, ...]
    calibration_samples: int
    held_out_samples: int
    chosen: CandidateResult
    candidates: tuple[CandidateResult, ...]
    populations: tuple[PopulationResult, ...]
    seconds: float
    max_pools: tuple[MaxPoolCost, ...] = ()
    losses: tuple[str, ...] = ()
    outputs: tuple[OutputTask, ...] = ()
    approximation: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, tuple[CurvePoint, ...]] = field(default_factory=dict)
    divergence_without: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        json_names = {"readout_steps": "counted"}
        found = {json_names.get(name, name): value for name, value in asdict(self).items()}
        if self.chosen.loss is None:
            for candidate in (found["chosen"], *found["candidates"]):
                del candidate["loss"]
        return found


def describe_populations(network: Graph) -> tuple[PopulationResult, ...]:
    """The potentials of every population, in order."""
    return tuple(
        PopulationResult(
            name=node.name,
            shape=network.shape(node.name),
            v_threshold=_range(node.v_threshold),
            v_init=_range(node.v_init),
            granularity=_granularity(node),
        )
        for node in network.nodes_of(Population)
    )


def _range(values: Any) -> tuple[float, float, float]:
    return float(np.min(values)), float(np.mean(values)), float(np.max(values))


def _granularity(node: Population) -> str:
    if node.v_threshold.size == 1:
        return "layer"
    return "channel" if node.v_threshold.size == node.v_threshold.shape[0] else "neuron"
