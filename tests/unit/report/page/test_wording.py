"""Numbers as a page shows them."""

from __future__ import annotations

import pytest

from icsnn_deploy.report.page.wording import energy, large, number, percent, short, size, wilson


def test_numbers_have_their_units() -> None:
    assert [large(x) for x in (0.5, 1234, 5.6e7)] == ["0.5", "1.23 k", "56 M"]
    assert [size(x) for x in (100, 2048, 3 << 20)] == ["100 bytes", "2 KiB", "3 MiB"]
    assert [energy(x) for x in (12.3, 4200, 5e6)] == ["12.3 nJ", "4.2 µJ", "5 mJ"]
    assert [percent(x) for x in (None, 0.5)] == ["", "50.0%"]
    assert [number(999.7), number(150.0, 2), number(99.96)] == ["1,000", "150", "100"]
    assert [number(x) for x in (None, 1234.5, 0.12345, float("inf"))] == [
        "",
        "1,234",
        "0.123",
        "infinite",
    ]


def test_a_long_name_keeps_its_end() -> None:
    assert short("layer1.0.conv1") == "layer1.0.conv1"
    assert short("features.layer1.0.conv1", 12) == "…er1.0.conv1"
    assert short("a\nb") == "a?b"


def test_an_interval_is_that_of_wilson() -> None:
    """As Newcombe (1998) computes it, table I: 81 of 263 is 0.2553 to 0.3662."""
    low, high = wilson(81, 263, z=1.959964)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-12)
    assert wilson(10, 10)[1] == pytest.approx(1)
