"""What an evaluation keeps of its shards, so that it can go on, and what is refused of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import BundleError, DataError
from icsnn_deploy.evaluation.ledger import Ledger
from icsnn_deploy.evaluation.options import EvaluationOptions
from icsnn_deploy.evaluation.run import evaluate
from icsnn_deploy.evaluation.samples import open_samples
from tests.support.evaluating import NETWORK, build, data, run

COUNT = 23


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    build(folder / "bundle", NETWORK, "onnx", "onnx-step")
    data(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def bundle(place: Path) -> Bundle:
    from icsnn_deploy.bundle.bundle import open_bundle

    return open_bundle(place / "bundle")


class BreakError(Exception):
    """Somebody breaks the run off."""


def broken_off(bundle: Bundle, folder: Path, out: Path, after: int, **options: Any) -> None:
    def progress(stage: str, done: int, of: int | None) -> None:
        if stage == "evaluating" and done >= after:
            raise BreakError

    with pytest.raises(BreakError):
        run(bundle, folder, out=out, progress=progress, **options)


def shards(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("shard-*.json"))


def test_a_run_that_broke_off_goes_on(bundle: Bundle, place: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "shard_size": 5,
        "batch_size": 2,
        "confidence": 0.2,
        "parity": ("reference",),
    }
    expected = run(bundle, place, **options).to_json()
    out = tmp_path / "out"
    broken_off(bundle, place, out, 13, **options)
    assert sorted(path.name for path in out.iterdir()) == [
        "settings.json",
        "shard-00000000.json",
        "shard-00000001.json",
    ]
    before = {name: (out / name).stat().st_mtime_ns for name in shards(out)}
    told: list[tuple[str, int, int | None]] = []
    found = run(bundle, place, out=out, progress=lambda *now: told.append(now), **options)
    assert found.to_json() == expected
    assert len(shards(out)) == 5
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert ("evaluating", 0, COUNT - 10) in told  # the finished ones are not run again
    kept = json.loads((out / "result.json").read_text())
    assert kept == json.loads(json.dumps(expected))
    # in the same order, too, although files are sorted by name
    again = run(bundle, place, out=out, **options)
    assert json.dumps(again.to_json()) == json.dumps(expected)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 3}, "batch_size 2, now 3"),
        ({"confidence": 0.5}, "confidence None, now 0.5"),
        ({"limit": 9}, "samples 23, now 9"),
        ({"parity": ("reference",)}, "parity "),
        ({"labelled": False}, "labels True, now False"),
    ],
)
def test_another_evaluation_is_refused(
    bundle: Bundle, place: Path, tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    usual: dict[str, Any] = {"shard_size": 5, "batch_size": 2}
    run(bundle, place, out=tmp_path / "out", **usual)
    with pytest.raises(DataError, match="holds another evaluation") as caught:
        run(bundle, place, out=tmp_path / "out", **{**usual, **options})
    assert named in str(caught.value)


@pytest.mark.parametrize("what", ["x.npy", "y.npy"])
def test_changed_samples_are_refused(bundle: Bundle, tmp_path: Path, what: str) -> None:
    data(tmp_path, 12)
    out = tmp_path / "out"
    broken_off(bundle, tmp_path, out, 9, shard_size=4)
    array = np.load(tmp_path / what)
    array[5] = 1 - array[5] if what == "x.npy" else (array[5] + 1) % 10
    np.save(tmp_path / what, array)
    with pytest.raises(DataError, match="samples 4 to 8 or their labels are not those"):
        run(bundle, tmp_path, out=out, shard_size=4)


@pytest.mark.parametrize("content", ["", "[]", "{", "{}", '{"digest": "a", "counts": {}}'])
def test_a_damaged_shard_is_named(
    bundle: Bundle, place: Path, tmp_path: Path, content: str
) -> None:
    run(bundle, place, out=tmp_path / "out", shard_size=8)
    (tmp_path / "out" / "shard-00000001.json").write_text(content)
    with pytest.raises(
        DataError, match=r"shard-00000001\.json.*delete the file, and the shard is run again"
    ):
        run(bundle, place, out=tmp_path / "out", shard_size=8)


CHANGES: list[Callable[[dict[str, Any]], Any]] = [
    lambda shard: shard["counts"].update(samples=999),
    lambda shard: shard["counts"].update(samples=None),
    lambda shard: shard["counts"].update(top1=5000),
    lambda shard: shard["counts"].update(spikes={}),
    lambda shard: shard["counts"]["parity"][0].update(spike_mismatches="x"),
    lambda shard: shard["counts"].update(top1=None),
    lambda shard: shard["counts"].update(top1=[1, 2]),
    lambda shard: shard["counts"]["outputs"]["output"]["over_time"].pop(),
    lambda shard: shard["counts"]["spikes"].popitem(),
    lambda shard: shard["counts"].update(exit_steps=[1] * 6),
    lambda shard: shard["counts"].update(parity=[]),
    lambda shard: shard.pop("seal"),
    lambda shard: shard.update(extra=1),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_shard_is_named(
    bundle: Bundle, place: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    options: dict[str, Any] = {"shard_size": 8, "parity": ("reference",), "confidence": 0.2}
    run(bundle, place, out=tmp_path / "out", **options)
    path = tmp_path / "out" / "shard-00000001.json"
    shard = json.loads(path.read_text())
    change(shard)
    path.write_text(json.dumps(shard))
    with pytest.raises(DataError, match=r"shard-00000001\.json: damaged, or a shard of another"):
        run(bundle, place, out=tmp_path / "out", **options)


def _output(shard: dict[str, Any]) -> dict[str, Any]:
    return next(iter(shard["counts"]["outputs"].values()))


FORGED: list[Callable[[dict[str, Any]], Any]] = [
    lambda shard: _output(shard).update(snn=None),
    lambda shard: _output(shard).update(ann=None),
    lambda shard: _output(shard).update(over_time=None),
    lambda shard: _output(shard).update(labelled=None),
    lambda shard: _output(shard)["snn"].update(top1=None),
    lambda shard: shard["counts"].update(spikes=None),
    lambda shard: shard["counts"].update(exit_steps=None),
    lambda shard: shard["counts"]["spikes"].popitem(),
    lambda shard: shard["counts"]["parity"][0].update(same_classes={}),
]


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("change", FORGED)
def test_a_shard_with_a_fitting_seal_and_counts_of_other_kinds_is_refused(
    bundle: Bundle,
    place: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], Any],
    number: int,
) -> None:
    options: dict[str, Any] = {"shard_size": 12, "parity": ("reference",), "confidence": 0.2}
    run(bundle, place, out=tmp_path / "out", **options)
    path = tmp_path / "out" / f"shard-{number:08d}.json"
    shard = json.loads(path.read_text())
    change(shard)
    del shard["seal"]
    ledger = Ledger(tmp_path / "out", json.loads((tmp_path / "out/settings.json").read_text()))
    path.write_text(json.dumps({**shard, "seal": ledger._seal(number, shard)}))
    with pytest.raises(DataError, match=r"do not fit together|not of the type"):
        run(bundle, place, out=tmp_path / "out", **options)


def test_a_shard_of_another_evaluation_is_refused(
    bundle: Bundle, place: Path, tmp_path: Path
) -> None:
    run(bundle, place, out=tmp_path / "one", shard_size=8)
    run(bundle, place, out=tmp_path / "two", shard_size=8, confidence=0.5)
    for name in ("shard-00000000.json", "shard-00000007.json"):  # there are three
        shutil.copy(tmp_path / "one" / "shard-00000000.json", tmp_path / "two" / name)
        with pytest.raises(DataError, match=f"{name}: damaged, or a shard of another"):
            run(bundle, place, out=tmp_path / "two", shard_size=8, confidence=0.5)
        (tmp_path / "two" / name).unlink()


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_lost_settings_are_made_again(
    bundle: Bundle, place: Path, tmp_path: Path, content: str
) -> None:
    """The message says what helps, and nothing that was finished is lost by it."""
    options: dict[str, Any] = {"out": tmp_path / "out", "shard_size": 8, "batch_size": 4}
    expected = run(bundle, place, **options)
    settings = tmp_path / "out" / "settings.json"
    wanted = settings.read_bytes()
    settings.write_text(content)
    with pytest.raises(
        DataError, match=r"settings\.json: .*; delete the file, and it is written again"
    ):
        run(bundle, place, **options)
    settings.unlink()
    before = {
        name: (tmp_path / "out" / name).stat().st_mtime_ns for name in shards(tmp_path / "out")
    }
    assert run(bundle, place, **options).to_json() == expected.to_json()
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before} == before
    assert settings.read_bytes() == wanted


def test_lost_settings_do_not_mix_evaluations(bundle: Bundle, place: Path, tmp_path: Path) -> None:
    run(bundle, place, out=tmp_path / "out", shard_size=8)
    (tmp_path / "out" / "settings.json").unlink()
    with pytest.raises(DataError, match=r"shard-00000000\.json: damaged, or a shard of another"):
        run(bundle, place, out=tmp_path / "out", shard_size=8, confidence=0.5)
    assert not (tmp_path / "out" / "settings.json").exists()


def test_writers_of_one_number_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes in two containers may have the same number, and write the same file at once."""
    one, two = (Ledger(tmp_path, {"samples": 1}) for _ in range(2))
    rename = os.replace
    waiting = [two]

    def renamed(*names: Any) -> None:
        if waiting:
            waiting.pop().begin()
        rename(*names)

    monkeypatch.setattr(os, "replace", renamed)
    one.begin()
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_another_evaluation_that_begins_meanwhile_is_seen(tmp_path: Path) -> None:
    one, two = (Ledger(tmp_path, {"samples": count}) for count in (1, 2))
    one.begin()
    with pytest.raises(DataError, match="holds another evaluation"):
        two.begin()


@pytest.mark.parametrize(
    ("what", "options", "error", "message"),
    [
        ("narrow.npy", {}, DataError, r"narrow\.npy: input of shape .* is needed"),
        ("x.npy", {"parity": ("nir",)}, BundleError, "no nir export"),
    ],
)
def test_what_can_not_run_leaves_no_folder(
    bundle: Bundle,
    place: Path,
    tmp_path: Path,
    what: str,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    np.save(tmp_path / "narrow.npy", np.load(place / "x.npy")[..., 1:])
    shutil.copy(place / "x.npy", tmp_path)
    samples = open_samples(str(tmp_path / what))
    with pytest.raises(error, match=message):
        evaluate(bundle, samples, None, EvaluationOptions(**options), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else(bundle: Bundle, place: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(DataError, match=r"holds thesis\.tex, but no evaluation"):
        run(bundle, place, out=tmp_path)
    with pytest.raises(DataError, match="can't be created"):
        run(bundle, place, out=tmp_path / "thesis.tex")
