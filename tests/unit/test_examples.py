"""The examples run as they stand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


class TinyCIFAR:
    """As torchvision's CIFAR10: items of a PIL-like image and a class index."""

    def __init__(self, root: str, train: bool, download: bool) -> None:
        self.images = np.random.default_rng(train).integers(0, 256, (1100, 32, 32, 3))

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.images[index].astype(np.uint8), index % 10


@pytest.mark.parametrize(("name", "parameters"), [("resnet20", 269_722), ("vgg16", 14_986_698)])
def test_the_networks_have_their_size(
    name: str, parameters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = getattr(load("cifar_models", monkeypatch), name)()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_cifar10_through_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Few images and one recipe; the rest is the example as it stands."""
    cifar = load("cifar_models", monkeypatch)
    monkeypatch.setattr("torchvision.datasets.CIFAR10", TinyCIFAR)
    example = load("cifar10_workflow", monkeypatch)
    few = example.pixels
    monkeypatch.setattr(
        example, "pixels", lambda root, train, count: few(root, train=train, count=8)
    )
    recipe = example.icsnn.Recipe
    monkeypatch.setattr(
        example.icsnn, "Recipe", lambda name, time_steps: recipe(name="opi", time_steps=2)
    )
    torch.manual_seed(0)
    weights = tmp_path / "weights.pt"
    torch.save(cifar.resnet20().state_dict(), weights)
    example.main("resnet20", str(weights), str(tmp_path / "out"))
    printed = capsys.readouterr().out
    assert "nir: pass" in printed
    assert "SNN accuracy on 8 images" in printed
    assert (tmp_path / "out" / "network.onnx").is_file()
