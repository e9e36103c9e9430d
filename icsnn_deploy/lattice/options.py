"""Options of the quantization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from icsnn_deploy.errors import LatticeError, TargetError
from icsnn_deploy.targets.profile import TargetProfile

WIDTHS = range(2, 17)  # signed weight bits

LatticeEffort = Literal["quick", "standard", "best"]
"""quick only rounds and calibrates; the others train the integer network as well."""


@dataclass(frozen=True, kw_only=True)
class LatticeOptions:
    """How to quantize.

    Args:
        bits: signed width of the weights, 2 to 16.
        per_layer: one threshold per layer, for targets and readers that allow no other.
        input_bits: 8 or 16, for a float input.
        held_out: share of the calibration samples that is held out to compare candidates.
        batch_size: samples run at once.
        moment_samples: samples that the input moments are measured on.
        effort: how long to train the integer network; quick trains nothing.
        seed: of the order of samples in training and of their variations.

    Raises:
        LatticeError: a number out of range.
    """

    bits: int = 8
    per_layer: bool = False
    input_bits: int = 8
    held_out: float = 0.25
    batch_size: int = 64
    moment_samples: int = 128
    effort: LatticeEffort = "quick"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bits not in WIDTHS:
            raise LatticeError(f"weights of {self.bits} bits: 2 to 16 are allowed")
        if self.effort not in get_args(LatticeEffort):
            raise LatticeError(
                f"effort {self.effort!r}: {', '.join(get_args(LatticeEffort))} are allowed"
            )
        if self.seed < 0:
            raise LatticeError(f"seed {self.seed}: 0 or more is needed")
        if self.input_bits not in (8, 16):
            raise LatticeError(f"input of {self.input_bits} bits: 8 or 16 are allowed")
        if not 0 < self.held_out < 1 or self.batch_size < 1 or self.moment_samples < 1:
            raise LatticeError("0 < held_out < 1, batch_size >= 1, moment_samples >= 1 are needed")

    @classmethod
    def for_target(
        cls,
        profile: TargetProfile,
        *,
        bits: int | None,
        per_layer: bool,
        input_bits: int,
        effort: LatticeEffort = "quick",
        seed: int = 0,
    ) -> LatticeOptions:
        """Options that respect the weight width and threshold granularity of a target.

        Raises:
            TargetError: more weight bits than the target has.
        """
        most = profile.weight_bits
        if bits is not None and most is not None and bits > most:
            raise TargetError(f"{profile.name}: weights of {bits} bits; it takes {most} at most")
        return cls(
            bits=min(most or 8, 8) if bits is None else bits,
            per_layer=per_layer or profile.threshold_granularity == "layer",
            input_bits=input_bits,
            effort=effort,
            seed=seed,
        )
