"""Models by name, and weights: found, fitted, and no code run from data."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from icsnn_deploy.conversion.frontend.load_model import load_model, load_weights
from icsnn_deploy.errors import ConversionError, DataError
from tests.support.small_model import Net, Touches, example, zipped

SOURCE = """
import dataclasses
import torch
from torch import nn

@dataclasses.dataclass
class Config:  # looks its own module up
    width: int = 4

class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, Config().width, 3, padding=1)
        self.head = nn.Linear(4 * 16, 3)
    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).flatten(1))

def make(): return Net()
def as_class_text(): return "Net"
def nothing(): return None
def raising(): raise FloatingPointError("out of paint")
def needs_more(width): return Net()
not_callable = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "a_model_of_mine.py"
    path.write_text(SOURCE)
    before = dict(sys.modules)
    yield path
    for name in set(sys.modules) - set(before):
        if "a_model_of_mine" in name or "paint" in name:
            del sys.modules[name]


# By name


def test_a_callable_in_a_file(file: Path) -> None:
    model = load_model(f"{file}:make")
    assert isinstance(model, nn.Module)
    assert not model.training
    assert model(example()).shape == (8, 3)


def test_a_class_in_a_file(file: Path) -> None:
    model = load_model(f"{file}:Net")
    assert type(model).__name__ == "Net"


