"""Sweeps of a tiny network: what rows say, what is kept, and what an interruption changes."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from icsnn_deploy.atomic import atomic_write
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.conversion.calibration.checkpoint import Checkpoint
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.threshold_rules import QuantileThreshold
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.errors import BackendUnavailableError, ConversionError, DataError
from icsnn_deploy.evaluation.activity import measure_activity
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.progress import Progress
from icsnn_deploy.sweeping import folder, work
from icsnn_deploy.sweeping.inputs import SweptModel, array_samples
from icsnn_deploy.sweeping.options import SweepOptions
from icsnn_deploy.sweeping.page import sweep_page, write_files
from icsnn_deploy.sweeping.result import SweepResult
from icsnn_deploy.sweeping.rows import Measured
from icsnn_deploy.sweeping.run import run_sweep, sweep
from icsnn_deploy.sweeping.step import SweepStep, step_line
from icsnn_deploy.sweeping.table import choice_lines, target_table
from icsnn_deploy.targets import find_target
from icsnn_deploy.targets.check import check
from tests.support.sweeping import data, run, tiny

SMALL = SweepOptions(
    time_steps=(2,), bits=(3, "float"), recipes=("opi",), targets=("generic", "speck")
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepResult, Path]:
    out = tmp_path_factory.mktemp("sweep") / "out"
    return run(SMALL, out=out), out


def test_a_row_is_what_convert_quantize_evaluate_and_check_give(
    undisturbed: tuple[SweepResult, Path],
) -> None:
    result, out = undisturbed
    assert len(result) == 4
    row = next(r for r in result if (r.bits, r.target) == (3, "speck"))
    found = row.measured
    assert found is not None
    given, speck = data(), find_target("speck")
    conversion = convert(tiny(), given.calibration, Recipe(name="opi", time_steps=2))
    options = LatticeOptions.for_target(speck, bits=3, per_layer=False, input_bits=8)
    network = quantize(conversion, given.calibration, options=options, profile=speck).network
    assert found.graph_hash == network.hash()
    assert open_bundle(out / found.folder).graph_hash == network.hash()
    recording = ReferenceSimulator(network).run(to_input_units(network, given.images))
    right = (recording.logits.argmax(axis=1) == given.labels).mean()
    assert found.value == pytest.approx(100 * right)
    assert found.ann_value == 90.0
    assert found.loss == pytest.approx(90 - 100 * right)
    assert len(found.over_time) == len(found.agreement_over_time) == 2
    assert (found.over_time[-1], found.agreement_over_time[-1]) == (found.value, found.agreement)
    inputs = to_input_units(network, given.images)
    activity = measure_activity(network, recording, inputs)
    assert found.acs == pytest.approx(activity.acs)
    assert found.spikes == pytest.approx(activity.spikes)
    assert found.operations == pytest.approx(activity.acs + activity.macs_once)
    assert found.high_nanojoule == pytest.approx(activity.energy.high_nanojoule)
    verdict = check(network, speck)
    assert (found.fits, found.cores) == (verdict.ok, verdict.cores_used)
    assert found.misfits == tuple(map(str, verdict.misfits))
    assert found.memory_bits == verdict.resources.memory_bits
    assert row.cost("reads") == found.operations * found.widest


def test_targets_that_have_the_same_network_share_its_figures(
    undisturbed: tuple[SweepResult, Path],
) -> None:
    result, out = undisturbed
    hashes = {row.measured.graph_hash for row in result if row.measured}
    assert len(list((out / "runs").glob("*.json"))) == len(hashes) < len(result)
    floats = [row.measured for row in result if row.bits == "float"]
    assert floats[0] is not None
    assert floats[1] is not None
    assert floats[0].value == floats[1].value
    assert (floats[0].fits, floats[1].fits) == (True, False)


def test_a_finished_sweep_is_read_and_nothing_is_converted_again(
    undisturbed: tuple[SweepResult, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result, out = undisturbed
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    monkeypatch.setattr(work.Work, "convert", _never)
    monkeypatch.setattr(work.Work, "measure", _never)
    steps: list[SweepStep] = []
    again = run(SMALL, out=copy, on_step=steps.append)
    assert again.to_json() == result.to_json()
    assert [(step.done, step.row) for step in steps] == [(4, None)]


def test_one_more_step_or_width_keeps_what_is_there(
    undisturbed: tuple[SweepResult, Path], tmp_path: Path
) -> None:
    result, out = undisturbed
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    more = SweepOptions(time_steps=(1, 2), bits=(3,), recipes=("opi",), targets=("speck",))
    steps: list[SweepStep] = []
    found = run(more, out=copy, on_step=steps.append)
    assert [step.done for step in steps] == [1, 2]
    kept = {row.point: row for row in result}
    assert all(kept[row.point] == row for row in found if row.point in kept)
    assert len(list((copy / "conversions").iterdir())) == 2


class _Stop(KeyboardInterrupt):
    """As a kill: no handler of errors catches it."""


def test_a_sweep_that_is_interrupted_again_and_again_gives_the_same_bytes(
    undisturbed: tuple[SweepResult, Path], tmp_path: Path
) -> None:
    result, _ = undisturbed
    stopped = 0
    for after in (1, 4, 7, 10, 13, 16, 20):
        try:
            run(SMALL, out=tmp_path, progress=_stopping(after))
        except _Stop:
            stopped += 1
    assert stopped >= 4
    found = run(SMALL, out=tmp_path)
    assert json.dumps(found.to_json()) == json.dumps(result.to_json())
    assert found.to_csv() == result.to_csv()


def test_a_point_that_cant_be_had_is_a_row_with_the_reason(tmp_path: Path) -> None:
    options = SweepOptions(
        time_steps=(2,), bits=(3, 16), recipes=("hybrid", "opi"), targets=("speck",)
    )
    rows = {(row.recipe, row.bits): row for row in run(options, out=tmp_path / "out")}
    assert "labels" in rows["hybrid", 3].error
    assert rows["hybrid", 3].error.startswith("conversion: ")
    assert "weights of 16 bits; it takes 8 at most" in rows["opi", 16].error
    assert rows["opi", 3].measured is not None
    kept = [json.loads(path.read_text()) for path in (tmp_path / "out/cells").glob("*.json")]
    assert sum("error" in cell for cell in kept) == 3


def test_an_error_of_this_machine_is_a_row_that_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = SweepOptions(time_steps=(2,), bits=("float",), recipes=("opi",))
    with monkeypatch.context() as broken:
        broken.setattr(work, "evaluate", _raising(RuntimeError("out of memory")))
        (row,) = run(options, out=tmp_path / "out")
    assert row.error == "RuntimeError: out of memory"
    (row,) = run(options, out=tmp_path / "out")
    assert row.measured is not None


def test_a_missing_package_stops_the_sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(work, "evaluate", _raising(BackendUnavailableError("install it")))
    options = SweepOptions(time_steps=(2,), bits=("float",), recipes=("opi",))
    with pytest.raises(BackendUnavailableError, match="install it"):
        run(options, out=tmp_path / "out")
    assert list((tmp_path / "out/cells").iterdir()) == []


def test_the_state_of_another_calibration_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Training that was interrupted on another machine does not make a row of it."""
    tried = []

    def converted(self: Any, recipe: Recipe, progress: Any, **more: Any) -> Any:
        folder = more.get("checkpoints")
        if folder is not None:
            tried.append(folder.exists())
            if folder.exists():
                raise ConversionError("the checkpoint of another calibration")
        return original(self, recipe, progress, **more)

    original = SweptModel.convert
    options = SweepOptions(time_steps=(2,), bits=("float",), recipes=("opi",))
    out = tmp_path / "out"
    run(options, out=out)
    (bundle,) = (out / "conversions").iterdir()
    shutil.rmtree(bundle)
    shutil.rmtree(out / "cells")
    bundle.with_name(f"{bundle.name}.training").mkdir()
    monkeypatch.setattr(SweptModel, "convert", converted)
    (row,) = run(options, out=out)
    assert row.measured is not None
    assert tried == [True, False]
    assert [path.name for path in (out / "conversions").iterdir()] == [bundle.name]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda text: text[: len(text) // 2], "not readable as JSON"),
        (lambda text: text.replace('"value": ', '"value": 9'), "damaged"),
        (lambda text: text.replace("icsnn-sweep-1", "icsnn-sweep-0"), "of another version"),
    ],
)
def test_a_damaged_cell_is_an_error_that_names_it(
    tmp_path: Path, damage: Callable[[str], str], why: str
) -> None:
    options = SweepOptions(time_steps=(1,), bits=("float",), recipes=("opi",))
    run(options, out=tmp_path)
    (cell,) = (tmp_path / "cells").iterdir()
    cell.write_text(damage(cell.read_text()))
    with pytest.raises(DataError, match=why) as error:
        run(options, out=tmp_path)
    assert str(cell) in str(error.value)
    assert "delete the file" in str(error.value)


