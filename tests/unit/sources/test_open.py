"""Samples by a text: user code, torchvision's data sets, and what each refuses."""

from __future__ import annotations

import pickle
import sys
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from icsnn_deploy.errors import BackendUnavailableError, DataError
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.sources.open import open_source, source_kind
from icsnn_deploy.sources.options import SourceOptions
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection
from icsnn_deploy.sources.source import ArraySource, NamedArrays, Source

CODE = """
import sys
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

X = torch.arange(10.0).reshape(10, 1, 1, 1).expand(10, 3, 4, 5).contiguous()
Y = torch.arange(10) % 3

def array(): return X.numpy()
def tensor(): return X
def double(): return X.double()
def half(): return X.bfloat16()
def pair(): return X, Y
def labels_listed(): return X, Y.tolist()
def loader(): return DataLoader(TensorDataset(X, Y), batch_size=4)
def data_set(): return TensorDataset(X, Y)
def batches(): return [X[:4], X[4:]]
def named(): return {"a": X.numpy(), "b": X.numpy()}
def nhwc(): return X.permute(0, 2, 3, 1)
def dicts():
    for start in range(0, 10, 3):
        yield {"image": X[start:start + 3], "label": Y[start:start + 3], "name": ["?"] * 3}
def dict_items(): return DataLoader([{"image": x, "label": y} for x, y in zip(X, Y)], batch_size=4)
def one_entry(): return [{"image": X}]
def whole_dict(): return {"image": X, "label": Y, "DESCR": "text"}
class Items(IterableDataset):
    def __iter__(self): return iter(zip(X, Y))
def printing():
    print("a word from the data")
    return X

def nothing(): return None
def text(): return "images.npy"
def number(): return 3
def raising(): raise FloatingPointError("out of paint")
def leaving(): sys.exit(3)
def raising_later():
    yield X[:4]
    raise FloatingPointError("out of paint")
class Raising(Dataset):
    def __len__(self): return 8
    def __getitem__(self, number):
        if number == 5:
            raise FloatingPointError("out of paint")
        return X[number]
def in_a_worker():  # as PyTorch raises it
    raise FloatingPointError(
        "Caught FloatingPointError in DataLoader worker process 0.\\nOriginal Traceback (most "
        "recent call last):\\n  File ...\\nFloatingPointError: out of paint\\n"
    )
    yield
def strings(): return ["a", "b"]
def objects(): return np.array([[object()]])
def empty(): return []
def no_samples(): return X[:0]
def vector(): return Y
def two_kinds(): return [X, X[:, :, :2]]
def unequal(): return X, Y[:4]
def two_batches(): return X[:5], X[5:]
def growing(): return [(x[:, : 1 + i % 2], 0) for i, x in enumerate(X)]
class Growing(Dataset):
    def __len__(self): return 4
    def __getitem__(self, number): return X[number][:, :1 + number // 2]
class NoLength(Dataset):
    def __getitem__(self, number): return X[number]
not_callable = 3
"""
COUNTED = np.broadcast_to(np.arange(10.0).reshape(10, 1, 1, 1), (10, 3, 4, 5)).astype(np.float32)
CLASSES = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("code") / "samples_of_mine.py"
    path.write_text(CODE)
    return path


def opened(spec: str, channels: int | None = None, **given: Any) -> Source:
    limit, mixed = given.pop("limit", None), given.pop("mixed", False)
    reading = Reading(
        options=SourceOptions(**given), selection=Selection(limit, mixed), keep_labels=True
    )
    found = open_source(spec, reading, channels=channels)
    assert isinstance(found, Source)
    return found


def whole(spec: str) -> Array:
    """All samples."""
    found = opened(spec)
    return found.read(0, len(found))


def labels_of(source: Source) -> list[Any] | None:
    found = source.labels()
    return None if found is None else found.tolist()


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        *[(name, None) for name in ("array", "tensor", "double", "half", "batches", "one_entry")],
        *[(name, CLASSES) for name in ("pair", "labels_listed", "loader", "data_set", "Items")],
    ],
)
def test_every_form_gives_the_same_samples(file: Path, name: str, labels: Any) -> None:
    found = opened(f"{file}:{name}")
    samples = found.read(0, len(found))
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, COUNTED)
    assert labels_of(found) == labels


@pytest.mark.parametrize("name", ["dicts", "dict_items", "whole_dict"])
def test_dicts_with_a_named_entry(file: Path, name: str) -> None:
    found = opened(f"{file}:{name}", input_key="image", label_key="label")
    np.testing.assert_array_equal(found.read(0, 10), COUNTED)
    assert labels_of(found) == CLASSES
    assert labels_of(opened(f"{file}:{name}", input_key="image")) is None


