"""Distillation brings outputs nearer to the ANN's; it can be repeated, interrupted and resumed."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy.conversion.calibration.agreement import AgreementScorer
from icsnn_deploy.conversion.calibration.augmentation import Augmentation
from icsnn_deploy.conversion.calibration.checkpoint import Checkpoint
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.distill import Distilled, DistillOptions, distill
from icsnn_deploy.conversion.calibration.training_batches import DrawnBatches
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.graph import Graph
from tests.support.graphs import random_images, residual_ann, spiking_network

OPTIONS = DistillOptions(iterations=30, rate=2e-2, weight_rate=1e-2)
CONTEXT = CalibrationContext.of(random_images(64), batch_size=64)
SCORER = AgreementScorer(residual_ann(), CONTEXT)


def run(
    options: DistillOptions = OPTIONS,
    checkpoint: Checkpoint | None = None,
    seed: int = 0,
    network: Graph | None = None,
    context: CalibrationContext = CONTEXT,
) -> Distilled:
    return distill(
        network or spiking_network(residual_ann()),
        residual_ann(),
        context,
        DrawnBatches(context, 16, Augmentation(), seed),
        (3, 6),
        options,
        objective=SCORER.objective,
        held_out=lambda found: SCORER.score(found).divergence,
        checkpoint=checkpoint,
    )


@pytest.mark.parametrize("weight_rate", [0.0, 1e-2])
def test_it_brings_the_outputs_nearer_to_those_of_the_ann(weight_rate: float) -> None:
    before = SCORER.score(spiking_network(residual_ann())).divergence
    found = run(replace(OPTIONS, weight_rate=weight_rate))
    assert SCORER.score(found.network).divergence < 0.7 * before


def test_the_same_seed_gives_the_same_network() -> None:
    first, second, other = run(), run(), run(seed=1)
    assert first.network.hash() == second.network.hash()
    assert other.network.hash() != first.network.hash()


def test_activations_take_part_if_asked() -> None:
    assert run(replace(OPTIONS, activation_share=0.5)).network.hash() != run().network.hash()


def test_the_curve_falls_and_is_written(tmp_path: Path) -> None:
    found = run(checkpoint=Checkpoint(tmp_path / "states", "distillation", "a"))
    assert [point.iteration for point in found.curve] == list(range(1, 31))
    assert found.curve[-1].samples == 30 * 16
    assert found.curve[-1].training_divergence < 0.8 * found.curve[0].training_divergence
    with (tmp_path / "states/distillation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["held_out_divergence"]) for row in rows] == [
        point.held_out_divergence for point in found.curve
    ]


class InterruptedRunError(Exception):
    pass


@pytest.mark.parametrize("stop", [11, 25])  # before and after the last batch that is normalized
def test_an_interrupted_distillation_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    monkeypatch.setattr("icsnn_deploy.conversion.calibration.distill._SAVE_EVERY_S", 0.0)
    kept = Checkpoint(tmp_path, "distillation", "a")
    undisturbed = run()
    begun: list[int] = []

    def interrupt(stage: str, done: int, total: int | None) -> None:
        begun.append(done)
        if done == stop and len(begun) == stop + 1:
            raise InterruptedRunError

    context = replace(CONTEXT, progress=interrupt)
    with pytest.raises(InterruptedRunError):
        run(checkpoint=kept, context=context)
    found = run(checkpoint=kept, context=context)
    assert begun[stop + 1] == stop  # not from the beginning
    assert found.network.hash() == undisturbed.network.hash()
    assert len(found.curve) == len(undisturbed.curve)
    again = run(checkpoint=kept, context=context)  # finished: nothing is trained
    assert begun[-1] == 30
    assert begun.count(30) == 2
    assert again.network.hash() == undisturbed.network.hash()


def test_the_checkpoint_of_another_calibration_is_refused(tmp_path: Path) -> None:
    run(checkpoint=Checkpoint(tmp_path, "distillation", "a"))
    with pytest.raises(ConversionError, match="the checkpoint of another calibration"):
        run(checkpoint=Checkpoint(tmp_path, "distillation", "b"))


@pytest.mark.parametrize("content", [b"", b"no zip archive", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "distillation.pt").write_bytes(content)
    with pytest.raises(ConversionError, match=r"distillation\.pt: not a checkpoint of icsnn"):
        run(checkpoint=Checkpoint(tmp_path, "distillation", "a"))


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConversionError, match="cannot be written"):
        run(checkpoint=Checkpoint(tmp_path / "file", "distillation", "a"))


def test_rates_rise_and_fall_to_nothing() -> None:
    factors = [DistillOptions(iterations=100).factor(n) for n in range(100)]
    assert factors.index(max(factors)) in (9, 10)
    assert factors[0] < 0.11
    assert factors[-1] < 1e-3


def test_the_first_batches_are_normalized_by_their_own_statistics() -> None:
    options = replace(OPTIONS, iterations=10)
    assert [n for n in range(10) if replace(options, normalized_share=0.3).by_batch(n)] == [0, 1, 2]
    shares = (0.0, 0.3, 0.7, 1.0)
    found = {run(replace(options, normalized_share=share)).network.hash() for share in shares}
    assert len(found) == len(shares)


def test_the_temperature_falls_to_one() -> None:
    options = DistillOptions(iterations=4, temperature=3.0)
    assert [options.temperature_at(n) for n in range(4)] == [3.0, 2.5, 2.0, 1.5]
    assert {DistillOptions(iterations=4).temperature_at(n) for n in range(4)} == {1.0}
    with pytest.raises(ConversionError, match=r"temperature 0\.5"):
        DistillOptions(temperature=0.5)


def test_a_temperature_changes_what_is_learned() -> None:
    assert run(replace(OPTIONS, temperature=4.0)).network.hash() != run().network.hash()


def test_every_sample_comes_once_before_any_comes_again() -> None:
    samples = np.arange(12, dtype=np.float32).reshape(12, 1)
    batches = DrawnBatches(CalibrationContext.of(samples, batch_size=4), 4, Augmentation(), 0)
    turns = [[batches.batch(turn * 3 + n).samples.ravel() for n in range(3)] for turn in range(2)]
    for turn in turns:
        assert sorted(np.concatenate(turn)) == list(range(12))
    assert not np.array_equal(turns[0], turns[1])
    np.testing.assert_array_equal(
        batches.batch(1).samples, turns[0][1][:, None]
    )  # whatever came before
    few = DrawnBatches(CalibrationContext.of(samples[:3], batch_size=4), 8, Augmentation(), 0)
    assert len(few.batch(0).samples) == 3


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConversionError, match="iterations 0"):
        DistillOptions(iterations=0)
    with pytest.raises(ConversionError, match="weight_rate -1"):
        DistillOptions(weight_rate=-1)
    with pytest.raises(ConversionError, match=r"normalized_share 1\.5: 0 to 1 is allowed"):
        DistillOptions(normalized_share=1.5)
