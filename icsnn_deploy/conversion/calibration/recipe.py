"""Recipes: named ways to calibrate an IF network, with the papers that they come from."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from icsnn_deploy.conversion.calibration.augmentation import Augmentation
from icsnn_deploy.conversion.calibration.auto import Auto, Effort
from icsnn_deploy.conversion.calibration.hybrid import DEFAULT_LABEL_SHARE, Hybrid
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.strategy import Strategy, TryMethods
from icsnn_deploy.conversion.calibration.threshold_rules import (
    LearnedBound,
    MaxThreshold,
    MSEThreshold,
    QuantileThreshold,
    SpikeNormThreshold,
    StatisticsRule,
)
from icsnn_deploy.conversion.calibration.v_init_rules import (
    CompensatedResidual,
    Compensation,
    DataResidual,
    Half,
    Zero,
)
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.limits import MAX_TIME_STEPS

AUTO = "auto"
HYBRID = "hybrid"
FAST = "fast"
OLD_NAMES = {"default": FAST}
"""Former names of recipes, which keep their meaning: a script gets the network it got before."""
_QUANTILE = QuantileThreshold(p=0.99)


def _fast_methods() -> tuple[Method, ...]:
    thresholds: tuple[StatisticsRule, ...] = (
        *(QuantileThreshold(p=p) for p in (0.98, 0.99, 0.999)),
        MSEThreshold(per="channel"),
    )
    return tuple(
        Method(threshold=threshold, v_init=Half(), bias_correction=correct)
        for threshold in thresholds
        for correct in (False, True)
    )


def _one(method: Method) -> TryMethods:
    return TryMethods((method,))


RECIPES: dict[str, Strategy] = {
    AUTO: Auto(),
    # Rathi et al. 2020 (HybridTrain): converted, then trained with labels.
    HYBRID: Hybrid(),
    # Several candidates; the one that agrees best with the ANN on held-out samples is taken.
    FAST: TryMethods(_fast_methods()),
    # Diehl et al. 2015: largest activation.
    "diehl": _one(Method(threshold=MaxThreshold(), v_init=Zero())),
    # Rueckauer et al. 2017: 99.9 % quantile.
    "robust-norm": _one(Method(threshold=QuantileThreshold(p=0.999), v_init=Zero())),
    # Sengupta et al. 2019: largest current in the (hard reset) network itself.
    "spike-norm": _one(Method(threshold=SpikeNormThreshold(reset="hard"), v_init=Zero())),
    # Han et al. 2020: the same, measured with soft reset.
    "rmp": _one(Method(threshold=SpikeNormThreshold(reset="soft"), v_init=Zero())),
    # Deng & Gu 2021: largest activation, bias shifted by v_threshold / (2 T).
    "opt": _one(Method(threshold=MaxThreshold(), v_init=Zero(), bias_shift=True)),
    # Bu et al. 2022 (AAAI): half threshold; the trained clip bound where there is one.
    "opi": _one(Method(threshold=LearnedBound(otherwise=_QUANTILE), v_init=Half())),
    # Li et al. 2023 (IC-SNN): Algorithm 2, compensation alone, and Algorithm 3.
    "i-snn": _one(Method(threshold=_QUANTILE, v_init=DataResidual())),
    "c-snn": _one(Method(threshold=_QUANTILE, v_init=Compensation())),
    "ic-snn": _one(Method(threshold=_QUANTILE, v_init=CompensatedResidual())),
}
"""Every recipe that has a name."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to convert.

    Args:
        name: a name of RECIPES; or with `methods` a name of your own, "methods" if none is given.
        time_steps: T, from the first input step to the last readout step; or the least and the
            largest T of a range for which one network is calibrated.
        effort: recipes "auto" and "hybrid": how long to calibrate, a name of auto.EFFORT_PLANS;
            None: "short" with "auto", "standard" with "hybrid".
        weights: recipes "auto" and "hybrid": change weights too, not only potentials and biases.
        augmentation: recipes "auto" and "hybrid": how images are varied in training; None: as it
            suits their shape (Augmentation.suited_to).
        seed: recipes "auto" and "hybrid": of the sampled places and of the order of samples.
        label_share: recipe "hybrid": share of the labels' cross entropy in the loss; the rest is
            the divergence from the ANN.
        methods: methods of your own; with several, held-out samples decide.
        readout_start: t0; the readout averages the steps in (t0, T].
        held_out: share of the calibration samples that is held out to compare candidates.
        batch_size: samples run at once.

    Raises:
        ConversionError: an unknown recipe, numbers out of range, or an option of "auto" or
            "hybrid" that is changed for another recipe.
    """

    name: str = AUTO
    time_steps: int | tuple[int, int] = 8
    effort: Effort | None = None
    weights: bool = True
    augmentation: Augmentation | None = None
    seed: int = 0
    label_share: float = DEFAULT_LABEL_SHARE
    methods: tuple[Method, ...] = ()
    readout_start: int = 0
    held_out: float = 0.25
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.methods and self.name == AUTO:  # not given
            object.__setattr__(self, "name", "methods")
        if not self.methods and self.name in OLD_NAMES:
            warnings.warn(
                f"recipe {self.name!r} is called {OLD_NAMES[self.name]!r} now; without a name, "
                f"{AUTO!r} is taken",
                DeprecationWarning,
                stacklevel=3,
            )
        elif not self.methods and self.name not in RECIPES:
            raise ConversionError(
                f"no recipe {self.name!r}; there are {', '.join(RECIPES)}, or give methods"
            )
        if self._trained != Auto() and not self._is_trained:
            raise ConversionError(
                f"recipe {self.name!r}: effort, weights (--keep-weights), augmentation and seed go "
                "with the recipes auto and hybrid; leave them out, or choose one of these"
            )
        if self.label_share != DEFAULT_LABEL_SHARE and not isinstance(self._trained, Hybrid):
            raise ConversionError(
                f"recipe {self.name!r}: label_share goes with the recipe hybrid; leave it out, or "
                "choose hybrid"
            )
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
        """T that the network runs for: the largest of a range."""
        return self._range[1]

    @property
    def readout_steps(self) -> tuple[int, ...]:
        """The T that calibration looks at: the ends of a range and the powers of two between."""
        least, most = self._range
        powers = (2**n for n in range(most.bit_length()))
        return tuple(sorted({least, *(t for t in powers if least < t < most), most}))

    @property
    def effort_used(self) -> Effort:
        """The effort of recipes "auto" and "hybrid", given or not."""
        return self.effort or (Hybrid.effort if self.name == HYBRID else Auto.effort)

    @property
    def _is_trained(self) -> bool:
        return self.name in (AUTO, HYBRID) and not self.methods

    @property
    def _trained(self) -> Auto:
        kind: Callable[..., Auto] = Auto
        if self.name == HYBRID and not self.methods:
            kind = partial(Hybrid, label_share=self.label_share)
        return kind(
            effort=self.effort_used,
            weights=self.weights,
            augmentation=self.augmentation,
            seed=self.seed,
        )

    @property
    def strategy(self) -> Strategy:
        """What builds the candidates."""
        if self.methods:
            return TryMethods(self.methods)
        if self._is_trained:
            return self._trained
        return RECIPES[OLD_NAMES.get(self.name, self.name)]
