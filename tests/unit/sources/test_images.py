"""Images as pixels: as torchvision's transforms make them, and what is refused by name."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from icsnn_deploy.errors import DataError
from icsnn_deploy.sources.image_folder import open_image_folder
from icsnn_deploy.sources.images import read_image
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.selection import Selection, mixed_order

PLAIN = SourceOptions()


def picture(height: int = 9, width: int = 12, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of 2, 3 and 4 images, of different sizes."""
    root = tmp_path / "images"
    for count, name in enumerate(["ape", "bee", "cat"], start=2):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(9 + number, 12, seed=10 * count + number).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize("size", [(9, 12), (30, 17), (13, 13), (8, 41)])
@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"resize": 7}, [transforms.Resize(7)]),
        ({"resize": (6, 11)}, [transforms.Resize((6, 11))]),
        (
            {"resize": 20, "crop": (15, 14)},
            [transforms.Resize(20), transforms.CenterCrop((15, 14))],
        ),
        ({"crop": (8, 5)}, [transforms.CenterCrop((8, 5))]),
    ],
)
def test_resize_and_crop_are_those_of_torchvision(
    tmp_path: Path, size: tuple[int, int], options: dict[str, Any], steps: list[Any]
) -> None:
    image = picture(*size)
    image.save(tmp_path / "a.png")
    expected = np.asarray(transforms.Compose(steps)(image)).transpose(2, 0, 1)
    found = read_image(tmp_path / "a.png", SourceOptions(**options), 3)
    np.testing.assert_array_equal(found, expected)


def test_the_order_and_the_labels_are_those_of_torchvisions_image_folder(folder: Path) -> None:
    (folder / "bee" / "deeper").mkdir()
    picture(seed=99).save(folder / "bee" / "deeper" / "9.jpg")
    (folder / "notes.txt").write_text("no image")
    theirs = ImageFolder(str(folder), transforms.Resize((8, 8)))
    ours = open_image_folder(str(folder), SourceOptions(resize=(8, 8)), 3)
    expected = [np.asarray(image).transpose(2, 0, 1) for image, _ in theirs]
    np.testing.assert_array_equal(ours.read(0, len(ours)), np.stack(expected))
    labels = ours.labels()
    assert labels is not None
    assert labels.tolist() == theirs.targets
    assert ours.class_names == tuple(theirs.classes)


def test_images_alone_have_no_labels_and_are_sorted(tmp_path: Path) -> None:
    for name in ("b.png", "a.PNG", "c.jpeg"):
        picture(seed=ord(name[0])).save(tmp_path / name)
    found = open_image_folder(str(tmp_path), PLAIN, 3)
    assert found.labels() is None
    first = np.asarray(picture(seed=ord("a"))).transpose(2, 0, 1)
    np.testing.assert_array_equal(found.read(0, 1)[0], first)


def test_a_limit_is_spread_over_the_classes(folder: Path) -> None:
    found = open_image_folder(str(folder), SourceOptions(resize=(4, 4)), 3, Selection(limit=3))
    labels = found.labels()
    assert labels is not None
    assert labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 97, 1000])
