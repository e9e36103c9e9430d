"""Commands on networks with rate-encoded input, and on recordings of events."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.cli.input_arrays import load_calibration
from icsnn_deploy.evaluation.encoded_samples import open_files
from icsnn_deploy.evaluation.recording_samples import open_recordings
from icsnn_deploy.events.binning import EventBinning
from icsnn_deploy.events.recording import read_recording
from icsnn_deploy.graph.inputs import encode_rate

T = 4
MODEL = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d({channels}, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    ).eval()
"""


def succeeded(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def failed(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 2, result.output
    assert result.stderr.count("error:") == 1
    return result.stderr


def model(folder: Path, channels: int = 2) -> str:
    (folder / "net.py").write_text(MODEL.format(channels=channels))
    return f"{folder / 'net.py'}:make"


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.random((20, 2, 6, 6)).astype(np.float32))
    np.save(tmp_path / "y.npy", rng.integers(0, 3, 20))
    return tmp_path / "x.npy"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Three classes of recordings, of 6 x 6 pixels."""
    rng = np.random.default_rng(0)
    for number in range(18):
        folder = tmp_path / "recordings" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        most = {"t": 1000, "x": 6, "y": 6, "p": 2}
        columns: dict[str, Any] = {key: rng.integers(0, end, 60) for key, end in most.items()}
        np.savez(folder / f"{number:02}.npz", **columns)
    return tmp_path / "recordings"


def convert(folder: Path, calibration: Path, *more: object) -> Path:
    out = folder / "float"
    named = ("--calibration", calibration, "--out", out, "--time-steps", T, "--recipe", "fast")
    succeeded("convert", model(folder), *named, *more)
    return out


@pytest.mark.parametrize("seed", [(), ("--rate-seed", 3)])
def test_frames_are_enough_for_every_command(frames: Path, seed: tuple[object, ...]) -> None:
    folder = frames.parent
    made = convert(folder, frames, "--encoding", "rate", *seed)
    integer = folder / "integer"
    succeeded("quantize", made, "--calibration", frames, "--out", integer)
    bundle = open_bundle(integer)
    expected = encode_rate(np.load(frames), T, seed=bundle.rate_seed)
    assert bundle.rate_seed == (3 if seed else None)
    np.testing.assert_array_equal(bundle.samples(), expected[:, :8])
    succeeded("export", integer, "--format", "onnx")
    assert succeeded("verify", integer, "--images", frames)["verdict"] == "pass"
    assert succeeded("verify", integer)["verdict"] == "pass"
    labelled = ("--labels", folder / "y.npy")
    found = succeeded("evaluate", integer, "--images", frames, *labelled)
    np.save(folder / "spikes.npy", expected)
    assert succeeded("evaluate", integer, "--images", folder / "spikes.npy", *labelled) == found
    np.testing.assert_array_equal(open_files(bundle, str(frames)).read(5, 9), expected[:, 5:9])
    assert succeeded("inspect", integer, "--images", frames)["activity"]["samples"] == 20
    checked = CliRunner().invoke(app, ["check", str(integer), "--target", "speck", "--json"])
    misfits = json.loads(checked.stdout)["misfits"]
    assert "analog input" not in {misfit["what"] for misfit in misfits}


def test_pixels_are_encoded_where_mean_and_std_are_given(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3)).astype(np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    options = ("--mean", "0.4,0.5,0.6", "--std", "0.2,0.2,0.2", "--encoding", "rate")
    named = ("--calibration", tmp_path / "x.npy", "--out", tmp_path / "b", "--time-steps", T)
    succeeded("convert", model(tmp_path, 3), *named, *options, "--recipe", "fast")
    read = open_files(open_bundle(tmp_path / "b"), str(tmp_path / "x.npy")).read(0, 20)
    expected = encode_rate(np.moveaxis(pixels, 3, 1).astype(np.float32) / np.float32(255), T)
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("bins", ["duration", "count"])
def test_a_folder_of_recordings_is_enough_for_every_command(recordings: Path, bins: Any) -> None:
    folder = recordings.parent
    shape = ("--event-shape", "2,6,6", "--event-bins", bins)
    made = convert(folder, recordings, "--encoding", "events", *shape)
    integer = folder / "integer"
    succeeded("quantize", made, "--calibration", recordings, "--out", integer)
    bundle = open_bundle(integer)
    assert bundle.event_bins == bins
    assert succeeded("verify", integer, "--images", recordings)["verdict"] == "pass"
    found = succeeded("evaluate", integer, "--images", recordings, "--shard-size", 5)
    assert found["samples"] == 18
    assert found["top1"] is not None  # labels are those of the folders
    limited = succeeded("evaluate", integer, "--images", recordings, "--limit", 6)
    assert limited["samples"] == 6
    opened = open_recordings(bundle, str(recordings))
    assert opened is not None
    read = opened.read(4, 5)[:, 0]
    binning = EventBinning(time_steps=T, shape=(2, 6, 6), bins=bins)
    expected = binning.spikes(read_recording(recordings / "b" / "04.npz"))
    np.testing.assert_array_equal(read, expected)


def test_labels_of_recordings_by_name_are_those_of_their_folders(recordings: Path) -> None:
    out = convert(recordings.parent, recordings, "--encoding", "events", "--event-shape", "2,6,6")
    by_name = recordings.parent / "labels.npy"
    np.save(by_name, np.repeat([0, 1, 2], 6))
    for command in ("evaluate", "verify"):
        named = (command, out, "--images", recordings, "--limit", 11)
        of_folders, of_file = succeeded(*named), succeeded(*named, "--labels", by_name)
        assert of_folders["outputs"] == of_file["outputs"]
        assert of_folders["outputs"]["output"]["top1"] is not None
    np.save(by_name, np.zeros(5, np.int64))
    assert "5 labels for 18 recordings" in failed(*named, "--labels", by_name)


def test_recordings_of_fewer_classes_than_the_network_has_are_refused(recordings: Path) -> None:
    out = convert(recordings.parent, recordings, "--encoding", "events", "--event-shape", "2,6,6")
    shutil.rmtree(recordings / "a")
    error = failed("evaluate", out, "--images", recordings)
    assert "2 classes (b, c), but the network has 3" in error
    succeeded("evaluate", out, "--images", recordings, "--labels", "none")


def test_shapes_and_steps_that_no_memory_holds_are_one_error(recordings: Path) -> None:
    folder = recordings.parent
    events = ("--encoding", "events", "--out", folder / "none", "--event-shape")
    named = ("convert", model(folder), "--calibration", recordings, *events)
    assert "at most 2,147,483,648" in failed(*named, "2,100000,100000")
    assert "at least 1 is needed" in failed(*named, "2,6,6", "--time-steps", 0)


def test_what_does_not_go_together_is_one_error(recordings: Path, frames: Path) -> None:
    folder = recordings.parent
    start = ("convert", model(folder), "--out", folder / "b", "--time-steps", T)
    events = ("--encoding", "events")
    assert "--event-shape C,H,W is needed" in failed(*start, "--calibration", recordings, *events)
    wrong = ("--event-shape", "2,6")
    said = failed(*start, "--calibration", recordings, *events, *wrong)
    assert "three numbers C,H,W" in said
    small = ("--event-shape", "2,5,5")
    said = failed(*start, "--calibration", recordings, *events, *small)
    assert "outside the 5 x 5 pixels" in said
    said = failed(*start, "--calibration", frames, "--event-shape", "2,6,6")
    assert "goes with --encoding events" in said
    np.save(folder / "low.npy", np.load(frames) - 1)
    said = failed(*start, "--calibration", folder / "low.npy", "--encoding", "rate")
    assert "rate encoding takes [0, 1]" in said
    assert not (folder / "b").exists()


def test_recordings_for_a_network_that_takes_none_are_refused_with_what_to_do(
    recordings: Path, frames: Path
) -> None:
    folder = recordings.parent
    named = ("--calibration", recordings, "--out", folder / "b", "--time-steps", T)
    assert "a recording of events (t, x, y, p): convert with --encoding events" in failed(
        "convert", model(folder), *named
    )
    made = convert(folder, frames)
    (folder / "one.raw").write_bytes(b"% evt 2.0\n")
    for images in (recordings, recordings / "a", folder / "one.raw"):
        for command in ("evaluate", "verify", "inspect"):
            message = failed(command, made, "--images", images)
            assert "the network takes samples (direct encoding); convert it with" in message
            assert "a recording of events" in message


def test_arrays_of_four_columns_are_samples_of_four_values(tmp_path: Path) -> None:
    (tmp_path / "vectors").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(tmp_path / "vectors" / f"{name}.npy", rng.random((9, 4), np.float32))
    found = load_calibration(str(tmp_path / "vectors"), None)
    assert isinstance(found, np.ndarray)
    assert found.shape == (18, 4)


def test_an_event_shape_that_the_model_does_not_take_is_named(recordings: Path) -> None:
    folder = recordings.parent
    named = ("--calibration", recordings, "--out", folder / "b", "--time-steps", T)
    for shape in ("1,6,6", "2,9,9"):
        message = failed(
            "convert", model(folder), *named, "--encoding", "events", "--event-shape", shape
        )
        assert f"images [{shape}], as --event-shape says" in message


@pytest.mark.parametrize(
    ("calibration", "message"), [("code.py:make", "a callable"), ("images", "images, but")]
)
def test_other_sources_than_arrays_of_events_are_refused(
    calibration: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"")
    spec = tmp_path / calibration
    named = ("--calibration", spec, "--out", tmp_path / "b", "--time-steps", T)
    found = failed("convert", model(tmp_path), *named, "--encoding", "events")
    assert f"{spec}: {message}" in found
    assert "--encoding events takes spikes [T, N, *shape]" in found


def test_counts_of_events_are_refused_with_the_file_and_what_to_do(recordings: Path) -> None:
    folder = recordings.parent
    made = convert(folder, recordings, "--encoding", "events", "--event-shape", "2,6,6")
    made, float_one = folder / "integer", made
    succeeded("quantize", float_one, "--calibration", recordings, "--out", made)
    counts = np.zeros((T, 5, 2, 6, 6), np.uint8)
    counts[1, 2] = 7
    np.save(folder / "counts.npy", counts)
    for command in ("evaluate", "verify", "inspect"):
        message = failed(command, made, "--images", folder / "counts.npy")
        assert "counts.npy: " in message
        assert "input values 0 to 7" in message
        assert "clip the counts of events to 1" in message
    np.save(folder / "flat.npy", np.zeros(5, np.uint8))
    for command in ("evaluate", "verify", "inspect"):
        assert "flat.npy" in failed(command, made, "--images", folder / "flat.npy")


def test_a_damaged_recording_ends_the_evaluation_with_its_name(recordings: Path) -> None:
    made = convert(recordings.parent, recordings, "--encoding", "events", "--event-shape", "2,6,6")
    path = recordings / "c" / "05.npz"
    columns = dict(np.load(path))
    np.savez(path, **{**columns, "p": columns["p"] + 5})
    assert str(path) in failed("evaluate", made, "--images", recordings)


def test_other_samples_end_the_evaluation_with_the_file_that_holds_them(frames: Path) -> None:
    made = convert(frames.parent, frames, "--encoding", "rate")
    np.save(frames, np.load(frames) * 2)
    said = failed("evaluate", made, "--images", frames)
    assert str(frames) in said
    assert "rate encoding takes [0, 1]" in said


def test_samples_of_code_are_encoded_and_their_labels_used(frames: Path) -> None:
    folder = frames.parent
    made = convert(folder, frames, "--encoding", "rate")
    code = "import numpy as np\n\ndef samples():\n    return np.load({0!r}), np.load({1!r})\n"
    (folder / "own.py").write_text(code.format(str(frames), str(folder / "y.npy")))
    own = f"{folder / 'own.py'}:samples"
    found = succeeded("evaluate", made, "--images", own)
    labelled = ("--images", frames, "--labels", folder / "y.npy")
    assert found == succeeded("evaluate", made, *labelled)
    assert found["top1"] is not None
    succeeded("quantize", made, "--calibration", own, "--out", folder / "a")
    succeeded("quantize", made, "--calibration", frames, "--out", folder / "b")
    assert open_bundle(folder / "a").graph_hash == open_bundle(folder / "b").graph_hash
    assert succeeded("verify", folder / "a", "--images", own)["verdict"] == "pass"
