"""benchmarks/accuracy.py on a tiny network: what it measures, keeps, refuses and writes."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from icsnn_deploy import Recipe, convert
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.frontend.load_model import load_model
from icsnn_deploy.data import load_array
from icsnn_deploy.errors import DataError, IcsnnError
from icsnn_deploy.sweeping.options import Point
from icsnn_deploy.sweeping.work import Work

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
MODEL = """
import torch
from torch import nn


def tiny():
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False), nn.ReLU(), nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3),
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model
"""


@pytest.fixture(scope="module", autouse=True)
def _benchmarks_importable() -> Iterator[None]:
    """As `python benchmarks/accuracy.py` finds the files beside it."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(1)
    images = rng.normal(size=(40, 1, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "calibration.npz", images=rng.normal(size=(24, 1, 6, 6)).astype("f4"))
    np.savez(tmp_path / "test.npz", images=images, labels=rng.integers(0, 3, 40))
    (tmp_path / "model.py").write_text(MODEL)
    return [
        f"--model={tmp_path}/model.py:tiny",
        f"--calibration={tmp_path}/calibration.npz:images",
        f"--images={tmp_path}/test.npz:images",
        f"--labels={tmp_path}/test.npz:labels",
        "--time-steps=1,2",
        "--recipes=opi,ic-snn",
        f"--out={tmp_path}/out",
    ]


def cells(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "out" / "cells").glob("*.json"))


def rows(tmp_path: Path) -> dict[tuple[str, int], dict[str, str]]:
    with (tmp_path / "out" / "accuracy.csv").open() as file:
        return {(row["recipe"], int(row["T"])): row for row in csv.DictReader(file)}


def test_the_cells_are_what_convert_and_the_simulator_give(
    arguments: list[str], tmp_path: Path
) -> None:
    """opi is converted once, at T = 2, and read after each step; ic-snn once for each T."""
    import accuracy

    accuracy.main([*arguments, "--no-figures"])
    found = rows(tmp_path)
    model = load_model(f"{tmp_path}/model.py:tiny")
    calibration = load_array(f"{tmp_path}/calibration.npz:images")
    images, labels = (load_array(f"{tmp_path}/test.npz:{name}") for name in ("images", "labels"))
    for name in ("opi", "ic-snn"):
        for t in (1, 2):
            graph = convert(model, calibration, Recipe(name=name, time_steps=t)).network
            right = (TorchSimulator(graph).classify(images).argmax(axis=1) == labels).mean()
            assert float(found[name, t]["accuracy"]) == pytest.approx(100 * right, abs=0.005)
            assert found[name, t]["images"] == "40"
    assert {found["opi", t]["converted_at"] for t in (1, 2)} == {"2"}
    assert [found["ic-snn", t]["converted_at"] for t in (1, 2)] == ["1", "2"]
    assert len(cells(tmp_path)) == 3  # opi at T = 2 stands for both


