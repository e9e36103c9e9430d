"""What a conversion did, in figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from icsnn_deploy.conversion.frontend.max_pool_cost import MaxPoolCost
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF


@dataclass(frozen=True, kw_only=True)
class CandidateResult:
    """How one method did on the held-out calibration samples."""

    method: str
    agreement: float  # share of samples with the ANN's top-1 class
    divergence: float  # mean KL divergence of the ANN's class distribution from the SNN's, nats
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PopulationResult:
    """The potentials that one population was given, activation units."""

    name: str
    shape: tuple[int, ...]
    v_threshold: tuple[float, float, float]  # least, mean, largest
    v_init: tuple[float, float, float]
    granularity: str  # of v_threshold: layer, channel or neuron


@dataclass(frozen=True, kw_only=True)
class ConversionReport:
    """The recipe, the candidates it tried, and what came out."""

    recipe: str
    time_steps: int  # T that the network runs for
    counted: tuple[int, ...]  # the T that candidates were judged at
    calibration_samples: int
    held_out_samples: int
    chosen: CandidateResult
    candidates: tuple[CandidateResult, ...]
    populations: tuple[PopulationResult, ...]
    seconds: float
    max_pools: tuple[MaxPoolCost, ...] = ()  # those that became populations
    losses: tuple[str, ...] = ()  # what was asked for and is another network, in words

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


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
        for node in network.nodes_of(IF)
    )


def _range(values: Any) -> tuple[float, float, float]:
    return float(np.min(values)), float(np.mean(values)), float(np.max(values))


def _granularity(node: IF) -> str:
    if node.v_threshold.size == 1:
        return "layer"
    return "channel" if node.v_threshold.size == node.v_threshold.shape[0] else "neuron"
