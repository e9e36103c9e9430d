"""Commands on samples from user code and image folders: the same figures as from arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.cli.input_arrays import load_inputs
from icsnn_deploy.errors import BundleError
from icsnn_deploy.sources.options import ImageSize
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection, mixed_order

CODE = """
import numpy as np
import torch
from pathlib import Path
from torch import nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(16, 3)
    def forward(self, x):
        return self.head(F.avg_pool2d(F.relu(self.conv(x)), 4).flatten(1))

def make():
    torch.manual_seed(0)
    return Net()

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 3), nn.Linear(6, 3)
    def forward(self, left, right):
        return F.relu(self.one(left)) + F.relu(self.other(right))

held = np.load(Path(__file__).parent / "data.npz")
X, Y = held["images"].transpose(0, 3, 1, 2), held["labels"]

def pixels(): return X, Y
def floats(): return (X / 255).astype(np.float32), Y
def loader(): return [(torch.from_numpy(X[i:i + 5]), Y[i:i + 5]) for i in range(0, 12, 5)]
def named(): return {"x": X}
def endless():
    while True:
        yield X[:4]
        yield X[4:]
def dicts(): return [{"image": X[:8], "label": Y[:8]}, {"image": X[8:], "label": Y[8:]}]
def data_set(): return torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
def nhwc(): return held["images"], Y
def normalized(): return ((X / 255 - 0.4) / 0.3).astype(np.float32)
def soft_labels(): return X, Y / 3
def wrong_labels(): return X, Y + 1
def sides():
    rng = np.random.default_rng(0)
    return {"left": rng.random((9, 4), np.float32), "right": rng.random((9, 6), np.float32)}
