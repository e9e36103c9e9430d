"""The calibration context: how it splits the samples and runs passes over them."""

from __future__ import annotations

import numpy as np
import pytest

from icsnn_deploy.conversion.calibration.context import CalibrationContext

SAMPLES = np.arange(20, dtype=np.float32).reshape(10, 2)


@pytest.mark.parametrize(
    ("count", "share", "fit", "held_out"),
    [(10, 0.25, 8, 2), (10, 0.01, 9, 1), (4, 0.5, 2, 2), (2, 0.9, 1, 2), (1, 0.25, 1, 1)],
)
def test_a_split_holds_out_the_last_samples(
    count: int, share: float, fit: int, held_out: int
) -> None:
    context = CalibrationContext.of(SAMPLES[:count], batch_size=3, device="meta")
    first, last = context.split(share)
    np.testing.assert_array_equal(first.samples.samples, SAMPLES[:fit])
    np.testing.assert_array_equal(last.samples.samples, SAMPLES[count - held_out : count])
    assert first.device == last.device == "meta"
    assert first.batch_size == last.batch_size == 3


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_a_pass_covers_every_sample_once_in_order(batch_size: int) -> None:
    context = CalibrationContext.of(SAMPLES, batch_size=batch_size)
    found = list(context.map(lambda start, batch: (start, batch.copy())))
    assert len(found) == context.batch_count
    assert [start for start, _ in found] == list(range(0, 10, batch_size))
    np.testing.assert_array_equal(np.concatenate([batch for _, batch in found]), SAMPLES)


def test_a_named_pass_reports_its_progress_and_a_nameless_one_none() -> None:
    told: list[tuple[str, int, int | None]] = []
    context = CalibrationContext.of(SAMPLES, batch_size=4, progress=lambda *args: told.append(args))
    list(context.map(lambda start, batch: len(batch)))
    assert told == []
    list(context.map(lambda start, batch: len(batch), stage="a pass"))
    assert told == [("a pass", done, 3) for done in range(4)]