def test_a_second_run_measures_only_what_is_new(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import accuracy

    accuracy.main([*arguments, "--no-figures"])
    written = {path: path.read_bytes() for path in cells(tmp_path)}
    converted = []
    convert_with = Work.convert

    def watched(self: Work, point: Point) -> None:
        converted.append((point.recipe, point.time_steps))
        convert_with(self, point)

    monkeypatch.setattr(Work, "convert", watched)
    accuracy.main([*arguments, "--no-figures"])
    assert converted == []
    accuracy.main([*arguments, "--no-figures", "--recipes=c-snn,opi", "--time-steps=2,3"])
    assert converted == [("opi", 3), ("c-snn", 2), ("c-snn", 3)]
    assert {path: path.read_bytes() for path in written} == written
    # Rows that this run did not measure stay in the table; so does the cell on most images.
    assert {name for name, _ in rows(tmp_path)} == {"c-snn", "ic-snn", "opi"}
    accuracy.main([*arguments, "--no-figures", "--recipes=opi", "--limit=10"])
    assert rows(tmp_path)["opi", 2]["images"] == "40"
    before = (tmp_path / "out/accuracy.csv").read_bytes()
    accuracy.main([*arguments, "--no-figures", "--recipes="])
    assert (tmp_path / "out/accuracy.csv").read_bytes() == before
    converted.clear()
    accuracy.main([*arguments, "--no-figures", "--recipes=ic-snn", "--again"])
    assert converted == [("ic-snn", 1), ("ic-snn", 2)]


def test_a_reading_that_is_a_recipe_is_measured_once(arguments: list[str], tmp_path: Path) -> None:
    import accuracy

    readings = "algorithm-2-mod,compensation-equation,algorithm-2-clamp"
    accuracy.main([*arguments, "--no-figures", f"--recipes=i-snn,opi,{readings}"])
    found = rows(tmp_path)
    for recipe, reading in (("i-snn", "algorithm-2-mod"), ("opi", "compensation-equation")):
        for t in (1, 2):
            assert found[recipe, t] == {**found[reading, t], "recipe": recipe}
    assert len(cells(tmp_path)) == 5  # i-snn and algorithm-2-clamp at both T, opi once
    assert "readings of IC-SNN" in (tmp_path / "out" / "accuracy.md").read_text()


def test_a_damaged_table_is_an_error_that_names_it(arguments: list[str], tmp_path: Path) -> None:
    import accuracy

    accuracy.main([*arguments, "--no-figures", "--recipes=opi", "--time-steps=1"])
    table = tmp_path / "out" / "accuracy.csv"
    table.write_text(table.read_text().replace("images", "pictures"))
    with pytest.raises(DataError, match=r"accuracy\.csv: not a table of this script"):
        accuracy.main([*arguments, "--no-figures", "--recipes=opi", "--time-steps=1"])


def test_a_recipe_on_labels_takes_those_of_the_calibration_samples(
    arguments: list[str], tmp_path: Path
) -> None:
    from accuracy import main

    np.savez(tmp_path / "classes.npz", labels=np.arange(24) % 3)
    given = [*arguments, "--recipes=hybrid:quick", "--time-steps=2", "--no-figures"]
    main([*given, f"--calibration-labels={tmp_path}/classes.npz:labels"])
    assert set(rows(tmp_path)) == {("hybrid:quick", 2)}
    assert "--calibration-labels classes.npz:labels" in (tmp_path / "out/accuracy.md").read_text()
    with pytest.raises(DataError, match="labels"):
        main([*given, "--again"])


def test_which_recipes_depend_on_the_number_of_steps() -> None:
    from accuracy_recipes import PUBLISHED_RECIPES, READINGS, depends_on_steps, recipe_of

    names = (*PUBLISHED_RECIPES, *READINGS)
    independent = {name for name in names if not depends_on_steps(recipe_of(name, 4))}
    assert independent == {"diehl", "robust-norm", "opi", "snn", "compensation-equation"}


def test_recipes_called_independent_give_the_same_network_at_every_step(
    arguments: list[str], tmp_path: Path
) -> None:
    """What lets one long run stand for all shorter ones."""
    from accuracy_recipes import PUBLISHED_RECIPES, READINGS, depends_on_steps, recipe_of

    assert arguments
    model = load_model(f"{tmp_path}/model.py:tiny")
    data = load_array(f"{tmp_path}/calibration.npz:images")
    names = (*PUBLISHED_RECIPES, *READINGS)
    independent = [name for name in names if not depends_on_steps(recipe_of(name, 4))]
    for name in independent:
        short, long = (convert(model, data, recipe_of(name, t)).network for t in (3, 8))
        for one, other in zip(short.nodes, long.nodes, strict=True):
            for field, value in one.arrays().items():
                np.testing.assert_array_equal(value, other.arrays()[field], err_msg=name)


def test_the_document_and_the_figures_are_written(arguments: list[str], tmp_path: Path) -> None:
    import accuracy

    document = tmp_path / "page.md"
    document.write_text("before\n<!-- begin net -->\nlast year's\n<!-- end net -->\nafter\n")
    options = ["--figure-time-steps=2,4", f"--document={document}:net"]
    accuracy.main([*arguments, *options])
    text = document.read_text()
    assert text.startswith("before\n<!-- begin net -->\n")
    assert text.endswith("<!-- end net -->\nafter\n")
    assert "last year" not in text
    assert (tmp_path / "out" / "accuracy.md").read_text().rstrip() in text
    assert str(tmp_path) not in text.replace(f"--model {tmp_path}", "")
    assert "--calibration-samples 24 --limit 40 --published ResNet20 --out out\n" in text
    assert "readings of" not in text  # none was measured
    loss = float(rows(tmp_path)["ic-snn", 2]["loss"])
    assert f"| {loss:.1f} |" in next(line for line in text.splitlines() if "`ic-snn`" in line)
    for name in ("accuracy", "first_spikes", "outputs"):
        picture = (tmp_path / "out" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 10_000
    layers = list((tmp_path / "out" / "layers").glob("*.json"))
    assert len(layers) == 6  # three recipes at two numbers of steps


def test_a_document_without_its_comments_is_left_alone(
    arguments: list[str], tmp_path: Path
) -> None:
    import accuracy

    document = tmp_path / "page.md"
    document.write_text("<!-- end net -->\n<!-- begin net -->\n")
    with pytest.raises(DataError, match=r"page\.md: needs the lines <!-- begin net -->"):
        accuracy.main([*arguments, "--no-figures", f"--document={document}:net"])
    assert document.read_text() == "<!-- end net -->\n<!-- begin net -->\n"


def test_rows_of_auto_name_their_options(arguments: list[str], tmp_path: Path) -> None:
    """A range is one network, read at the steps that it serves."""
    import accuracy

    wanted = ["auto:quick:no-weights", "auto:quick:no-weights:2-3"]
    accuracy.main(
        [*arguments, "--no-figures", f"--recipes={','.join(wanted)}", "--time-steps=1,2,3"]
    )
    found = rows(tmp_path)
    assert {t for name, t in found if name == wanted[0]} == {1, 2, 3}
    assert [found[wanted[0], t]["converted_at"] for t in (1, 2, 3)] == ["1", "2", "3"]
    assert {t for name, t in found if name == wanted[1]} == {2, 3}
    assert {found[wanted[1], t]["converted_at"] for t in (2, 3)} == {"3"}
    with pytest.raises(IcsnnError, match="effort 'hasty'"):
        accuracy.main([*arguments, "--no-figures", "--recipes=auto:hasty"])