def test_a_damaged_run_stops_the_sweep_until_it_is_deleted(tmp_path: Path) -> None:
    options = SweepOptions(time_steps=(1,), bits=("float",), recipes=("opi",))
    run(options, out=tmp_path)
    (cell,), (figures,) = (list((tmp_path / name).iterdir()) for name in ("cells", "runs"))
    cell.unlink()
    figures.write_text("{}")
    for _ in range(2):
        with pytest.raises(DataError, match="delete the file") as error:
            run(options, out=tmp_path)
        assert type(error.value) is DataError
        assert str(figures) in str(error.value)
    figures.unlink()
    (row,) = run(options, out=tmp_path)
    assert row.measured is not None


def test_a_full_folder_stops_the_sweep_and_is_not_the_error_of_a_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> Any:
        if path.parent.name == "runs":
            raise OSError(errno.ENOSPC, "No space left on device")
        return atomic_write(path)

    options = SweepOptions(time_steps=(1,), bits=("float",), recipes=("opi",))
    with monkeypatch.context() as broken:
        broken.setattr(folder, "atomic_write", full)
        with pytest.raises(DataError, match="No space left"):
            run(options, out=tmp_path)
    (row,) = run(options, out=tmp_path)
    assert row.measured is not None


def test_training_that_cant_be_written_is_not_the_error_of_a_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: SweptModel, recipe: Recipe, progress: Any, **more: Any) -> Any:
        if "checkpoints" in more:
            failing = Checkpoint(Path("/dev/null/training"), "distill", "")
            failing.write_curve([])
        return original(self, recipe, progress, **more)

    original = SweptModel.convert
    options = SweepOptions(time_steps=(1,), bits=("float",), recipes=("opi",))
    with monkeypatch.context() as broken:
        broken.setattr(SweptModel, "convert", full)
        with pytest.raises(ConversionError, match="cannot be written"):
            run(options, out=tmp_path)
    (row,) = run(options, out=tmp_path)
    assert row.measured is not None