"""
MEAN_STD = ("--mean", "0.5,0.4,0.3", "--std", "0.2,0.3,0.25")


class Bench:
    """A folder with code, the same 12 images as arrays and as files, and a bundle."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (12, 8, 8, 3), np.uint8)
        labels = np.arange(12) // 4
        floats = (images / 255).astype(np.float32)
        np.savez(path / "data.npz", images=images, labels=labels, floats=floats)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = path / "images" / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:02}.png")
        (path / "samples_of_cli.py").write_text(CODE)

    def code(self, name: str) -> str:
        return f"{self.path}/samples_of_cli.py:{name}"

    def array(self, name: str) -> str:
        return f"{self.path}/data.npz:{name}"

    def run(self, *arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
        return result.stderr if code else result.stdout

    def convert(self, out: str, calibration: str, *more: str, model: str = "make") -> Path:
        folder = self.path / out
        self.run(
            *("convert", self.code(model), "--calibration", calibration, "--out", str(folder)),
            *("--time-steps", "3", "--recipe", "opi", "--overwrite", *more),
        )
        return folder

    def evaluate(self, images: str, *more: str) -> Any:
        bundle = str(self.path / "bundle")
        return json.loads(self.run("evaluate", bundle, "--images", images, "--json", *more))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    found = Bench(tmp_path_factory.mktemp("bench"))
    found.convert("bundle", found.array("images"), *MEAN_STD)
    return found


def hash_of(bundle: Path) -> str:
    return open_bundle(bundle).graph_hash


@pytest.mark.parametrize(
    ("source", "more"),
    [
        ("pixels", ()),
        ("floats", ()),
        ("loader", ()),
        ("dicts", ("--input-key", "image")),
        ("nhwc", ("--channels-last",)),
        ("nhwc", ()),
    ],
)
def test_convert_gives_the_same_network_from_every_source(
    bench: Bench, source: str, more: tuple[str, ...]
) -> None:
    found = bench.convert(source, bench.code(source), *MEAN_STD, *more)
    assert hash_of(found) == hash_of(bench.path / "bundle")


def test_convert_takes_floats_in_0_to_1_from_a_file(bench: Bench) -> None:
    found = bench.convert("floats", bench.array("floats"), *MEAN_STD, "--channels-last")
    assert hash_of(found) == hash_of(bench.path / "bundle")
    assert open_bundle(found).samples().dtype == np.uint8


def test_calibration_on_a_folder_mixes_its_classes(bench: Bench) -> None:
    found = bench.convert("folder", str(bench.path / "images"), *MEAN_STD)
    images = np.load(bench.path / "data.npz")["images"].transpose(0, 3, 1, 2)
    kept = open_bundle(found).samples()
    np.testing.assert_array_equal(kept, images[mixed_order(12)][: len(kept)])


def test_evaluate_gives_the_same_figures_from_every_source(bench: Bench) -> None:
    expected = bench.evaluate(bench.array("images"), "--labels", bench.array("labels"))
    assert expected["top1"] is not None
    for source, more in [
        (str(bench.path / "images"), ()),
        (bench.code("pixels"), ()),
        (bench.code("floats"), ()),
        (bench.code("loader"), ()),
        (bench.code("nhwc"), ("--channels-last",)),
        (bench.code("dicts"), ("--input-key", "image", "--label-key", "label")),
        (bench.array("floats"), ("--channels-last", "--labels", bench.array("labels"))),
        (bench.code("data_set"), ("--shard-size", "5", "--batch-size", "3")),
    ]:
        found = bench.evaluate(source, *more)
        assert found["top1"] == expected["top1"], source
        assert found["outputs"] == expected["outputs"], source


def test_labels_none_leaves_the_labels_of_a_source_out(bench: Bench) -> None:
    assert bench.evaluate(str(bench.path / "images"), "--labels", "none")["top1"] is None


def test_a_limit_takes_the_labels_of_the_samples_it_takes(bench: Bench) -> None:
    """Labels of a file are those of the whole folder, in its order."""
    images = str(bench.path / "images")
    own = bench.evaluate(images, "--limit", "3")
    given = bench.evaluate(images, "--limit", "3", "--labels", bench.array("labels"))
    assert own == given
    x, y = (np.load(bench.path / "data.npz")[name][[0, 4, 8]] for name in ("images", "labels"))
    np.savez(bench.path / "three.npz", images=x, labels=y)
    three = str(bench.path / "three.npz")
    expected = bench.evaluate(f"{three}:images", "--labels", f"{three}:labels")
    assert own["outputs"] == expected["outputs"]


@pytest.mark.parametrize("name", ["pixels", "named", "loader", "endless"])
def test_a_limit_cuts_the_labels_of_the_first_samples(bench: Bench, name: str) -> None:
    """Of arrays and batches a limit takes the first samples."""
    expected = bench.evaluate(bench.code("pixels"), "--limit", "5")
    given = ("--limit", "5", "--labels", bench.array("labels"))
    assert bench.evaluate(bench.code(name), *given)["outputs"] == expected["outputs"]


@pytest.mark.parametrize(("name", "limit"), [("pixels", "5"), ("loader", "20")])
def test_labels_of_another_number_of_samples_are_refused(
    bench: Bench, name: str, limit: str
) -> None:
    np.save(bench.path / "more.npy", np.zeros(13, np.int64))
    given = ("--limit", limit, "--labels", str(bench.path / "more.npy"))
    found = bench.run(
        "evaluate", str(bench.path / "bundle"), "--images", bench.code(name), *given, code=2
    )
    assert "13 labels" in found


def test_verify_quantize_and_inspect_take_every_source(bench: Bench) -> None:
    bundle, out = str(bench.path / "bundle"), str(bench.path / "int8")
    verified = json.loads(bench.run("verify", bundle, "--images", bench.code("floats"), "--json"))
    plain = ("--images", bench.array("images"), "--labels", bench.array("labels"), "--json")
    assert verified == json.loads(bench.run("verify", bundle, *plain))
    hashes = []
    for source in (bench.array("images"), bench.code("loader"), bench.code("floats")):
        more = ("--calibration", source, "--out", out, "--overwrite")
        bench.run("quantize", bundle, *more)
        hashes.append(hash_of(Path(out)))
    assert len(set(hashes)) == 1
    folder = str(bench.path / "images")
    activity = [
        json.loads(bench.run("inspect", bundle, "--images", images, "--json"))["activity"]
        for images in (bench.array("images"), folder)
    ]
    assert activity[0] == activity[1]


def test_code_gives_the_samples_of_several_inputs(bench: Bench) -> None:
    bundle = bench.convert("two", bench.code("sides"), model="Two")
    found = bench.run("verify", str(bundle), "--images", bench.code("sides"), "--limit", "5")
    assert "every spike equal" in found
    images = ("--images", bench.code("sides"), "--json", "--limit", "4")
    assert json.loads(bench.run("evaluate", str(bundle), *images))["samples"] == 4
    message = bench.run("verify", str(bundle), "--images", bench.code("pixels"), code=2)
    assert "the network takes left, right; give a callable that returns a dict" in message


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (("CODE:normalized",), "floats must be in 0..1, before any normalization"),
        (("CODE:nhwc", "--channels-first"), "leave --channels-first out, which names the other"),
        (("CODE:absent",), "has no callable 'absent'"),
        (("CODE:wrong_labels",), "sample 8 has class 3; 4 of 12 labels are not among"),
        (("CODE:soft_labels",), "or leave them out with --labels none"),
        (("CODE:dicts",), "it holds image, label; name one with --input-key"),
        (("FOLDER", "--crop", "9"), "8 x 8 pixels, smaller than --crop 9,9"),
        (("FOLDER", "--resize", "9"), "samples [3, 9, 9], but the network takes [3, 8, 8]; "),
        (("FOLDER/class0", "--labels", "none", "--input-key", "x"), "--input-key with an image"),
        (("images.txt",), "give FILE.npz:array or FILE.npy, FILE.py:callable"),
        (("DATA:images", "--resize", "8"), "--resize with arrays in files"),
    ],
)
def test_what_evaluate_refuses(bench: Bench, images: tuple[str, ...], message: str) -> None:
    places = {
        "CODE": f"{bench.path}/samples_of_cli.py",
        "FOLDER": f"{bench.path}/images",
        "DATA": f"{bench.path}/data.npz",
    }
    given = list(images)
    for name, place in places.items():
        given[0] = given[0].replace(name, place)
    found = bench.run("evaluate", str(bench.path / "bundle"), "--images", *given, code=2)
    assert message in found
    assert "Traceback" not in found


