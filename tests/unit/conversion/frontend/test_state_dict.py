"""The weights in a checkpoint, as training scripts save them, fit the model."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from icsnn_deploy.conversion.frontend.load_model import load_model, load_weights
from icsnn_deploy.errors import DataError

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU())
        self.head = nn.Linear(3, 2)

class Inside(nn.Module):  # its own submodule has the name of a wrapper
    def __init__(self):
        super().__init__()
        self.module = Net()

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Net()

class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.LazyLinear(2)
"""


def net() -> nn.Module:
    torch.manual_seed(4)
    model = nn.Module()
    model.features = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU())
    model.head = nn.Linear(3, 2)
    return model


STATE = net().state_dict()


def prefixed(prefix: str, state: dict[str, Any] = STATE) -> dict[str, Any]:
    return {prefix + key: value for key, value in state.items()}


def renamed(old: str, new: str) -> dict[str, Any]:
    return {key.replace(old, new): value for key, value in STATE.items()}


CHECKPOINTS: dict[str, tuple[Any, str]] = {
    "plain": (STATE, "Net"),
    "module.": (prefixed("module."), "Net"),
    "model.": (prefixed("model."), "Net"),
    "net.": (prefixed("net."), "Net"),
    "_orig_mod.": (prefixed("_orig_mod."), "Net"),
    "module._orig_mod.": (prefixed("module._orig_mod."), "Net"),
    "a name of their own": (prefixed("student_network."), "Net"),
    "features.module.": (renamed("features.", "features.module."), "Net"),
    "module.features.module.": (
        prefixed("module.", renamed("features.", "features.module.")),
        "Net",
    ),
    "submodule called module": (prefixed("module."), "Inside"),
    "wrapped submodule called module": (prefixed("module.module."), "Inside"),
    "added module.": (STATE, "Inside"),
    "added model.": (STATE, "Model"),
    "another": (prefixed("net."), "Model"),
    "averaged": ({"n_averaged": torch.tensor(3), **prefixed("module.")}, "Net"),
    "net": ({"net": STATE, "acc": 91.5, "epoch": 3}, "Net"),
    "model": ({"model": STATE, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}, "Net"),
    "model_state_dict": ({"model_state_dict": prefixed("module.")}, "Net"),
    "ema": ({"ema": STATE, "updates": 5}, "Net"),
    "params": ({"params": STATE}, "Net"),
    "weights": ({"weights": STATE}, "Net"),
    "nested": ({"checkpoint": 1, "model": {"state_dict": STATE}}, "Net"),
    "beside": ({"epoch": 3, "name": "net", **STATE}, "Net"),
    "counts": (
        {**STATE, "features.0.total_ops": torch.ones(1), "total_params": torch.ones(1)},
        "Net",
    ),
    "without counts": ({k: v for k, v in STATE.items() if "tracked" not in k}, "Net"),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_as_training_scripts_save_them_load(file: Path, name: str) -> None:
    value, model = CHECKPOINTS[name]
    torch.save(value, file.parent / "w.pt")
    loaded = load_model(f"{file}:{model}", file.parent / "w.pt")
    assert isinstance(loaded, nn.Module)
    for key, tensor in loaded.state_dict().items():
        plain = key.removeprefix("module.").removeprefix("model.")
        assert "tracked" in key or torch.equal(tensor, STATE[plain])


def test_of_several_state_dicts_the_one_that_fits_is_taken(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = {"backbone.weight": torch.zeros(2, 2)}
    torch.save({"model": other, "ema": STATE}, file.parent / "w.pt")
    load_model(f"{file}:Net", file.parent / "w.pt")
    averaged = {key: torch.zeros_like(value) for key, value in STATE.items()}
    torch.save({"ema": averaged, "model": STATE}, file.parent / "w.pt")
    with caplog.at_level(logging.WARNING):
        loaded = load_model(f"{file}:Net", file.parent / "w.pt")
    assert isinstance(loaded, nn.Module)
    assert torch.equal(loaded.state_dict()["head.weight"], STATE["head.weight"])
    assert "w.pt: left out the state dict 'ema'" in caplog.text


def test_bookkeeping_is_left_out_with_a_note(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save({**STATE, "features.0.total_ops": torch.ones(1)}, file.parent / "w.pt")
    with caplog.at_level(logging.WARNING):
        load_model(f"{file}:Net", file.parent / "w.pt")
    assert caplog.messages == [f"{file.parent}/w.pt: left out features.0.total_ops"]
    caplog.clear()
    torch.save(STATE, file.parent / "w.pt")
    load_model(f"{file}:Net", file.parent / "w.pt")
    assert not caplog.messages


@pytest.mark.parametrize("prefix", ["", "module.", "model.net."])
def test_what_does_not_fit_is_listed_as_closely_as_a_prefix_allows(file: Path, prefix: str) -> None:
    state = prefixed(prefix)
    state[f"{prefix}tail.weight"] = state.pop(f"{prefix}head.weight")
    torch.save({"state_dict": state}, file.parent / "w.pt")
    with pytest.raises(DataError) as caught:
        load_model(f"{file}:Net", file.parent / "w.pt")
    assert str(caught.value).splitlines()[1:] == [
        "  missing head.weight",
        "  not in the model: tail.weight",
    ]


def test_a_prefix_is_not_cut_where_keys_would_collide(file: Path) -> None:
    torch.save({**STATE, "module.head.weight": torch.zeros(2, 3)}, file.parent / "w.pt")
    with pytest.raises(DataError, match=r"not in the model: module\.head\.weight"):
        load_model(f"{file}:Net", file.parent / "w.pt")


def test_weights_give_a_lazy_layer_its_shape(file: Path) -> None:
    state = {"head.weight": torch.ones(2, 7), "head.bias": torch.zeros(2)}
    torch.save(prefixed("module.", state), file.parent / "w.pt")
    loaded = load_model(f"{file}:Lazy", file.parent / "w.pt")
    assert isinstance(loaded, nn.Module)
    assert loaded.state_dict()["head.weight"].shape == (2, 7)


def test_load_weights_keeps_the_keys_of_the_file(tmp_path: Path) -> None:
    torch.save({"net": prefixed("module.")}, tmp_path / "w.pt")
    assert list(load_weights(tmp_path / "w.pt")) == list(prefixed("module."))


@pytest.mark.parametrize("value", [{"model": {"epoch": 3}}, {"optimizer": {"lr": torch.ones(1)}}])
def test_a_checkpoint_without_weights(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "w.pt")
    with pytest.raises(DataError, match="is no tensor; a state dict is needed"):
        load_weights(tmp_path / "w.pt")
