"""The demo on a shorter program: fewer recipes, steps and epochs, the same path."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.demo import run
from icsnn_deploy.demo.digits import Digits, DigitsNet, load_digits, train
from icsnn_deploy.errors import BackendUnavailableError, BundleError
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.splitting.split import split
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.check import check

pytestmark = pytest.mark.slow


def short_training(digits: Digits, progress: Progress) -> DigitsNet:
    return train(digits, progress, epochs=4)


def test_the_demo_ends_with_every_verdict_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "train", short_training)
    monkeypatch.setattr(run, "RECIPES", ("opi",))
    monkeypatch.setattr(run, "TIME_STEPS", 4)
    stages: list[str] = []
    result = run.run_demo(tmp_path / "demo", lambda stage, done, total: stages.append(stage))
    assert result.passed
    assert result.ann_accuracy > 0.9
    assert result.accuracy_over_time["opi"][4] > result.ann_accuracy - 0.1
    assert result.integer_accuracy > result.ann_accuracy - 0.1
    compared = {c.backend for c in result.integer_parity.comparisons}
    assert compared == {*run.BACKENDS, "lava-float", "lava-fixed", "lava-stock"}
    assert {c.backend for c in result.parity.comparisons} == {*run.BACKENDS, "lava-float"}
    assert all(c.spike_mismatches == 0 for c in result.integer_parity.comparisons)
    assert {c.images for c in result.integer_parity.comparisons} == {64}
    json.dumps(result.to_json(), allow_nan=False)
    assert {"training", "recipes", "reference"} <= set(stages)
    assert {f"comparing {name}" for name in compared} <= set(stages)
    integer = open_bundle(tmp_path / "demo-int8")
    assert integer.network().is_integer
    assert set(integer.exports) == {"nir", "onnx", "onnx-step"}
    for name in ("demo", "demo-int8"):
        parts = split(open_bundle(tmp_path / name), tmp_path / f"{name}-split")
        assert all(c.spike_mismatches == 0 for c in parts.report.comparisons)
        misfits = check(parts.chip.network(), find_target("speck")).misfits
        assert "analog input" not in {misfit.what for misfit in misfits}
    with pytest.raises(BundleError, match=r"demo: exists already.*--overwrite"):
        run.run_demo(tmp_path / "demo")


def test_without_lava_the_demo_that_asks_for_it_says_so_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ICSNN_LAVA", str(tmp_path / "nowhere"))
    monkeypatch.setattr(run, "load_digits", None)  # nothing is done before
    with pytest.raises(BackendUnavailableError, match="icsnn lava setup"):
        run.run_demo(tmp_path / "demo", lava=True)


@pytest.mark.parametrize("taken", ["demo", "demo-int8"])
def test_what_is_no_bundle_is_told_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    (tmp_path / taken).mkdir()
    monkeypatch.setattr(run, "load_digits", None)  # nothing is done before
    with pytest.raises(BundleError, match=f"{taken}: exists and is not a bundle"):
        run.run_demo(tmp_path / "demo", lava=False, overwrite=True)


def test_training_is_reproducible() -> None:
    digits = load_digits()
    one, two = (train(digits, silent, epochs=1).state_dict() for _ in range(2))
    assert all(bool((one[name] == two[name]).all()) for name in one)
    assert len(digits.test_images) + len(digits.train_images) == 1797
