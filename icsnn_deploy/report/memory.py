"""The table of a C program's memory."""

from __future__ import annotations

from rich.table import Table

from icsnn_deploy.exporters.c.memory import Memory
from icsnn_deploy.report.plain import plain_table


def memory_table(memory: Memory) -> Table:
    """RAM and flash of each layer, and of all."""
    table = plain_table("C program, bytes")
    table.add_column("layer")
    for name in ("RAM", "flash"):
        table.add_column(name, justify="right")
    for each in memory.layers:
        table.add_row(each.layer, f"{each.ram:,}", f"{each.flash:,}")
    table.add_row("all", f"{memory.ram:,}", f"{memory.flash:,}", style="bold")
    if memory.steps_together > 1:
        name = f"all, with {memory.steps_together} steps together (ICSNN_TOGETHER)"
        table.add_row(name, f"{memory.ram_together:,}", f"{memory.flash:,}")
    return table