def test_a_mixed_order_holds_each_number_once_and_spreads_every_stretch(count: int) -> None:
    order = mixed_order(count)
    assert sorted(order) == list(range(count))
    if count >= 97:
        for start in range(0, count - count // 4, count // 8):
            stretch = sorted(order[start : start + count // 4])
            gaps = np.diff([0, *stretch, count])
            assert max(gaps) <= 12


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("source", ["L", "RGB", "RGBA", "P", "1", "CMYK", "LA"])
def test_images_have_the_channels_of_the_network(
    tmp_path: Path, channels: int, mode: str, source: str
) -> None:
    image = picture().convert(source)
    path = tmp_path / ("a.jpg" if source == "CMYK" else "a.png")
    image.save(path)
    found = read_image(path, PLAIN, channels)
    assert found.shape == (channels, 9, 12)
    with Image.open(path) as again:
        expected = np.asarray(again.convert(mode)).reshape(9, 12, channels)
    np.testing.assert_array_equal(found, expected.transpose(2, 0, 1))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def saved(image: Image.Image, path: Path) -> bytes:
    image.save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "not a readable image"),
        ("text", "not a readable image"),
        ("empty", "not a readable image"),
        ("bomb", "more than 89,478,485 pixels is not decoded"),
        ("half a bomb", "10000 x 10000 pixels; an image of more than 89,478,485"),
        ("no data", "not a readable image"),
        ("gif", "not a readable image"),
        ("deep", "more than 8 bits"),
        ("folder", "no regular file"),
        ("pipe", "no regular file"),
        ("broken link", "no regular file"),
    ],
)
def test_images_that_are_refused_are_named(tmp_path: Path, kind: str, message: str) -> None:
    whole = saved(picture(), tmp_path / "whole.png")
    deep = saved(Image.fromarray(np.zeros((4, 4), np.uint16)), tmp_path / "deep.png")
    content = {
        "truncated": whole[: len(whole) // 2],
        "text": b"not an image",
        "empty": b"",
        "bomb": png(30000, 30000, zlib.compress(bytes(1000))),
        "half a bomb": png(10000, 10000, zlib.compress(bytes(1000))),
        "no data": png(4, 4, b"\0"),
        "gif": saved(picture().convert("P"), tmp_path / "a.gif"),
        "deep": deep,
    }
    path = tmp_path / "bad.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "broken link":
        path.symlink_to(tmp_path / "none.png")
    else:
        path.write_bytes(content[kind])
    with pytest.raises(DataError, match=message) as caught:
        read_image(path, PLAIN, 3)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "WEBP", "PPM"])
def test_mutated_images_are_read_or_are_one_error(tmp_path: Path, form: str) -> None:
    path = tmp_path / "mutated.png"  # the content decides, not the name
    picture(20, 30).save(path, form)
    whole, rng = np.fromfile(path, np.uint8), np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        mutated = whole.copy()
        places = rng.integers(0, min(len(whole), 300), rng.integers(1, 6))
        mutated[places] = rng.integers(0, 256, len(places))
        mutated[: rng.integers(1, len(whole) * 4)].tofile(path)
        message = refusal(path)
        if message is not None:
            assert message.startswith(f"{path}: ")
            assert "\n" not in message
            refused += 1
    assert refused > 10


def refusal(path: Path) -> str | None:
    """Why an image is refused; None if it is read."""
    try:
        pixels = read_image(path, SourceOptions(resize=(8, 8)), 3)
    except DataError as error:
        return str(error)
    assert pixels.shape == (3, 8, 8)
    return None


def test_a_crop_larger_than_the_image_is_refused(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: 12 x 9 pixels, smaller than --crop 10,10"):
        read_image(tmp_path / "a.png", SourceOptions(crop=(10, 10)), 3)


def test_a_network_of_other_channels_takes_no_images(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    with pytest.raises(DataError, match="gray or RGB, but the network takes 4 channels"):
        read_image(tmp_path / "a.png", PLAIN, 4)


def make_mixed(folder: Path) -> None:
    picture().save(folder / "loose.png")


def make_empty_class(folder: Path) -> None:
    (folder / "dog").mkdir()


def make_tiff(folder: Path) -> None:
    picture().save(folder / "ape" / "z.tif")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (make_mixed, r"holds images \(loose\.png\) beside folders \(ape\)"),
        (make_empty_class, r"dog: no images .* each folder is a class"),
        (make_tiff, r"z\.tif: \.tif images are not read"),
    ],
)
def test_folders_that_are_not_clear_are_refused(folder: Path, change: Any, message: str) -> None:
    change(folder)
    with pytest.raises(DataError, match=message):
        open_image_folder(str(folder), SourceOptions(resize=(4, 4)), 3)


def test_images_of_different_sizes_name_the_file(folder: Path) -> None:
    found = open_image_folder(str(folder), PLAIN, 3)
    with pytest.raises(DataError, match=r"ape/1\.png: .* the first is .* give --resize H,W"):
        found.read(0, 2)


def test_images_are_decoded_when_they_are_read(folder: Path) -> None:
    (folder / "cat" / "3.png").write_bytes(b"damaged")
    found = open_image_folder(str(folder), SourceOptions(resize=(4, 4)), 3)
    assert found.read(0, 8).shape == (8, 3, 4, 4)
    with pytest.raises(DataError, match=r"cat/3\.png: not a readable image"):
        found.read(8, 9)
