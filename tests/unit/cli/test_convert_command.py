"""icsnn convert: what it takes, what it says and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from icsnn_deploy.bundle.bundle import open_bundle
from tests.support.desk import MEAN, Desk, failed, passed, succeeded


def test_what_loses_less_is_said_at_the_end(place: Desk) -> None:
    printed = succeeded(place.convert("far", "--recipe", "diehl", "--time-steps", "1"))
    assert "to lose less, try recipe auto, or more time steps (2)" in " ".join(printed.split())
    many = ("--recipe", "fast", "--time-steps", "64")
    assert "to lose less" not in succeeded(place.convert("near", *many))


def test_a_former_name_of_a_recipe_makes_the_same_network(place: Desk) -> None:
    succeeded(place.convert("new", "--recipe", "fast"))
    old = place.convert("old", "--recipe", "default")
    assert old.exit_code == 0
    assert old.stderr == "note: recipe default is called fast now\n"
    hashes = {open_bundle(place.path / name).graph_hash for name in ("new", "old")}
    assert len(hashes) == 1


def test_the_network_takes_pixels(finished: Path) -> None:
    """What was converted is the model with its normalization, on uint8 channels first."""
    opened = open_bundle(finished / "bundle")
    images = np.load(finished / "data.npz")["images"]
    assert np.array_equal(opened.samples(), np.moveaxis(images[:8], 3, 1))
    assert opened.network().input.dtype == "uint8"
    assert opened.normalization is not None
    assert opened.normalization.mean == (0.5, 0.4, 0.3)
    assert opened.normalization.std == (0.2, 0.3, 0.25)


def test_convert_as_json(place: Desk) -> None:
    result = json.loads(succeeded(place.convert("bundle", "--json")))
    assert set(result) == {"bundle", "graph_hash", "report"}
    assert result["bundle"] == str(place.path / "bundle")
    assert result["graph_hash"] == open_bundle(place.path / "bundle").graph_hash
    assert (result["report"]["recipe"], result["report"]["time_steps"]) == ("opi", 3)
    assert result["report"]["calibration_samples"] == 12


def test_limit_of_calibration_samples(place: Desk) -> None:
    result = json.loads(succeeded(place.convert("bundle", "--json", "--limit", "5")))
    assert result["report"]["calibration_samples"] == 5
    assert len(open_bundle(place.path / "bundle").samples()) == 5


def test_weights(place: Desk) -> None:
    torch.save({"head.weight": torch.zeros(5, 16)}, place.path / "w.pt")
    message = failed(place.convert("bundle", "--weights", str(place.path / "w.pt")))
    assert "missing conv1.weight" in message
    assert "bundle" not in place.names()


def test_float_samples_without_normalization(place: Desk) -> None:
    out = str(place.path / "bundle")
    succeeded(
        place.run(
            *("convert", f"{place.path}/tiny.py:make", "--out", out, "--recipe", "opi"),
            *("--calibration", f"{place.path}/data.npz:floats", "--time-steps", "2"),
        )
    )
    assert open_bundle(Path(out)).network().input.dtype == "float32"
    assert passed(succeeded(place.run("verify", out)))


def test_float_samples_with_a_gap(place: Desk) -> None:
    gap, out = f"{place.path}/data.npz:gap", str(place.path / "out")
    command = ["convert", f"{place.path}/tiny.py:make", "--calibration", gap, "--out", out]
    assert f"{gap}: nan at [" in failed(place.run(*command))
    floats = f"{place.path}/data.npz:floats"
    succeeded(place.run(*command[:3], floats, "--recipe", "opi", *command[4:]))
    integer = str(place.path / "int8")
    quantize = ["quantize", out, "--out", integer, "--calibration"]
    assert f"{gap}: nan at [" in failed(place.run(*quantize, gap))
    succeeded(place.run(*quantize, floats))
    for used in (out, integer):
        assert f"{gap}: nan at [" in failed(place.run("verify", used, "--images", gap))
        assert f"{gap}: nan at [" in failed(place.run("inspect", used, "--images", gap))


def test_what_the_model_prints_does_not_go_to_standard_output(place: Desk) -> None:
    result = place.convert("bundle", "--json", model="chatty")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["report"]["recipe"] == "opi"
    assert result.stderr == "a word from the model\n"


def test_all_rejections_at_once(place: Desk) -> None:
    message = failed(place.convert("bundle", model="Forbidden"))
    assert message.startswith("3 operators of this model have no integrate-and-fire equivalent")
    for path, kind in [
        ("features.1", "GELU"),
        ("features.2", "LPPool2d"),
        ("features.4", "Sigmoid"),
    ]:
        (line,) = (line for line in message.splitlines() if line.strip().startswith(path))
        assert kind in line
    assert place.names() == {"tiny.py", "data.npz"}


def test_all_rejections_as_json(place: Desk) -> None:
    result = place.convert("bundle", "--json", model="Forbidden")
    assert result.exit_code == 2
    values = json.loads(result.stdout)
    assert set(values) == {"error", "message", "rejections"}
    assert values["error"] == "UnsupportedOperatorError"
    assert [set(r) for r in values["rejections"]] == [{"node", "got", "allowed", "remedy"}] * 3
    assert result.stderr == f"error: {values['message']}\n"
    assert place.names() == {"tiny.py", "data.npz"}


def test_a_vgg16_with_max_pooling(place: Desk) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.savez(place.path / "data.npz", images=images)
    shown = succeeded(place.convert("bundle", model="VGG"))
    # Three neurons an output of every pooling, one more in front of the fully connected layer.
    neurons = sum(3 * 4 * size**2 for size in (16, 8, 4, 2, 1)) + 4
    assert f"max pool  5 exact: {neurons:,} neurons in 11 populations" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "pancakes"], "no recipe 'pancakes'; there are auto, hybrid, fast, diehl"),
        (["--time-steps", "0"], "time_steps 0"),
        (["--time-steps", "\u00b2"], "a number, or the two ends of a range"),
        (["--limit", "0"], "--limit 0: at least 1"),
        (["--limit", "-1"], "--limit -1: at least 1"),
        (["--batch-size", "0"], "batch_size 0"),
        (["--device", "abacus"], "torch device 'abacus'"),
        (["--mean", "0.5"], "mean has 1 and std 3 values"),
        (["--mean", "0.5,0.5", "--std", "1,1"], "with C = 2 channels as mean and std have"),
        (["--mean", "a,b,c"], "comma-separated numbers"),
        (["--std", "0,1,1"], "std > 0"),
        (["--mean", "123.7,116.3,103.5"], "pixels are divided by 255 first"),
        (["--effort", "best"], "go with the recipes auto and hybrid"),
        (["--keep-weights"], "go with the recipes auto and hybrid"),
        (["--seed", "1"], "go with the recipes auto and hybrid"),
        (["--calibration", "data.npz:none"], "no such file"),
        (["--calibration", "images.txt"], r"give FILE.npz:array or FILE.npy"),
        (["--weights", "none.pt"], "none.pt: no such file"),
        (["--activation", "Clip"], "CLASS:BOUND"),
        (["--activation", "Clip:bound:levels:more"], "CLASS:BOUND"),
    ],
)
def test_options_of_convert(place: Desk, options: list[str], message: str) -> None:
    before = place.names()
    assert message in failed(place.convert("bundle", *options))
    assert place.names() == before


def test_mean_and_std_go_together(place: Desk) -> None:
    for option in ("--mean", "--std"):
        result = place.run(
            *("convert", f"{place.path}/tiny.py:make", "--out", str(place.path / "b")),
            *("--calibration", f"{place.path}/data.npz:images", option, MEAN),
        )
        assert "--mean and --std go together" in failed(result)


def test_models_that_are_not_there(place: Desk) -> None:
    assert "has no callable 'other'" in failed(place.convert("bundle", model="other"))
    result = place.run(
        *("convert", f"{place.path}/none.pt2", "--out", str(place.path / "b")),
        *("--calibration", f"{place.path}/data.npz:floats"),
    )
    assert "none.pt2: no such file" in failed(result)
    assert place.names() == {"tiny.py", "data.npz"}


def test_the_bundle_is_kept_unless_told(place: Desk, bundle: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert "--overwrite" in failed(place.convert("bundle"))
    assert failed(place.convert("bundle", "--overwrite", model="Forbidden"))
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    succeeded(place.convert("bundle", "--overwrite", "--limit", "4"))
    assert open_bundle(bundle).exports == {}
    (place.path / "notes").mkdir()
    assert "is not a bundle" in failed(place.convert("notes", "--overwrite"))