@pytest.mark.parametrize("failing", ["opening", "blank", "read"])
def test_samples_that_cant_be_read_again_stop_the_sweep(tmp_path: Path, failing: str) -> None:
    given = data()
    opened = itertools.count()
    error = DataError("data.py:images: item 3 raised OSError: Stale file handle")

    def open_samples(bundle: Bundle) -> Any:
        samples, labels = array_samples(given.images, given.labels)(bundle)
        if not next(opened):  # as the sweep begins
            return samples, labels
        if failing == "opening":
            raise error
        monkeypatch.setattr(type(samples), failing, _raising(error))
        return samples, labels

    options = SweepOptions(time_steps=(1,), bits=("float",), recipes=("opi",))
    swept = SweptModel(model=tiny(), calibration=given.calibration)
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(DataError) as caught:
        run_sweep(swept, open_samples, options, out=tmp_path)
    assert str(caught.value) == str(error)
    (row,) = run_sweep(swept, array_samples(given.images, given.labels), options, out=tmp_path)
    assert row.measured is not None


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(DataError, match=r"holds thesis\.tex, but no sweep"):
        run(SMALL, out=tmp_path)


def test_own_recipes_have_the_names_that_they_are_given() -> None:
    method = Method(threshold=QuantileThreshold(p=0.99), v_init=Half())
    mine = {"a": Recipe(name="a", methods=(method,)), "b": Recipe(name="b", methods=(method,))}
    options = SweepOptions(time_steps=(2,), bits=("float",), recipes=mine)
    one, other = run(options)
    assert (one.recipe, other.recipe) == ("a", "b")
    assert one.measured == other.measured


