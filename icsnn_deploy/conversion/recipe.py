"""Recipes: which rules make an IF network out of an ANN, named after where they come from."""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.conversion.initial import (
    CompensatedResidual,
    Compensation,
    DataResidual,
    Half,
    InitialRule,
    Zero,
)
from icsnn_deploy.conversion.threshold import (
    LearnedBound,
    MaxThreshold,
    MSEThreshold,
    QuantileThreshold,
    SpikeNormThreshold,
    ThresholdRule,
)
from icsnn_deploy.errors import ConversionError


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
        name: a named recipe (`NAMED`), or a name of your own beside `methods`.
        time_steps: T, from the first input step to the last readout step.
        methods: candidates of your own; with several, held-out samples decide.
        readout_start: t0; the readout averages the steps in (t0, T].
        held_out: share of the calibration samples that only judge.
        batch_size: samples run at once.
    """

    name: str = "default"
    time_steps: int = 8
    methods: tuple[Method, ...] = ()
    readout_start: int = 0
    held_out: float = 0.25
    batch_size: int = 64

    def __post_init__(self) -> None:
        if not self.methods and self.name not in NAMED:
            raise ConversionError(
                f"no recipe {self.name!r}; there are {', '.join(NAMED)}, or give methods"
            )
        if self.time_steps < 1 or not 0 <= self.readout_start < self.time_steps:
            raise ConversionError(
                f"time_steps {self.time_steps}, readout_start {self.readout_start}: "
                "time_steps >= 1 and 0 <= readout_start < time_steps are needed"
            )
        if not 0 < self.held_out < 1 or self.batch_size < 1:
            raise ConversionError(
                f"held_out {self.held_out}, batch_size {self.batch_size}: "
                "0 < held_out < 1 and batch_size >= 1 are needed"
            )

    @property
    def candidates(self) -> tuple[Method, ...]:
        """The methods to try."""
        return self.methods or NAMED[self.name]
