"""What a hardware target can hold, as a typed record. Numbers carry their source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from icsnn_deploy.errors import TargetError

Granularity = Literal["layer", "channel", "neuron"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One target. None stands for "no limit"."""

    name: str
    about: str
    weight_bits: int | None = None  # signed
    potential_bits: int | None = None  # signed, of u and v
    threshold_granularity: Granularity = "neuron"  # the finest v_threshold it takes
    analog_input: bool = True  # takes a graded current at every step (direct encoding)

    def __post_init__(self) -> None:
        for field in ("weight_bits", "potential_bits"):
            bits = getattr(self, field)
            if bits is not None and not 2 <= bits <= 64:
                raise TargetError(f"{self.name}.{field}: {bits}, 2 to 64 or None is allowed")
