"""The profile of a hardware target: its limits, each with its source.

A profile is frozen. To change a number, make a copy:

    dataclasses.replace(profile, cores=120)
    override(profile, {"cores": "120"})          from KEY=VALUE strings; see override.py
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from icsnn_deploy.errors import TargetError

Granularity = Literal["layer", "channel", "neuron"]
Structure = Literal["free", "cnn"]
ReadoutPlace = Literal["chip", "host"]
HardReset = Literal["any", "zero"]
SoftReset = Literal["neuron", "self-connection"]

GRANULARITIES: tuple[Granularity, ...] = ("layer", "channel", "neuron")


@dataclass(frozen=True, kw_only=True)
class TargetProfile:
    """The limits of a hardware target; None means no limit."""

    name: str
    about: str

    # Widths
    weight_bits: int | None = None  # signed
    weight_step: int = 1  # the chip's weights are multiples of it: the lattice is scaled by it
    potential_bits: int | None = None  # signed, of u and v
    potential_shift: int = 0  # bits of u and v below one unit of weight
    accumulator_bits: int | None = None  # signed, of one step's current, in units of u
    potential_saturates: bool = False  # v saturates; if False, an overflow is undefined
    event_by_event: bool = False  # each event is added to v, so that partial sums must fit too
    threshold_bits: int | None = None  # unsigned, in units of weight
    threshold_granularity: Granularity = "neuron"  # the finest that v_threshold may have
    hard_reset: HardReset = "any"  # allowed values of v_reset
    soft_reset: SoftReset = "neuron"  # self-connection: a synapse of weight -v_threshold
    bias_bits: int | None = None  # signed mantissa, in units of v
    bias_exponent: int = 0  # largest exponent of 2 of the mantissa
    parallel_synapses: bool = True  # two neurons may have several synapses, for wide weights

    # Input, output, and what a core computes
    analog_input: bool = True  # accepts a graded current at every step (direct encoding)
    readout: ReadoutPlace = (
        "chip"  # host: the last affine layer is applied to spike counts off chip
    )
    structure: Structure = "free"  # cnn: one core is convolution, population, sum pooling
    kernel_size: int | None = None  # largest side of a kernel
    strides: tuple[int, ...] | None = None
    padding: int | None = None  # largest
    pooling: tuple[int, ...] | None = None  # sides of sum pooling
    features: int | None = None  # largest number of channels into or out of a core
    input_map: int | None = None  # largest side of the maps into a core
    output_map: int | None = None  # largest side of a population's maps
    destinations: int | None = None  # layers that one layer can send to

    # Identical cores; a layer is split over as many as it needs
    cores: int | None = None
    core_neurons: int | None = None
    core_synapse_bits: int | None = None
    core_in_axons: int | None = None  # distinct sources
    core_out_axons: int | None = None  # distinct (neuron, core it sends to)
    core_thresholds: int | None = None  # distinct values
    core_sram_bytes: int | None = None
    shares_kernels: bool = False  # a kernel is stored once, not once per position

    # Cores that differ, one layer each; the tuples have one entry per core
    kernel_words: tuple[int, ...] | None = None
    neuron_words: tuple[int, ...] | None = None
    bias_words: tuple[int, ...] | None = None

    uncertain: tuple[str, ...] = ()  # fields with a third-party number; override if you know it
    notes: tuple[str, ...] = ()  # the limits of a check against this target

    def __post_init__(self) -> None:
        self._check_widths()
        self._check_numbers()
        choices = {
            "threshold_granularity": GRANULARITIES,
            "hard_reset": ("any", "zero"),
            "soft_reset": ("neuron", "self-connection"),
            "structure": ("free", "cnn"),
            "readout": ("chip", "host"),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                self._refuse(field, f"one of {', '.join(allowed)}")
        memories = (self.kernel_words, self.neuron_words, self.bias_words)
        if len({None if words is None else len(words) for words in memories}) != 1:
            raise TargetError(
                f"{self.name}: kernel_words, neuron_words and bias_words need one entry per core "
                "each"
            )
        names = {field.name for field in fields(self)}
        if not set(self.uncertain) <= names:
            self._refuse("uncertain", "names of the profile's own numbers")

    def _check_widths(self) -> None:
        for field in (
            "weight_bits",
            "potential_bits",
            "accumulator_bits",
            "threshold_bits",
            "bias_bits",
        ):
            bits = getattr(self, field)
            if bits is not None and not (_is_integer(bits) and 2 <= bits <= 64):
                self._refuse(field, "2 to 64 or None")
        for field, least, most in (
            ("weight_step", 1, 2**16),
            ("potential_shift", 0, 32),
            ("bias_exponent", 0, 32),
        ):
            value = getattr(self, field)
            if not (_is_integer(value) and least <= value <= most):
                self._refuse(field, f"{least} to {most}")

    def _check_numbers(self) -> None:
        for field in COUNTS:
            value = getattr(self, field)
            if value is not None and not (_is_integer(value) and value >= 1):
                self._refuse(field, "an integer >= 1 or None")
        if self.padding is not None and not (_is_integer(self.padding) and self.padding >= 0):
            self._refuse("padding", "an integer >= 0 or None")
        for field in LISTS:
            values = getattr(self, field)
            good = isinstance(values, tuple) and all(_is_integer(n) and n >= 1 for n in values)
            if values is not None and not (good and values):
                self._refuse(field, "integers >= 1 or None")
        for field in FLAGS:
            if not isinstance(getattr(self, field), bool):
                self._refuse(field, "true or false")

    def _refuse(self, field: str, allowed: str) -> None:
        raise TargetError(f"{self.name}.{field}: {getattr(self, field)!r}, {allowed} is allowed")

    def to_json(self) -> dict[str, Any]:
        """The profile as JSON values."""
        values = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


COUNTS = (
    "kernel_size",
    "features",
    "input_map",
    "output_map",
    "destinations",
    "cores",
    "core_neurons",
    "core_synapse_bits",
    "core_in_axons",
    "core_out_axons",
    "core_thresholds",
    "core_sram_bytes",
)
LISTS = ("strides", "pooling", "kernel_words", "neuron_words", "bias_words")
FLAGS = (
    "potential_saturates",
    "event_by_event",
    "parallel_synapses",
    "analog_input",
    "shares_kernels",
)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
