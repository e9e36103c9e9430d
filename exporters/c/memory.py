"""RAM and flash of the program per layer, and their limits."""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.c.options import COptions
from icsnn_deploy.exporters.c.parameters import Parameter, parameters_of
from icsnn_deploy.exporters.c.plan import Plan, plan_program
from icsnn_deploy.exporters.c.state import SHARED, STEP_BYTES, state_bytes, state_fields
from icsnn_deploy.graph.graph import Graph


@dataclass(frozen=True, kw_only=True)
class LayerMemory:
    """Bytes of one layer."""

    layer: str
    ram: int
    flash: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that the program needs, without its code and stack.

    Args:
        layers: of each layer; "(shared)" is used by all.
        ram: sizeof(icsnn_state), where steps are run one by one.
        flash: of all constants.
        steps_together: steps of a layer that ICSNN_HOST runs before the next layer.
        ram_together: sizeof(icsnn_state) with ICSNN_TOGETHER steps_together.
    """

    layers: tuple[LayerMemory, ...]
    ram: int
    flash: int
    steps_together: int
    ram_together: int


def memory_of(graph: Graph) -> Memory:
    """The memory that the C program of an integer network needs; raises ExportError."""
    plan = plan_program(graph)
    return program_memory(plan, list(parameters_of(plan)))


def program_memory(plan: Plan, parameters: list[Parameter]) -> Memory:
    """The memory of a planned program."""
    fields = state_fields(plan)
    names = [SHARED, plan.input.name, *(target.name for target in plan.accumulators)]
    layers = [
        LayerMemory(
            layer=name,
            ram=sum(field.bytes() for field in fields if field.layer == name)
            + (STEP_BYTES if name == SHARED else 0),
            flash=sum(each.bytes for each in parameters if each.layer == name),
        )
        for name in names
    ]
    return Memory(
        layers=tuple(layer for layer in layers if layer.ram or layer.flash),
        ram=state_bytes(fields),
        flash=sum(each.bytes for each in parameters),
        steps_together=plan.steps_together,
        ram_together=state_bytes(fields, plan.steps_together),
    )


def check_memory(memory: Memory, options: COptions) -> None:
    """Raise ExportError where a limit is exceeded; the message lists the largest layers."""
    over = []
    for what, needed, limit in (
        ("ram", memory.ram, options.ram_limit),
        ("flash", memory.flash, options.flash_limit),
    ):
        if limit is not None and needed > limit:
            largest = sorted(memory.layers, key=lambda layer: -getattr(layer, what))[:3]
            named = ", ".join(f"{layer.layer} {getattr(layer, what):,}" for layer in largest)
            over.append(
                f"{what}: {needed:,} bytes, {limit:,} are allowed; the largest layers: {named}"
            )
    if over:
        raise ExportError(
            "the C program does not fit:\n  " + "\n  ".join(over) + "\nMake these layers smaller, "
            "or raise --ram-limit and --flash-limit (code and stack are not counted)"
        )


def table_lines(memory: Memory) -> list[str]:
    """The memory as the rows of a Markdown table."""
    rows = ["| layer | RAM, bytes | flash, bytes |", "|---|---:|---:|"]
    rows += [f"| {each.layer} | {each.ram:,} | {each.flash:,} |" for each in memory.layers]
    return [*rows, f"| **all** | **{memory.ram:,}** | **{memory.flash:,}** |"]