def test_figures_over_time_are_those_of_each_step_and_none_before_the_readout() -> None:
    recipes = {
        "all": Recipe(name="opi"),
        "late": Recipe(name="opi", time_steps=3, readout_start=2),
    }
    options = SweepOptions(time_steps=(3, 4), bits=("float",), recipes=recipes)
    found = {(row.recipe, row.time_steps): row.measured for row in run(options)}
    for steps in (3, 4):
        whole, late = found["all", steps], found["late", steps]
        assert whole is not None
        assert late is not None
        for name in ("over_time", "agreement_over_time"):
            assert None not in getattr(whole, name)
            assert len(getattr(whole, name)) == len(getattr(late, name)) == steps
            assert getattr(late, name)[:2] == (None, None)
            assert None not in getattr(late, name)[2:]
        assert late.over_time[-1] == late.value
        assert Measured.from_json(json.loads(json.dumps(late.to_json()))) == late


def test_without_labels_the_agreement_with_the_ann_is_measured() -> None:
    given = data()
    options = SweepOptions(time_steps=(8,), bits=("float",), recipes=("opi",))
    (row,) = sweep(tiny(), given.calibration, given.images, options=options)
    assert row.measured is not None
    assert row.measured.figure == "agreement with the ANN"
    assert row.measured.ann_value == 100.0
    assert row.measured.value == row.measured.agreement


def test_the_table_and_the_page_show_every_point(undisturbed: tuple[SweepResult, Path]) -> None:
    result, _ = undisturbed
    table = target_table(result, "speck")
    assert table.row_count == 2
    assert "ANN 90.00 %" in str(table.title)
    assert len(choice_lines(result)) == 2
    page = sweep_page(result)
    assert [section.title for section in page.sections[1:3]] == ["generic", "speck"]
    csv = result.to_csv().splitlines()
    assert len(csv) == 5
    assert csv[0].startswith("recipe,time_steps,bits,target,loss,")


def test_the_page_escapes_names_and_has_words_for_every_picture(
    undisturbed: tuple[SweepResult, Path], tmp_path: Path
) -> None:
    result, _ = undisturbed
    names = [path.name for path in write_files(result, tmp_path)]
    assert names == ["table.csv", "table.json", "report.html", "report.md"]
    html = (tmp_path / "report.html").read_text()
    assert html.count("<figure") == 6
    assert html.count("points for speck over") >= 3
    assert "http://" not in html.replace("http://www.w3.org", "")


def test_lines_of_progress_say_what_is_left(undisturbed: tuple[SweepResult, Path]) -> None:
    result, _ = undisturbed
    row = result.rows[0]
    assert row.measured is not None
    line = step_line(SweepStep(done=3, total=8, row=row, seconds_left=200.0))
    assert line.startswith("3 of 8: opi, T = 2, 3 bits, generic: ")
    assert line.endswith("; about 3 min left")
    assert "left" not in step_line(SweepStep(done=8, total=8, row=row, seconds_left=0.0))
    assert step_line(SweepStep(done=0, total=8, row=None, seconds_left=None)) == ""