def test_class_folders_that_are_not_the_networks_classes_are_refused(
    bench: Bench, tmp_path: Path
) -> None:
    for name in ("ape", "bee"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "a.png")
    bundle = str(bench.path / "bundle")
    message = bench.run("evaluate", bundle, "--images", str(tmp_path), code=2)
    assert "2 classes (ape, bee), but the network has 3" in message
    assert bench.run("evaluate", bundle, "--images", str(tmp_path), "--labels", "none")


def test_images_need_the_normalization(bench: Bench) -> None:
    more = ("--out", str(bench.path / "none"), "--time-steps", "3")
    source = ("--calibration", str(bench.path / "images"))
    message = bench.run("convert", bench.code("make"), *source, *more, code=2)
    assert "the network takes no pixels of 8 bits. Convert with --mean and --std" in message


def test_the_size_of_images_is_kept_and_used_by_other_commands(bench: Bench) -> None:
    images, size = str(bench.path / "images"), ("--resize", "10", "--crop", "8")
    kept = bench.convert("sized", images, *MEAN_STD, *size)
    plain = bench.convert("unsized", images, *MEAN_STD)
    assert open_bundle(kept).image_size == ImageSize(resize=10, crop=(8, 8))
    assert open_bundle(plain).image_size is None
    assert "image_size" not in (plain / "manifest.json").read_text()

    def figures(bundle: Path, *more: str) -> Any:
        shown = bench.run("evaluate", str(bundle), "--images", images, "--json", *more)
        return json.loads(shown)["layers"]

    assert figures(kept) == figures(kept, *size)
    assert figures(kept) != figures(kept, "--resize", "8")  # given anew: both of them
    integer = bench.path / "sized_integer"
    bench.run("quantize", str(kept), "--calibration", images, "--out", str(integer))
    assert open_bundle(integer).image_size == open_bundle(kept).image_size
    np.testing.assert_array_equal(
        load_inputs(open_bundle(integer), images), load_inputs(open_bundle(kept), images)
    )
    arrays = bench.array("images")  # which have the size of the network: nothing is resized
    bench.run("verify", str(kept), "--images", arrays)
    bench.run("verify", str(kept), "--images", bench.code("pixels"))


@pytest.mark.parametrize(
    "value",
    [
        {"resize": 0, "crop": None},
        {"resize": None, "crop": None},
        {"resize": [1, 2, 3], "crop": None},
        {"resize": True, "crop": None},
        {"resize": None, "crop": 8},
        {"resize": 99999, "crop": None},
        {"resize": 8},
        "8",
    ],
)
def test_a_damaged_size_of_images_is_one_error(bench: Bench, value: Any) -> None:
    bundle = bench.convert("damaged", bench.array("images"), *MEAN_STD)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "image_size": value}))
    with pytest.raises(BundleError, match="malformed"):
        open_bundle(bundle)