def test_a_dict_of_arrays_is_one_array_for_each_input(file: Path) -> None:
    found = open_source(f"{file}:named", Reading(selection=Selection(4)), channels=None)
    assert isinstance(found, NamedArrays)
    assert {name: array.shape for name, array in found.arrays.items()} == {
        "a": (4, 3, 4, 5),
        "b": (4, 3, 4, 5),
    }


@pytest.mark.parametrize("name", ["array", "batches", "loader", "Items"])
def test_a_limit_takes_the_first_samples(file: Path, name: str) -> None:
    found = opened(f"{file}:{name}", limit=5)
    np.testing.assert_array_equal(found.read(0, len(found)), COUNTED[:5])


def test_a_limit_is_spread_over_a_data_set(file: Path) -> None:
    found = opened(f"{file}:data_set", limit=4)
    assert found.read(0, 4)[:, 0, 0, 0].tolist() == [0, 2, 5, 7]
    assert labels_of(found) == [CLASSES[i] for i in (0, 2, 5, 7)]
    mixed = opened(f"{file}:data_set", limit=4, mixed=True)
    assert sorted(mixed.read(0, 4)[:, 0, 0, 0]) == [0, 2, 5, 7]


def test_what_user_code_prints_is_no_result(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened(f"{file}:printing")
    assert capsys.readouterr() == ("", "a word from the data\n")


def test_a_module_is_found_in_the_working_folder(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    assert isinstance(opened("samples_of_mine:array"), ArraySource)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "has no callable 'absent'"),
        ("not_callable", "has no callable 'not_callable'"),
        ("nothing", "returned NoneType; a Dataset, a DataLoader"),
        ("text", "returned str; a Dataset, a DataLoader"),
        ("number", "returned int; a Dataset, a DataLoader"),
        (
            "raising",
            r"calling it raised FloatingPointError: out of paint \(samples_of",
        ),
        ("leaving", r"calling it ended the program \(SystemExit: 3\)"),
        (
            "raising_later",
            r"reading entry 1 raised FloatingPointError: out of paint \(samples_of",
        ),
        ("Raising", r"item 5 raised FloatingPointError: out of paint \(samples_of"),
        (
            "in_a_worker",
            r"reading entry 0 raised FloatingPointError: out of paint \(samples_of",
        ),
        ("strings", "a batch of type str: array or tensor"),
        ("objects", "samples of type object"),
        ("empty", "holds no samples"),
        ("no_samples", r"samples of shape \[0, 3, 4, 5\]; \[N, \*shape\] is needed"),
        ("vector", r"samples of shape \[10\]; \[N, \*shape\] is needed"),
        ("two_kinds", r"a batch float32 \[10, 3, 2, 5\] after float32 \[10, 3, 4, 5\]"),
        ("unequal", "one label per sample is needed"),
        ("two_batches", r"may be \(X, y\) or two batches"),
        ("Growing", r"item 2: float32 \[3, 2, 5\], but the first is float32 \[3, 1, 5\]"),
        ("NoLength", "asking for its length raised TypeError"),
        ("dicts", "a batch of type dict: it holds image, label, name; name one with --input-key"),
        ("whole_dict", "of which DESCR is of type str; name the entry"),
    ],
)
def test_what_is_refused_names_the_callable(file: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        whole(f"{file}:{name}")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("dicts", {"input_key": "pixels"}, "without 'pixels': it holds image, label, name"),
        ("loader", {"input_key": "image"}, "--input-key image, which names an entry of a dict"),
        ("array", {"resize": 4}, "--resize with arrays, which takes --channels-last"),
        ("data_set", {"crop": (2, 2)}, "--crop with items that are no images"),
    ],
)
def test_options_that_do_not_fit(file: Path, name: str, given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(f"{file}:{name}", **given)


def test_what_a_text_names(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, name in [("arrays", "a.npy"), ("archives", "a.npz"), ("images", "a.png")]:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).touch()
    (tmp_path / "classes" / "one").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "package").mkdir()
    monkeypatch.chdir(tmp_path)
    expected = {
        "a.npz:images": "arrays",
        "a.npy": "arrays",
        f"{tmp_path}/arrays": "arrays",
        f"{tmp_path}/archives:x": "arrays",
        f"{tmp_path}/images": "images",
        f"{tmp_path}/classes": "images",
        f"{tmp_path}/empty": "empty",
        "package:make": "callable",  # a folder of that name, but no arrays in it
        "archives:x": "arrays",
        f"{file}:make": "callable",
        "none.py:make": "callable",
        "package.module:make": "callable",
        "torchvision:CIFAR10:/data:test": "torchvision",
        **dict.fromkeys(["", ":", "images.txt", "a b:c", "folder/none", "1:2"], "unknown"),
    }
    assert {spec: source_kind(spec) for spec in expected} == expected
    with pytest.raises(DataError, match=r"'images.txt': give FILE.npz:array or FILE.npy, FILE.py"):
        open_source("images.txt", channels=None)
    with pytest.raises(DataError, match=r"empty: the folder holds no images"):
        open_source(f"{tmp_path}/empty", channels=3)