def test_a_callable_in_a_module(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder counts as a place of modules, as for python -m."""
    monkeypatch.chdir(file.parent)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(file.parent))])
    assert isinstance(load_model("a_model_of_mine:make"), nn.Module)
    assert isinstance(load_model("torch.nn:Flatten"), nn.Flatten)


@pytest.mark.parametrize("name", ["torch", "json", "onnx"])
def test_a_file_does_not_stand_in_for_a_package(tmp_path: Path, name: str) -> None:
    before = sys.modules.get(name)
    (tmp_path / f"{name}.py").write_text("from torch import nn\nmake = nn.Flatten\n")
    assert isinstance(load_model(f"{tmp_path}/{name}.py:make"), nn.Flatten)
    assert sys.modules.get(name) is before
    del sys.modules[f"_icsnn_model_{name}"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "has no callable 'absent'"),
        ("not_callable", "has no callable 'not_callable'"),
        ("raising", "calling it raised FloatingPointError: out of paint"),
        ("needs_more", "calling it raised TypeError: .*'width'"),
        ("nothing", "returned NoneType, an nn.Module is needed"),
        ("as_class_text", "returned str, an nn.Module is needed"),
    ],
)
def test_callables_that_give_no_model(file: Path, name: str, message: str) -> None:
    with pytest.raises(ConversionError, match=message) as caught:
        load_model(f"{file}:{name}")
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("spec", ["", "make", "model.py", ":make", "model.py:", "model.tflite"])
def test_specs_that_name_nothing(spec: str) -> None:
    with pytest.raises(ConversionError, match=r"package\.module:callable"):
        load_model(spec)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise KeyError('paint')", "importing it raised KeyError: 'paint'"),
        ("def make(:", "importing it raised SyntaxError"),
        ("import a_package_without_paint", "No module named 'a_package_without_paint'"),
        ("\0", "importing it raised"),
    ],
)
def test_files_and_modules_that_can_not_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    (tmp_path / "without_paint.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    for spec in (f"{tmp_path}/without_paint.py:make", "without_paint:make"):
        with pytest.raises(ConversionError, match=message):
            load_model(spec)
        sys.modules.pop("without_paint", None)


@pytest.mark.parametrize("spec", ["no.such.module:make", "..x:make", "a..b:make", "a b:make"])
def test_modules_that_are_not_there(spec: str) -> None:
    with pytest.raises(ConversionError, match=r"^module "):
        load_model(spec)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for spec in (f"{tmp_path}/none.py:make", f"{tmp_path}/none.pt2"):
        with pytest.raises(ConversionError, match="no such file"):
            load_model(spec)


def test_our_own_errors_pass_through(tmp_path: Path) -> None:
    source = "from icsnn_deploy.errors import DataError\nraise DataError('no data')"
    (tmp_path / "paint.py").write_text(source)
    with pytest.raises(DataError, match=r"^no data$"):
        load_model(f"{tmp_path}/paint.py:make")


# Weights


def state_of(seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return Net().state_dict()


@pytest.mark.parametrize("layout", ["plain", "nested", "parallel", "nested parallel", "legacy"])
def test_weights(file: Path, tmp_path: Path, layout: str) -> None:
    state = state_of(5)
    value: Any = state
    if "parallel" in layout:
        value = {f"module.{key}": tensor for key, tensor in state.items()}
    if "nested" in layout:
        value = {"epoch": 3, "state_dict": value, "best": 0.5}
    path = tmp_path / "w.pt"
    torch.save(value, path, _use_new_zipfile_serialization=layout != "legacy")
    model = load_model(f"{file}:make", path)
    assert isinstance(model, nn.Module)
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in state.items())


def test_weights_of_another_model_list_every_entry(file: Path, tmp_path: Path) -> None:
    state = state_of(0)
    state["head.weight"] = torch.zeros(3, 9)
    state["stem.weight"] = state.pop("conv.weight")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(DataError) as caught:
        load_model(f"{file}:make", tmp_path / "w.pt")
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/w.pt: does not fit {file}:make, 3 entries:",
        "  missing conv.weight",
        "  not in the model: stem.weight",
        "  head.weight: shape [3, 9], the model has [3, 64]",
    ]


def test_a_long_list_is_cut(file: Path, tmp_path: Path) -> None:
    torch.save({f"other.{n}": torch.zeros(1) for n in range(50)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match="54 entries") as caught:
        load_model(f"{file}:make", tmp_path / "w.pt")
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1]) == (22, "  ...")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "holds a dict"),
        ([torch.zeros(1)], "holds a list"),
        (torch.zeros(1), "holds a Tensor"),
        ({"epoch": 1, "lr": 0.1}, "entry 'epoch' is no tensor"),
        ({"state_dict": {}}, "holds a dict"),
        ({"state_dict": {"a": [1]}}, "entry 'a' is no tensor"),
    ],
)
def test_checkpoints_without_a_state_dict(tmp_path: Path, value: Any, message: str) -> None:
    torch.save(value, tmp_path / "w.pt")
    with pytest.raises(DataError, match=f"{message}.*a state dict is needed"):
        load_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("form", ["pickle", "torch", "legacy torch", "inside a state dict"])
def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, form: str) -> None:
    touched, path = tmp_path / "touched", tmp_path / "w.pt"
    trap = Touches(touched)
    if form == "pickle":
        path.write_bytes(pickle.dumps({"conv.weight": trap}, protocol=2))
    else:
        value = {**state_of(0), "extra": trap} if form == "inside a state dict" else trap
        torch.save(value, path, _use_new_zipfile_serialization=form != "legacy torch")
    with pytest.raises(DataError, match="could run code") as caught:
        load_weights(path)
    assert "torch.save(model.state_dict(), path)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not touched.exists()
    if form != "pickle":
        torch.load(path, weights_only=False)  # the trap does work
        assert touched.exists()


def test_weights_are_read_before_the_model_is_made(tmp_path: Path) -> None:
    source = f"open({str(tmp_path / 'made')!r}, 'w')\nraise AssertionError"
    (tmp_path / "m.py").write_text(f"def make():\n    {source.splitlines()[0]}\n")
    (tmp_path / "w.pt").write_bytes(b"damaged")
    with pytest.raises(DataError):
        load_model(f"{tmp_path}/m.py:make", tmp_path / "w.pt")
    assert not (tmp_path / "made").exists()


def test_damaged_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    zipped_data = zipped(state_of(0))
    torch.save(state_of(0), path, _use_new_zipfile_serialization=False)
    legacy = path.read_bytes()
    cases = [b"", b"\0" * 50, b"PK\x03\x04" + bytes(50), b"text, no checkpoint"]
    for data in (zipped_data, legacy):
        cases += [data[:length] for length in range(1, len(data), len(data) // 12)]
    for data in cases:
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"w\.pt") as caught:
            load_weights(path)
        assert "\n" not in str(caught.value)


def test_no_checkpoint(file: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "none.pt", tmp_path):
        with pytest.raises(DataError, match="no such file"):
            load_model(f"{file}:make", path)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def eval(self): raise SystemExit", r"the model that it returned ended the program"),
        ("__class__ = property(lambda self: nn.ReLU)", "whose __class__ is another"),
        ("__class__ = property(lambda self: 1 / 0)", "raised ZeroDivisionError"),
        ("def state_dict(self): raise KeyError(3)", "raised KeyError: 3"),
    ],
)
def test_a_class_that_does_what_no_model_should(tmp_path: Path, body: str, message: str) -> None:
    text = f"from torch import nn\nclass model(nn.Linear):\n    {body}\n"
    text += "    def __init__(self): super().__init__(2, 2)\n"
    (tmp_path / "m.py").write_text(text)
    weights = tmp_path / "w.pt"
    torch.save(nn.Linear(2, 2).state_dict(), weights)
    with pytest.raises(ConversionError, match=message):
        load_model(f"{tmp_path}/m.py:model", weights)


@pytest.mark.parametrize("kind", ["sparse", "nested", "quantized", "meta", "complex", "declares"])
def test_tensors_that_no_weight_can_be(tmp_path: Path, kind: str) -> None:
    tensor = torch.ones(2, 2)
    odd = {
        "sparse": tensor.to_sparse(),
        "nested": torch.nested.nested_tensor([tensor, tensor[:1]]),
        "quantized": torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        "meta": tensor.to("meta"),
        "complex": tensor.to(torch.complex64),
        "declares": torch.ones(1, 1).expand(2**20, 2**20),
    }[kind]
    torch.save({"weight": odd, "bias": torch.ones(2)}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=f"weight.* {kind}|weight.*{kind}"):
        load_weights(tmp_path / "w.pt")
