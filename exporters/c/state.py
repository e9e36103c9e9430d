"""The fields of icsnn_state: what the program keeps between and within steps."""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.exporters.c.connections import runs_in_blocks
from icsnn_deploy.exporters.c.plan import Accumulator, Plan

_LINE = 64  # bytes of a cache line

SHARED = "(shared)"
"""Layer of the fields that belong to no layer."""


STEP_BYTES = 4
"""Of the number of steps that were run, which is kept beside the arrays."""


@dataclass(frozen=True, kw_only=True)
class StateField:
    """One array of the state.

    Args:
        size: number of values; of each step, where steps are run together. 0: only of those.
        unit: bytes of one value.
        per_step: an array for each step of those that are run together.
        together: values that the array holds for each step, where several are run together and
            each needs values of its own in it.
        is_list: a list of spikes, which is written a few values beyond its end by ICSNN_HOST.
    """

    name: str
    layer: str
    c_type: str
    size: int
    unit: int
    about: str
    per_step: bool = False
    together: int = 0
    is_list: bool = False

    @property
    def is_of_lines(self) -> bool:
        """Whether the array ends at a cache line if it starts at one, for any number of steps."""
        return self.size % _LINE == self.together % _LINE == 0

    def bytes(self, steps: int = 1) -> int:
        """Size in RAM where so many steps are run together."""
        if self.per_step:
            return self.size * self.unit * steps
        return max(self.size, self.together * steps if steps > 1 else 0) * self.unit

    @property
    def lines(self) -> list[str]:
        """The lines in the struct."""
        if not self.together:
            size = f"{self.size} + ICSNN_SPARE" if self.is_list else f"{self.size}"
            if self.per_step:
                size = f"ICSNN_TOGETHER * ({size})" if self.is_list else f"ICSNN_TOGETHER * {size}"
            return [self._line(size)]
        several = f"ICSNN_TOGETHER * {self.together}"
        if self.size:
            several = f"ICSNN_LARGER({self.size}, {several})"
        lines = ["#if ICSNN_TOGETHER > 1", self._line(several)]
        if self.size:
            lines += ["#else", self._line(str(self.size))]
        return [*lines, "#endif"]

    def _line(self, size: str) -> str:
        return f"    {self.c_type} {self.name}[{size}]; /* {self.about} */"


def declarations(fields: list[StateField]) -> list[str]:
    """The lines of the struct."""
    arrays = [line for field in fields for line in field.lines]
    first = sum(len(field.lines) for field in fields if field.is_of_lines)
    step = "    int32_t step; /* steps that were run since icsnn_init */"
    return [*arrays[:first], step, *arrays[first:]]


def state_fields(plan: Plan) -> list[StateField]:
    """The arrays: those of whole cache lines first, then the widest types, so without gaps."""
    fields = _sums(plan)
    if plan.input.values is None:
        fields += _spike_lists(plan, plan.input.name, plan.input.name, plan.input.size.pixels)
        fields.append(
            StateField(
                name=f"{plan.input.name}_marks",
                layer=plan.input.name,
                c_type="uint8_t",
                size=plan.input.size.neurons,
                unit=1,
                about="1 where the input spikes",
            )
        )
    for target in plan.accumulators:
        fields += _fields_of(plan, target)
    return sorted(fields, key=lambda field: (not field.is_of_lines, -field.unit))


def _sums(plan: Plan) -> list[StateField]:
    """The buffers that the populations share for their currents, by type."""
    found = []
    for bits in (32, 16):
        single = [each.size.neurons for each in plan.populations if uses_scratch(each)]
        blocks = [
            each.size.neurons
            for each in plan.populations
            if each.sum_width.bits == bits and runs_in_blocks(each)
        ]
        size, together = max(single, default=0) if bits == 16 else 0, max(blocks, default=0)
        if size or together:
            found.append(
                StateField(
                    name=f"sum{bits}",
                    layer=SHARED,
                    c_type=f"int{bits}_t",
                    size=size,
                    unit=bits // 8,
                    about="currents of one population; 0 between layers",
                    together=together,
                )
            )
    return found


def uses_scratch(target: Accumulator) -> bool:
    """Whether a population's spikes are summed beside its potentials, also one step alone."""
    return target.role == "population" and bool(target.connections) and not target.in_place


def state_bytes(fields: list[StateField], steps: int = 1) -> int:
    """sizeof(icsnn_state) where so many steps are run together.

    The state ends at a multiple of the widest type, 4.
    """
    return -(-(STEP_BYTES + sum(field.bytes(steps) for field in fields)) // 4) * 4


def _fields_of(plan: Plan, target: Accumulator) -> list[StateField]:
    size, sums = target.size, target.sum_width
    found = []
    if target.constant_connections:
        found.append(
            StateField(
                name=f"{target.name}_constant",
                layer=target.name,
                c_type=sums.c_type,
                size=size.neurons,
                unit=sums.bytes,
                about=f"current that is the same at every step, [{size}]",
            )
        )
    if target.role == "output":
        return [
            *found,
            StateField(
                name="logits",
                layer=target.name,
                c_type="int32_t",
                size=size.neurons,
                unit=4,
                about=f"sums over the steps, [{size}]",
            ),
            StateField(
                name="logits_after",
                layer=target.name,
                c_type="int32_t",
                size=0,
                unit=4,
                about="logits after each step of those that were run together",
                together=size.neurons,
            ),
        ]
    if target.role == "values":
        return [
            *found,
            StateField(
                name=f"{target.name}_sum",
                layer=target.name,
                c_type=sums.c_type,
                size=size.neurons,
                unit=sums.bytes,
                about=f"sum of one step, [{size}]",
                per_step=not target.constant,
            ),
        ]
    potential = target.potential
    assert potential is not None, target.name
    return [
        *found,
        StateField(
            name=f"{target.name}_v",
            layer=target.name,
            c_type=potential.c_type,
            size=size.neurons,
            unit=potential.bytes,
            about=f"potentials, [{size}]",
        ),
        *_spike_lists(plan, target.name, target.name, size.pixels, size.neurons),
    ]


def _spike_lists(
    plan: Plan, name: str, layer: str, pixels: int, neurons: int | None = None
) -> list[StateField]:
    neurons = plan.input.size.neurons if neurons is None else neurons
    return [
        StateField(
            name=f"{name}_counts",
            layer=layer,
            c_type="icsnn_count",
            size=pixels,
            unit=plan.count_bits // 8,
            about="spikes of each pixel",
            per_step=True,
        ),
        StateField(
            name=f"{name}_events",
            layer=layer,
            c_type="icsnn_channel",
            size=neurons,
            unit=plan.channel_bits // 8,
            about="their channels, pixel after pixel",
            per_step=True,
            is_list=True,
        ),
    ]
