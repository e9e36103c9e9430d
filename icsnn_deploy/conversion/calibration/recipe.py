"""Recipes: which rules make an IF network out of an ANN, named after where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from icsnn_deploy.conversion.calibration.threshold_rules import (
    LearnedBound,
    MaxThreshold,
    MSEThreshold,
    QuantileThreshold,
    SpikeNormThreshold,
    ThresholdRule,
)
from icsnn_deploy.conversion.calibration.v_init_rules import (
    CompensatedResidual,
    Compensation,
    DataResidual,
    Half,
    InitialRule,
    Zero,
)
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.limits import MAX_TIME_STEPS


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way from activations to v_threshold, v_init and biases."""

    threshold: ThresholdRule
    v_init: InitialRule
    bias_shift: bool = False  # v_threshold / (2 T) added to every step's current (Opt)
    bias_correction: bool = False  # layer by layer, on the network's own spikes

    def __str__(self) -> str:
        parts = [str(self.threshold), f"v_init {self.v_init}"]
        parts += ["bias shift"] if self.bias_shift else []
        parts += ["bias correction"] if self.bias_correction else []
        return ", ".join(parts)


def _candidates() -> tuple[Method, ...]:
    thresholds: list[ThresholdRule] = [
        *(QuantileThreshold(p=p) for p in (0.98, 0.99, 0.999)),
        MSEThreshold(per="channel"),
    ]
    return tuple(
        Method(threshold=threshold, v_init=Half(), bias_correction=correct)
        for threshold in thresholds
        for correct in (False, True)
    )


_QUANTILE = QuantileThreshold(p=0.99)

AUTO = "auto"
Effort = Literal["quick", "standard", "best"]
EFFORTS: tuple[Effort, ...] = ("quick", "standard", "best")

STARTS = (
    Method(threshold=LearnedBound(otherwise=_QUANTILE), v_init=Half()),
    Method(threshold=LearnedBound(otherwise=MSEThreshold(per="channel")), v_init=Half()),
)

NAMED: dict[str, tuple[Method, ...]] = {
    # Candidates; the one that agrees best with the ANN on held-out calibration samples is taken.
    "default": _candidates(),
    # Diehl et al. 2015: largest activation.
    "diehl": (Method(threshold=MaxThreshold(), v_init=Zero()),),
    # Rueckauer et al. 2017: 99.9 % quantile.
    "robust-norm": (Method(threshold=QuantileThreshold(p=0.999), v_init=Zero()),),
    # Sengupta et al. 2019: largest current in the (hard reset) network itself.
    "spike-norm": (Method(threshold=SpikeNormThreshold(reset="hard"), v_init=Zero()),),
    # Han et al. 2020: the same, measured with soft reset.
    "rmp": (Method(threshold=SpikeNormThreshold(reset="soft"), v_init=Zero()),),
    # Deng & Gu 2021: largest activation, bias shifted by v_threshold / (2 T).
    "opt": (Method(threshold=MaxThreshold(), v_init=Zero(), bias_shift=True),),
    # Bu et al. 2022 (AAAI): half threshold; the trained clip bound where there is one.
    "opi": (Method(threshold=LearnedBound(otherwise=_QUANTILE), v_init=Half()),),
    # Li et al. 2023 (IC-SNN), Algorithms 2, compensation alone, and 3.
    "i-snn": (Method(threshold=_QUANTILE, v_init=DataResidual()),),
    "c-snn": (Method(threshold=_QUANTILE, v_init=Compensation()),),
    "ic-snn": (Method(threshold=_QUANTILE, v_init=CompensatedResidual()),),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to convert.

    Args:
        name: "auto" (see conversion.auto), a named recipe (`NAMED`), or a name of your own beside
            `methods`.
        time_steps: T, from the first input step to the last readout step; or the least and the
            largest T of a range that one network is to serve, stopped early or late.
        effort: "auto": how long to calibrate.
        weights: "auto": may change weights too, not only potentials and biases.
        seed: "auto": of the samples' places and order.
        methods: candidates of your own; with several, held-out samples decide.
        readout_start: t0; the readout averages the steps in (t0, T].
        held_out: share of the calibration samples that only judge.
        batch_size: samples run at once.
    """

    name: str = "default"
    time_steps: int | tuple[int, int] = 8
    effort: Effort = "standard"
    weights: bool = True
    seed: int = 0
    methods: tuple[Method, ...] = ()
    readout_start: int = 0
    held_out: float = 0.25
    batch_size: int = 64

    def __post_init__(self) -> None:
        if not self.methods and self.name not in (AUTO, *NAMED):
            raise ConversionError(
                f"no recipe {self.name!r}; there are {', '.join((AUTO, *NAMED))}, or give methods"
            )
        if self.effort not in EFFORTS:
            raise ConversionError(f"effort {self.effort!r}: {', '.join(EFFORTS)} are there")
        if self.seed < 0:
            raise ConversionError(f"seed {self.seed}: 0 or more is needed")
        ends = self._range
        if len(ends) != 2 or any(type(t) is not int for t in (*ends, self.readout_start)):
            raise ConversionError(
                f"time_steps {self.time_steps!r}, readout_start {self.readout_start!r}: integers, "
                "or for time_steps a tuple of two, are needed"
            )
        least, most = ends
        if most > MAX_TIME_STEPS:
            raise ConversionError(f"time_steps {self.time_steps}: {MAX_TIME_STEPS:,} at most")
        if not 1 <= least <= most or not 0 <= self.readout_start < least:
            raise ConversionError(
                f"time_steps {self.time_steps}, readout_start {self.readout_start}: "
                "time_steps >= 1 (a range ascending) and 0 <= readout_start < time_steps are needed"
            )
        if not 0 < self.held_out < 1 or self.batch_size < 1:
            raise ConversionError(
                f"held_out {self.held_out}, batch_size {self.batch_size}: "
                "0 < held_out < 1 and batch_size >= 1 are needed"
            )

    @property
    def _range(self) -> tuple[int, int]:
        given = self.time_steps
        return given if isinstance(given, tuple) else (given, given)

    @property
    def steps(self) -> int:
        """T that the network runs for, the largest of a range."""
        return self._range[1]

    @property
    def readout_steps(self) -> tuple[int, ...]:
        """The T that calibration counts: the ends of the range and the powers of two between."""
        least, most = self._range
        powers = (2**n for n in range(most.bit_length()))
        return tuple(sorted({least, *(t for t in powers if least < t < most), most}))

    @property
    def is_auto(self) -> bool:
        """Whether stages are built on each other, instead of candidates beside each other."""
        return self.name == AUTO and not self.methods

    @property
    def candidates(self) -> tuple[Method, ...]:
        """The methods to try; those that "auto" starts from."""
        if self.is_auto:
            return STARTS
        return self.methods or NAMED[self.name]