def test_folders_of_array_files_are_taken_by_every_command(bench: Bench) -> None:
    folder = bench.path / "files"
    folder.mkdir()
    with np.load(bench.path / "data.npz") as held:
        images = held["images"]
    for number in range(3):
        np.savez(folder / f"{number}.npz", images=images[4 * number : 4 * number + 4])
        np.save(folder / f"{number}.npy", images[4 * number : 4 * number + 4])
    for spec in (str(folder), f"{folder}:images"):
        bundle = bench.convert("of_files", spec, *MEAN_STD)
        assert hash_of(bundle) == hash_of(bench.path / "bundle")
        whole = load_inputs(open_bundle(bundle), bench.array("images"))
        np.testing.assert_array_equal(load_inputs(open_bundle(bundle), spec), whole)
        few = load_inputs(open_bundle(bundle), spec, Reading(selection=Selection(6)))
        np.testing.assert_array_equal(few, whole[:6])
        for command in ("verify", "inspect", "evaluate"):
            bench.run(command, str(bundle), "--images", spec)
        integer = str(bench.path / "integer_of_files")
        bench.run("quantize", str(bundle), "--calibration", spec, "--out", integer, "--overwrite")
    np.save(folder / "9.npy", images[:, :4])
    message = bench.run("verify", str(bundle), "--images", str(folder), code=2)
    assert "9.npy: uint8 samples [3, 4, 8], but those of the files before it are" in message


def test_arrays_in_folders_of_classes_are_refused_with_where_they_are_taken(bench: Bench) -> None:
    folder = bench.path / "by_class" / "one"
    folder.mkdir(parents=True)
    np.save(folder / "a.npy", np.zeros((2, 8, 8, 3), np.uint8))
    for command in ("evaluate", "verify", "inspect"):
        message = bench.run(
            command, str(bench.path / "bundle"), "--images", str(folder.parent), code=2
        )
        assert "a.npy: an array in a folder of a class" in message
        assert "FOLDER of .npy files or FOLDER:array of .npz files" in message


HYBRID = (*MEAN_STD, "--recipe", "hybrid", "--effort", "quick")


def losses(bundle: Path) -> list[float]:
    candidates = json.loads((bundle / "report.json").read_text())["candidates"]
    return [candidate["loss"] for candidate in candidates]


def test_hybrid_takes_the_same_labels_from_every_source(bench: Bench) -> None:
    labels = ("--calibration-labels", bench.array("labels"))
    named = bench.convert("hybrid", bench.array("images"), *HYBRID, *labels)
    for source, more in (
        ("pixels", ()),
        ("loader", ()),
        ("dicts", ("--input-key", "image", "--label-key", "label")),
    ):
        found = bench.convert(f"hybrid-{source}", bench.code(source), *HYBRID, *more)
        assert hash_of(found) == hash_of(named)
        assert losses(found) == losses(named)
    mixed = bench.convert("hybrid-images", str(bench.path / "images"), *HYBRID)
    assert len(losses(mixed)) == len(losses(named))


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        ("array:images", (), "come without labels; name them with --calibration-labels"),
        ("normalized", (), "gives no labels"),
        ("soft_labels", (), "integers [N] are needed"),
        ("pixels", ("--calibration-labels", "array:labels"), "goes with samples in files of"),
        ("array:images", ("--recipe", "opi", "--calibration-labels", "array:labels"), "only the"),
    ],
)
def test_labels_that_hybrid_cannot_use(
    bench: Bench, source: str, more: tuple[str, ...], message: str
) -> None:
    spec = bench.array("images") if source == "array:images" else bench.code(source)
    given = [bench.array("labels") if word == "array:labels" else word for word in more]
    scale = () if source == "normalized" else MEAN_STD
    found = bench.run(
        *("convert", bench.code("make"), "--calibration", spec, *scale, "--recipe", "hybrid"),
        *("--effort", "quick", "--out", str(bench.path / "refused"), *given),
        code=2,
    )
    assert message in " ".join(found.split())
