"""One point of a sweep: what it reaches, what it costs, and whether it fits its target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from icsnn_deploy.sweeping.options import Bits, Cost, Point

LISTS = ("over_time", "agreement_over_time", "misfits")
"""What is a list in JSON, of Measured."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of a network; everything is per sample, but what says otherwise.

    Args:
        figure: what `value` is, "top-1 accuracy" of a classifier (figures.figure_of).
        images: samples that the figure was measured on.
        value, ann_value: the figure of the network and of the ANN, in percent.
        agreement: decisions with the ANN's class, percent; None of outputs without classes.
        over_time, agreement_over_time: both where the run is stopped after 1, 2, ... T steps, None
            after those before the readout begins (readout_start of the recipe); of a network whose
            only output is a class, empty of others.
        spikes: of all populations.
        acs: accumulate operations, one per spike and synapse (evaluation.activity).
        macs: multiply-accumulate operations of an analog input, computed once.
        low_nanojoule, high_nanojoule: an estimate of the energy of the operations, with the analog
            input computed once and at every step.
        activity_samples: samples that operations and energy were measured on.
        memory_bits: of the network's parameters, each array at the narrowest width.
        narrowest, widest: bits of the weights of its layers; 32 of a float network.
        fits: whether the network fits the target.
        misfits: what does not fit, as sentences that name the node.
        over: the same in a few words.
        cores: of the target, that the network needs; None of a target without cores.
        method: the candidate of the recipe that was taken.
        lattice: the candidate of the quantization that was taken; empty of a float network.
        folder: bundle of the network, within the folder of the sweep.
        graph_hash: of the network.
    """

    figure: str
    images: int
    value: float
    ann_value: float
    agreement: float | None
    over_time: tuple[float | None, ...]
    agreement_over_time: tuple[float | None, ...]
    spikes: float | None
    acs: float
    macs: float
    low_nanojoule: float
    high_nanojoule: float
    activity_samples: int
    memory_bits: int
    narrowest: int
    widest: int
    fits: bool
    misfits: tuple[str, ...]
    over: str
    cores: int | None
    method: str
    lattice: str
    folder: str
    graph_hash: str

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Measured:
        """As to_json wrote it."""
        known = {field.name: content[field.name] for field in fields(cls)}
        return cls(**{**known, **{name: tuple(known[name]) for name in LISTS}})

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), **{name: list(getattr(self, name)) for name in LISTS}}

    @property
    def loss(self) -> float:
        """Percentage points that the network loses against the ANN."""
        return self.ann_value - self.value

    @property
    def operations(self) -> float:
        """Synaptic operations: ACs of spikes, and MACs of an analog input, computed once."""
        return self.acs + self.macs


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table.

    Args:
        point: recipe, T, weight width and target.
        measured: None where the point can't be measured.
        error: the reason for that.
    """

    point: Point
    measured: Measured | None = None
    error: str = ""

    @property
    def recipe(self) -> str:
        return self.point.recipe

    @property
    def time_steps(self) -> int:
        return self.point.time_steps

    @property
    def bits(self) -> Bits:
        return self.point.bits

    @property
    def target(self) -> str:
        return self.point.target

    @property
    def loss(self) -> float | None:
        """Percentage points lost against the ANN; None where the point was not measured."""
        return None if self.measured is None else self.measured.loss

    @property
    def fits(self) -> bool:
        """Whether it was measured and fits its target."""
        return self.measured is not None and self.measured.fits

    def cost(self, cost: Cost) -> float:
        """One of its costs; infinite where it was not measured.

        reads are the bits of weights that its operations read: operations * widest weight.
        """
        found = self.measured
        if found is None:
            return float("inf")
        costs: dict[Cost, float] = {
            "reads": found.operations * found.widest,
            "steps": self.time_steps,
            "operations": found.operations,
            "memory": found.memory_bits,
            "energy": found.high_nanojoule,
        }
        return costs[cost]

    def to_json(self) -> dict[str, Any]:
        """JSON values: the point, and what was measured or the error."""
        found = self.measured
        point = {
            "recipe": self.recipe,
            "time_steps": self.time_steps,
            "bits": self.bits,
            "target": self.target,
        }
        if found is None:
            return {**point, "error": self.error}
        measured = found.to_json()
        return {**point, "loss": found.loss, "operations": found.operations, **measured}
