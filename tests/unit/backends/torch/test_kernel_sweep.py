"""A slice of the sweep over shapes (make sweep-kernels runs all of it)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.kernel_sweep import ISAS, cases, processor, run_child

SLICE = 40


def test_the_shapes_are_those_that_were_asked_for() -> None:
    found = cases(2000, 0)
    assert {case.channels for case in found} == set(range(1, 65))
    for axis in (0, 1):
        assert {case.kernel[axis] for case in found} == set(range(1, 17))
    assert {case.batch for case in found} == set(range(1, 34))
    assert {case.stride for case in found} >= {(1, 1), (1, 2), (3, 1)}
    assert any(case.groups == case.channels > 1 for case in found)
    assert found == cases(2000, 0)
    assert replace(found[0], seed=0) != found[1]


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_what_is_accepted_is_right_with_any_instruction_set(isa: str) -> None:
    found = run_child(isa, SLICE, seed=ISAS.index(isa))
    print(f"{processor()}; up to {isa}")
    for name, rows in found.items():
        print(f"{name}: {len(rows)}")
        for row in rows:
            print(f"  {row}")
    assert found["wrong"] == []
