"""The order of axes is said once, at conversion; after that the shape of the network tells."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import icsnn_deploy as icsnn
from icsnn_deploy.cli import app
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import DataError
from icsnn_deploy.pixels import is_channels_last
from tests.support.sweeping import MODEL

COLORS = Normalization(mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("shape", "normalization", "own", "last"),
    [
        ((9, 4, 5, 3), None, (3, 4, 5), True),
        ((9, 3, 4, 5), None, (3, 4, 5), False),
        ((9, 3, 5, 3), COLORS, (3, 5, 3), False),  # both could be the channels
        ((9, 5, 3, 3), COLORS, (3, 5, 3), True),
        ((9, 3, 3, 3), None, (3, 3, 3), False),  # no shape tells: as the model takes them
        ((9, 8, 6, 3), COLORS, (3, 4, 5), True),  # another size: as of images
        ((9, 7), None, (7,), False),
        ((9, 20, 2), None, (2, 20), True),
    ],
)
def test_the_shape_of_the_network_tells(
    shape: tuple[int, ...], normalization: Normalization | None, own: tuple[int, ...], last: bool
) -> None:
    assert is_channels_last("x", shape, normalization, None, own) is last


def test_what_the_user_says_counts_more() -> None:
    assert is_channels_last("x", (9, 3, 4, 5), None, True, (3, 4, 5))
    assert not is_channels_last("x", (9, 4, 5, 3), None, False, (3, 4, 5))


def test_images_whose_axes_are_all_alike_are_still_asked_for() -> None:
    with pytest.raises(DataError, match="say which"):
        is_channels_last("x", (9, 3, 3, 3), COLORS, None, (3, 3, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of [1, 6, 6], a bundle of it, and samples [N, 6, 6, 1] and [N, 1, 6, 6]."""
    path = tmp_path_factory.mktemp("axes")
    (path / "net.py").write_text(MODEL)
    x = np.random.default_rng(1).normal(size=(24, 1, 6, 6)).astype(np.float32)
    np.save(path / "first.npy", x)
    np.save(path / "last.npy", np.moveaxis(x, 1, 3))
    np.save(path / "labels.npy", np.arange(24) % 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        run("convert net.py:tiny --calibration last.npy --channels-last --recipe opi --out float")
    return path


def run(line: str) -> str:
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 0, f"{line}\n{result.output}"
    return result.output


@pytest.mark.parametrize(
    "command",
    [
        "quantize float --calibration {} --out {}-int8 --json",
        "verify float --images {} --backend torch --json",
        "evaluate float --images {} --labels labels.npy --json",
        "inspect float --images {} --json",
        "split float --host-first-layer --images {} --out {}-split --json",
    ],
    ids=lambda command: command.split()[0],
)
def test_no_command_needs_it_again(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    outputs = []
    for name in ("first.npy", "last.npy"):
        outputs.append(run(command.format(name, "out")).replace(name, "x.npy"))
        for written in folder.glob("out-*"):
            shutil.rmtree(written)
    assert outputs[0] == outputs[1]


def test_python_needs_it_once_as_well(folder: Path) -> None:
    first, last, labels = (np.load(folder / f"{n}.npy") for n in ("first", "last", "labels"))
    bundle = icsnn.open_bundle(folder / "float")
    for found in (
        [icsnn.verify(bundle, ["torch"], x, progress=None).to_json() for x in (first, last)],
        [icsnn.evaluate(bundle, x, labels, progress=None).to_json() for x in (first, last)],
        [icsnn.quantize(bundle, x, progress=None).network.hash() for x in (first, last)],
    ):
        assert found[0] == found[1]
