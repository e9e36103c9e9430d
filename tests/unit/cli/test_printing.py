"""How results reach the terminal."""

from __future__ import annotations

import pytest
from rich.table import Table

from icsnn_deploy.cli.printing import print_table


def test_no_part_of_a_table_reaches_the_terminal_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table(title="a\x1b[2J")
    table.add_column("b\x1b[2J")
    table.add_row("c\x1b[2J")
    print_table(table)
    assert "\x1b" not in capsys.readouterr().out
