"""What a conversion says before it starts and at its end; no test is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from icsnn_deploy.conversion.announcement import Estimate, advice, starting_line
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import RECIPES, Recipe
from icsnn_deploy.conversion.calibration.threshold_rules import MaxThreshold
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.conversion.calibration.work import Amounts, MachineSpeed, Work
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.frontend.trace import trace
from icsnn_deploy.conversion.report import CandidateResult, ConversionReport
from tests.support.traced import small_model

IMAGES = np.random.default_rng(0).normal(size=(16, 3, 6, 6)).astype(np.float32)
METHOD = Method(threshold=MaxThreshold(), v_init=Half())


class Clock:
    """A clock that advances by a tenth of a second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


def estimate(seconds_per_sample: float = 0.01, processes: int = 1) -> Estimate:
    """An estimate for a machine of known speed."""
    speed = MachineSpeed(
        ann_sample=seconds_per_sample / 8, network_sample=seconds_per_sample, fitted=0.0
    )
    amounts = Amounts(
        ann=trace(small_model(), torch.from_numpy(IMAGES[:2])), fit=768, held_out=256, time_steps=8
    )
    return Estimate(amounts=amounts, speed=speed, processes=processes)


def report(agreement: float | None, divergence: float, samples: int = 1024) -> ConversionReport:
    chosen = CandidateResult(method="m", agreement=agreement, divergence=divergence, seconds=1.0)
    return ConversionReport(
        recipe="auto",
        time_steps=8,
        readout_steps=(8,),
        calibration_samples=samples,
        held_out_samples=256,
        chosen=chosen,
        candidates=(chosen,),
        populations=(),
        seconds=1.0,
    )


def test_the_speed_is_what_the_clock_says() -> None:
    ann = trace(small_model(), torch.from_numpy(IMAGES[:2]))
    context = CalibrationContext.of(IMAGES, batch_size=4)
    speed = MachineSpeed.measure(ann, context, (4,), 0.5, Clock())
    # a run between two readings takes 0.1 s, and with the samples of one run 16 take as long
    assert speed.ann_sample == pytest.approx(speed.network_sample)
    assert 0.1 / 16 <= speed.ann_sample <= 0.1
    assert 0 < speed.fitted < 1e-6


def test_work_is_counted_by_recipe() -> None:
    amounts = estimate().amounts
    assert Recipe(name="opi").strategy.work(amounts) == Work(network_samples=256)
    eight = Recipe(name="fast").strategy.work(amounts)
    assert eight == Work(network_samples=8 * 256 + 4 * 2 * 768)  # four of eight correct biases
    quick = Recipe(name="auto", effort="quick").strategy.work(amounts)
    assert quick is not None
    assert quick.network_samples == 4 * 256 + 2 * 256 + 3 * 256
    assert quick.trained_samples == 0
    kept = Recipe(name="auto", effort="quick", weights=False).strategy.work(amounts)
    assert kept is not None
    assert kept.network_samples == 3 * 256 + 2 * 256


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_how_long_it_takes(name: str) -> None:
    seconds = estimate(1.0).seconds(Recipe(name=name))
    assert seconds is not None
    assert seconds > 256


def test_more_effort_takes_longer_and_processes_share_the_work() -> None:
    efforts: list[Any] = ["quick", "short", "standard", "best", "finetune"]
    times = [estimate().seconds(Recipe(effort=effort)) or 0.0 for effort in efforts]
    assert times == sorted(set(times))
    fast = Recipe(name="fast")
    alone, shared = estimate().seconds(fast), estimate(processes=4).seconds(fast)
    assert alone is not None
    assert shared == pytest.approx(alone / 4)


def test_the_line_says_what_is_done_and_how_long() -> None:
    line = starting_line(Recipe(name="auto", effort="quick"), estimate())
    assert line == (
        "recipe auto, effort quick: thresholds, search, refit; 768 samples to calibrate, "
        "256 to compare; about 25 s"
    )


def test_a_short_conversion_is_not_announced_and_a_long_one_names_shorter_recipes() -> None:
    assert starting_line(Recipe(name="opi"), estimate(0.001)) is None
    line = starting_line(Recipe(name="auto", effort="standard"), estimate(2.0))
    assert line is not None
    assert "(recipe opi about" in line or "(recipe fast about" in line


def test_methods_of_your_own_are_estimated() -> None:
    line = starting_line(Recipe(name="mine", methods=(METHOD,)), estimate(1.0))
    assert line is not None
    assert line.startswith("recipe mine, 1 candidate; ")


@pytest.mark.parametrize(
    ("recipe", "agreement", "divergence", "wanted"),
    [
        (Recipe(), 0.98, 9.0, None),
        (Recipe(), 0.9, 0.1, "10.0% of the held-out samples get another class than the ANN's; "),
        (Recipe(), None, 0.04, None),
        (Recipe(), None, 0.2, "the outputs diverge by 0.2 from the ANN's; "),
        (Recipe(), 0.9, 0.1, "try effort standard, or more time steps (16)"),
        (Recipe(effort="finetune"), 0.9, 0.1, "try more time steps (16)"),
        (Recipe(name="opi"), 0.9, 0.1, "try recipe auto, or more time steps (16)"),
        (Recipe(methods=(METHOD,)), 0.9, 0.1, "try more time steps (16)"),
    ],
)
def test_a_large_loss_is_followed_by_what_to_try(
    recipe: Recipe, agreement: float | None, divergence: float, wanted: str | None
) -> None:
    found = advice(recipe, report(agreement, divergence), None)
    assert found is None if wanted is None else wanted in str(found)


def test_the_advice_says_what_it_costs() -> None:
    found = str(advice(Recipe(), report(0.9, 0.1, samples=100), estimate(0.02)))
    assert "effort standard (about " in found
    assert "more calibration samples (1,000 or so)" in found


def test_a_conversion_is_announced_only_where_someone_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Listener:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def __call__(self, stage: str, done: int, total: int | None) -> None:
            """Ignore stages."""

        def announce(self, line: str) -> None:
            self.lines.append(line)

    slow = MachineSpeed(ann_sample=1.0, network_sample=1.0, fitted=0.0)
    measured = []

    def measure(*_: object) -> MachineSpeed:
        measured.append(1)
        return slow

    monkeypatch.setattr(MachineSpeed, "measure", measure)
    listener = Listener()
    result = convert(small_model(), IMAGES, Recipe(name="opi", time_steps=2), progress=listener)
    assert listener.lines == [
        "recipe opi, 1 candidate; 12 samples to calibrate, 4 to compare; about 20 s"
    ]
    again = convert(small_model(), IMAGES, Recipe(name="opi", time_steps=2), progress=None)
    assert (len(measured), again.network.hash()) == (2, result.network.hash())