def test_images_that_do_not_fit_are_refused_before_anything_is_converted(tmp_path: Path) -> None:
    given = data()
    with pytest.raises(DataError, match="images"):
        sweep(tiny(), given.calibration, np.zeros((4, 1, 5, 5), "f4"), out=tmp_path / "out")
    assert list((tmp_path / "out/conversions").iterdir()) == []


def test_loaders_and_tensors_are_taken_with_their_labels() -> None:
    given = data()
    images = torch.from_numpy(given.images)
    pairs = TensorDataset(images, torch.from_numpy(given.labels))
    options = SweepOptions(time_steps=(2,), bits=("float",), recipes=("opi",))
    calibration = torch.from_numpy(given.calibration)
    (one,) = sweep(tiny(), calibration, DataLoader(pairs, batch_size=7), options=options)
    (other,) = run(options)
    assert one == other


def test_labels_given_apart_are_in_the_order_of_the_data_set() -> None:
    given = data()
    images = TensorDataset(torch.from_numpy(given.images), torch.from_numpy(given.labels))
    options = SweepOptions(time_steps=(2,), bits=("float",), recipes=("opi",))
    (own,) = sweep(tiny(), given.calibration, images, options=options)
    (apart,) = sweep(tiny(), given.calibration, images, given.labels, options)
    (expected,) = run(options)
    assert own == apart == expected


def test_a_limit_takes_images_of_a_data_set_with_their_labels() -> None:
    given = data()
    images = TensorDataset(torch.from_numpy(given.images), torch.from_numpy(given.labels))
    options = SweepOptions(time_steps=(2,), bits=("float",), recipes=("opi",))
    (spread,) = sweep(tiny(), given.calibration, images, options=options, limit=4)
    (first,) = sweep(tiny(), given.calibration, images, given.labels, options, limit=4)
    for row, numbers in ((spread, [0, 10, 20, 30]), (first, [0, 1, 2, 3])):
        taken = given.images[numbers], given.labels[numbers]
        (expected,) = sweep(tiny(), given.calibration, *taken, options)
        assert row == expected


def test_an_input_of_spikes_by_rate_is_swept_at_each_step() -> None:
    given = data()
    options = SweepOptions(time_steps=(4, 8), bits=("float", 8), recipes=("opi",))
    frames = 1 / (1 + np.exp(-given.images))
    swept = SweptModel(model=tiny(), calibration=frames[:24], encoding="rate")
    found = run_sweep(swept, array_samples(frames, given.labels), options, out=None)
    assert [row.error for row in found] == [""] * 4
    assert {row.measured.macs for row in found if row.measured} == {0.0}


def test_a_model_of_several_inputs_takes_an_array_for_each() -> None:
    rng = np.random.default_rng(2)
    arrays = {name: rng.normal(size=(24, 5)).astype(np.float32) for name in ("left", "right")}
    options = SweepOptions(time_steps=(4,), bits=("float", 8), recipes=("opi",))
    found = sweep(_Two().eval(), arrays, arrays, rng.integers(0, 3, 24), options)
    assert [row.error for row in found] == [""] * 2


class _Two(nn.Module):
    """A model of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 6), nn.Linear(5, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        found: Tensor = self.head(torch.relu(self.first(left) + self.second(right)))
        return found


def _never(*arguments: Any) -> Any:
    raise AssertionError("measured again")


def _raising(error: Exception) -> Callable[..., Any]:
    def fail(*arguments: Any, **settings: Any) -> Any:
        raise error

    return fail


def _stopping(after: int) -> Progress:
    """Progress that ends the process, so to speak, when it is called for the n-th time."""
    calls = itertools.count(1)

    def stop(stage: str, done: int, total: int | None) -> None:
        if next(calls) == after:
            raise _Stop

    return stop
