"""The layers with the largest errors are named."""

from __future__ import annotations

import pytest

from icsnn_deploy.report.layer_errors import errors_of_layers, layer_error_lines

LEFT = {"input": 0.6, "1": 0.5, "2": 0.45, "3": 0.15, "4": 0.16, "5": 0.0}


def test_a_layer_causes_what_vanishes_with_it() -> None:
    expected = {"1": 0.1, "2": 0.05, "3": 0.3, "4": -0.01, "5": 0.16}
    assert errors_of_layers(LEFT) == pytest.approx(expected)


def test_the_largest_are_named_first() -> None:
    assert layer_error_lines(LEFT) == [
        "largest errors by layer, of a divergence of 0.600: 3 0.300, 5 0.160, 1 0.100"
    ]


@pytest.mark.parametrize("left", [{}, {"1": 0.3}, {"1": 0.0, "2": 0.0}])
def test_nothing_is_said_where_nothing_was_measured(left: dict[str, float]) -> None:
    assert layer_error_lines(left) == []
