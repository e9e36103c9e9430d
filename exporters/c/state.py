"""The fields of icsnn_state: what the program keeps between and within steps."""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.exporters.c.plan import Accumulator, Plan

SHARED = "(shared)"
"""Layer of the fields that belong to no layer."""


@dataclass(frozen=True, kw_only=True)
class StateField:
    """One array of the state.

    Args:
        size: number of values; 0 for a single value.
        unit: bytes of one value.
        is_list: a list of spikes, which is written a few values beyond its end by ICSNN_HOST.
    """

    name: str
    layer: str
    c_type: str
    size: int
    unit: int
    about: str
    is_list: bool = False

    @property
    def bytes(self) -> int:
        """Size in RAM."""
        return max(1, self.size) * self.unit

    @property
    def declaration(self) -> str:
        """The line in the struct."""
        spare = " + ICSNN_SPARE" if self.is_list else ""
        brackets = f"[{self.size}{spare}]" if self.size else ""
        return f"    {self.c_type} {self.name}{brackets}; /* {self.about} */"


def state_fields(plan: Plan) -> list[StateField]:
    """All fields, the widest types first, so that no gaps are between them."""
    fields = [
        StateField(
            name="step",
            layer=SHARED,
            c_type="int32_t",
            size=0,
            unit=4,
            about="steps that were run since icsnn_init",
        ),
    ]
    if scratch := scratch_size(plan):
        fields.append(
            StateField(
                name="sum",
                layer=SHARED,
                c_type="int16_t",
                size=scratch,
                unit=2,
                about="current of one population at one step; 0 between layers",
            )
        )
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
    return sorted(fields, key=lambda field: -field.unit)


def scratch_size(plan: Plan) -> int:
    """Values of the buffer that the populations share for their currents."""
    sizes = [each.size.neurons for each in plan.populations if uses_scratch(each)]
    return max(sizes, default=0)


def uses_scratch(target: Accumulator) -> bool:
    """Whether a population's spikes are summed beside its potentials."""
    return target.role == "population" and bool(target.connections) and not target.in_place


def state_bytes(fields: list[StateField]) -> int:
    """sizeof(icsnn_state): fields in falling order of their types, padded to the widest, 4."""
    return -(-sum(field.bytes for field in fields) // 4) * 4


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
        ),
        StateField(
            name=f"{name}_events",
            layer=layer,
            c_type="icsnn_channel",
            size=neurons,
            unit=plan.channel_bits // 8,
            about="their channels, pixel after pixel",
            is_list=True,
        ),
    ]