def test_images_need_a_network_of_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"takes no pixels of 8 bits\. Convert with --mean"):
        open_source(str(tmp_path), channels=None)


# torchvision


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Any]:
    """CIFAR10 as its files are, with 6 random images in each."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (6, 3072), np.uint8)
    labels = [3, 1, 4, 1, 5, 9]
    base = tmp_path / datasets.CIFAR10.base_folder
    base.mkdir()
    batch = pickle.dumps({"data": data, "labels": labels})
    (base / "test_batch").write_bytes(batch)
    meta = pickle.dumps({"label_names": [f"class {n}" for n in range(10)]})
    (base / "batches.meta").write_bytes(meta)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", md5(batch).hexdigest()]])
    known = {"filename": "batches.meta", "key": "label_names", "md5": md5(meta).hexdigest()}
    monkeypatch.setattr(datasets.CIFAR10, "meta", known)
    return tmp_path, data.reshape(6, 3, 32, 32)


def test_a_data_set_of_torchvision(cifar: tuple[Path, Any]) -> None:
    root, data = cifar
    found = opened(f"torchvision:CIFAR10:{root}:test", channels=3)
    np.testing.assert_array_equal(found.read(0, 6), data)
    assert labels_of(found) == [3, 1, 4, 1, 5, 9]
    assert found.class_names == tuple(f"class {n}" for n in range(10))
    gray = opened(f"torchvision:CIFAR10:{root}:test", channels=1, resize=16, limit=2)
    assert gray.read(0, 2).shape == (2, 1, 16, 16)


def test_a_damaged_data_set_of_torchvision(cifar: tuple[Path, Any]) -> None:
    root, _ = cifar
    (root / datasets.CIFAR10.base_folder / "test_batch").write_bytes(b"cos\nsystem\n")
    with pytest.raises(DataError, match=r"can't read CIFAR10 in .* Nothing is downloaded"):
        opened(f"torchvision:CIFAR10:{root}:test", channels=3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:CIFAR10", "torchvision:NAME:ROOT:SPLIT is needed"),
        ("torchvision:CIFAR10:ROOT/none:test", "no folder .*none"),
        ("torchvision:CIFAR10:ROOT", "split None; end it with :train or :test"),
        ("torchvision:CIFAR10:ROOT:val", "split 'val'; end it with :train or :test"),
        ("torchvision:CIFAR10:ROOT:test", r"can't read CIFAR10 in .*Nothing is downloaded"),
        ("torchvision:SVHN:ROOT", "SVHN has several splits; name one"),
        ("torchvision:SVHN:ROOT:none", "can't read SVHN"),
        ("torchvision:Cifar10:ROOT:test", "no data set 'Cifar10'.* there are .*CIFAR10"),
        ("torchvision:FakeData:ROOT:test", "no data set 'FakeData' that reads a folder"),
        ("torchvision:EMNIST:ROOT:letters", "EMNIST takes train as well; give a callable"),
        ("torchvision:CocoDetection:ROOT", "CocoDetection takes annFile as well"),
        ("torchvision:SEMEION:ROOT:test", "SEMEION has no splits; leave 'test' out"),
    ],
)
def test_data_sets_of_torchvision_that_are_refused(tmp_path: Path, spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(spec.replace("ROOT", str(tmp_path)), channels=3)
    assert list(tmp_path.iterdir()) == []  # nothing was downloaded


@pytest.mark.parametrize(
    ("missing", "extra"), [("torchvision", "examples"), ("PIL.Image", "images")]
)
def test_a_missing_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(BackendUnavailableError, match=rf"pip install icsnn-deploy\[{extra}\]"):
        opened(f"torchvision:CIFAR10:{tmp_path}:test", channels=3)


@pytest.mark.parametrize("text", ["", "0", "a", "1,2,3", "-4", "99999", "1.5", "\u00b2"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(DataError, match=r"--resize .*: N or H,W is needed"):
        SourceOptions.parse(resize=text)


def test_sizes() -> None:
    assert SourceOptions.parse(resize="256", crop="224").resize == 256
    assert SourceOptions.parse(resize="256", crop="224").crop == (224, 224)
    assert SourceOptions.parse(resize="3,4", crop="1,2") == SourceOptions(
        resize=(3, 4), crop=(1, 2)
    )
