"""The objects of the API as a person uses them: convert, save, load, predict, verify, evaluate."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import icsnn_deploy as icsnn

X = torch.rand(48, 2, 6, 6, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Work:
    """A small model, converted, and what is right for it."""

    model: nn.Module
    labels: Tensor
    loader: Any
    conversion: Any
    path: Path

    @property
    def expected(self) -> Any:
        """Logits of the converted network on its reference simulator."""
        return icsnn.ReferenceSimulator(self.conversion.network).run(X.numpy()).logits


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)).eval()
    labels = model(X).argmax(1)
    loader = DataLoader(TensorDataset(X, labels), batch_size=16)
    conversion = icsnn.convert(model, loader, icsnn.Recipe(name="opi", time_steps=8))
    path = tmp_path_factory.mktemp("objects") / "bundle"
    conversion.save(path)
    return Work(model, labels, loader, conversion, path)


def test_save_keeps_the_first_calibration_samples(work: Work) -> None:
    samples = icsnn.open_bundle(work.path).samples()
    np.testing.assert_array_equal(samples, X[:8].numpy())


def test_save_takes_tensors_and_none(work: Work, tmp_path: Path) -> None:
    bundle = work.conversion.save(tmp_path / "a", X[8:12])
    np.testing.assert_array_equal(bundle.samples(), X[8:12].numpy())
    assert not work.conversion.save(tmp_path / "b", None).has_samples


def test_a_loaded_network_is_a_module_that_gives_the_logits(work: Work) -> None:
    network = icsnn.load(work.path)
    assert isinstance(network, nn.Module)
    found = network(X)
    assert isinstance(found, Tensor)
    np.testing.assert_allclose(found.numpy(), work.expected, atol=1e-6)
    assert "T = 8" in repr(network)
    assert network.bundle is not None
    assert network.bundle.path == work.path
    assert network.double()(X).dtype == torch.float64
    assert torch.equal(copy.deepcopy(network)(X), network(X))


def test_predict_gives_logits_and_classes_of_any_form(work: Work) -> None:
    for given in (X, X.numpy(), work.loader, (X, work.labels)):
        found = work.conversion.predict(given)
        np.testing.assert_allclose(found.logits, work.expected, atol=1e-6)
        np.testing.assert_array_equal(found.classes, work.expected.argmax(1))
    assert len(work.conversion.predict(work.loader, limit=5)) == 5
    assert "48 samples" in repr(work.conversion.predict(X))


def test_an_integer_network_predicts_in_the_units_of_the_model(work: Work) -> None:
    quantization = icsnn.quantize(work.conversion, work.loader)
    found = quantization.predict(X).logits
    assert found.shape == (48, 3)
    assert np.abs(found - work.model(X).detach().numpy()).max() < 0.1


def test_outputs_without_classes_have_none() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    x = torch.rand(16, 4)
    conversion = icsnn.convert(model, x, icsnn.Recipe(name="opi", time_steps=4), task="regression")
    found = conversion.predict(x)
    assert found.logits.shape == (16, 2)
    with pytest.raises(ValueError, match="numbers, not classes"):
        _ = found.classes


def test_a_module_of_several_inputs_and_outputs_takes_and_gives_names() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.relu(self.a(left) + right)
            return self.b(h), self.b(h * 2)

    x = {"left": torch.rand(16, 4), "right": torch.rand(16, 6)}
    conversion = icsnn.convert(Two().eval(), x, icsnn.Recipe(name="opi", time_steps=4))
    outputs = conversion.module(x)
    assert isinstance(outputs, dict)
    assert [value.shape for value in outputs.values()] == [(16, 3), (16, 3)]
    with pytest.raises(ValueError, match="outputs"):
        _ = conversion.predict(x).logits


@pytest.mark.parametrize("form", ["path", "text", "bundle"])
def test_verify_takes_a_bundle_or_its_path_and_one_name(work: Work, form: str) -> None:
    given: dict[str, Any] = {
        "path": work.path,
        "text": str(work.path),
        "bundle": icsnn.open_bundle(work.path),
    }
    report = icsnn.verify(given[form], "torch")
    assert report.verdict == "pass"
    with pytest.raises(icsnn.BundleError, match="a bundle of type Conversion"):
        icsnn.verify(work.conversion, "torch")


def test_verify_takes_loaders_and_torch_labels_and_says_the_accuracies(work: Work) -> None:
    for report in (
        icsnn.verify(work.path, ["torch"], work.loader),
        icsnn.verify(work.path, ["torch"], X, labels=work.labels),
        icsnn.verify(work.path, ["torch"], X, labels=work.labels.tolist()),
    ):
        assert report.ann_accuracy == 1.0
        assert "accuracy: ANN 100.00%, SNN " in report.summary()


def test_a_backend_that_fails_does_not_hide_the_others(work: Work) -> None:
    names = ["onnxruntime", "torch"]
    with pytest.raises(icsnn.BundleError, match="no onnx export"):
        icsnn.verify(work.path, names)
    report = icsnn.verify(work.path, names, on_error="report")
    assert [c.backend for c in report.comparisons] == ["torch"]
    assert report.verdict == "fail"
    assert "no onnx export" in str(report.errors["onnxruntime"])
    assert "onnxruntime: did not run" in report.summary()
    assert report.to_json()["errors"]["onnxruntime"]["error"] == "BundleError"


def test_evaluate_takes_arrays_tensors_and_loaders(work: Work) -> None:
    accuracies = {
        icsnn.evaluate(work.path, *given).top1
        for given in ((X, work.labels), (X.numpy(), work.labels.numpy()), (work.loader,))
    }
    assert len(accuracies) == 1
    (accuracy,) = accuracies
    assert accuracy is not None
    assert accuracy > 0.8
    found = icsnn.evaluate(work.path, work.loader, limit=10)
    assert found.counts.samples == 10
    assert "10 samples" in repr(found)
    assert "\n" not in repr(found)


def test_evaluate_takes_the_samples_of_the_bundle(work: Work, tmp_path: Path) -> None:
    bundle = icsnn.quantize(work.conversion, X).save(tmp_path / "int8")
    assert bundle.samples().dtype == np.uint8
    assert icsnn.evaluate(bundle, bundle.samples()).counts.samples == 8


def test_labels_beside_the_samples_that_do_not_fit_say_where_they_are_from(work: Work) -> None:
    with pytest.raises(icsnn.DataError, match="they come with the samples"):
        icsnn.verify(work.path, ["torch"], (X, torch.full((48,), 7)))


@pytest.mark.parametrize("form", ["loader", "data set", "array", "batches"])
def test_samples_caps_the_calibration(work: Work, form: str) -> None:
    given: dict[str, Any] = {
        "loader": work.loader,
        "data set": work.loader.dataset,
        "array": X,
        "batches": [X[:16], X[16:]],
    }
    found = icsnn.convert(
        work.model, given[form], icsnn.Recipe(name="opi", time_steps=4), samples=12
    )
    assert found.report.calibration_samples == 12


def test_a_cap_reaches_the_training_too(work: Work) -> None:
    read: list[int] = []

    class Counted(Dataset[Tensor]):
        def __len__(self) -> int:
            return len(X)

        def __getitem__(self, index: int) -> Tensor:
            read.append(index)
            return X[index]

    icsnn.convert(
        work.model,
        Counted(),
        icsnn.Recipe(name="auto", effort="quick", time_steps=2),
        samples=12,
    )
    assert len(set(read)) == 12


def test_mean_and_std_are_numbers_or_sequences() -> None:
    one = icsnn.Normalization(mean=0.5, std=0.25)
    assert one == icsnn.Normalization(mean=(0.5,), std=(0.25,))
    assert hash(icsnn.Normalization(mean=[0.5, 0.4], std=np.array([0.2, 0.2])))
    with pytest.raises(icsnn.DataError, match="a number per channel"):
        icsnn.Normalization(mean="half", std=0.5)  # type: ignore[arg-type]


def test_check_takes_the_name_of_a_target(work: Work) -> None:
    found = icsnn.check(work.conversion.network, "loihi2")
    assert found.needs_narrower_numbers
    with pytest.raises(icsnn.TargetError, match="a network of type Conversion"):
        icsnn.check(work.conversion, "loihi2")


def test_tensors_with_gradients_reach_every_function(work: Work) -> None:
    x = X.clone().requires_grad_()
    network = work.conversion.network
    found = icsnn.ReferenceSimulator(network).run(x)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.logits, work.expected)
    assert "\n" not in repr(found)
    packed = icsnn.pack_inputs(network, {network.input.name: x})  # type: ignore[dict-item]
    np.testing.assert_array_equal(packed, X.numpy())
    assert icsnn.encode_rate(x, 4).shape == (4, *X.shape)  # type: ignore[arg-type]
    assert icsnn.open_backend(work.path, "torch").run(x).logits.shape == (48, 3)  # type: ignore[arg-type]


def test_the_objects_list_their_public_names(work: Work) -> None:
    bundle = icsnn.open_bundle(work.path)
    assert {"save", "predict", "module", "network", "report"} <= set(dir(work.conversion))
    assert {"samples", "network", "exports", "report"} <= set(dir(bundle))
    assert {"predict", "forward", "graph", "bundle"} <= set(dir(icsnn.load(work.path)))


def test_an_ann_is_no_spiking_network(work: Work) -> None:
    with pytest.raises(icsnn.DataError, match="is an ANN"):
        icsnn.SpikingNetwork(work.conversion.ann)
    with pytest.raises(icsnn.DataError, match="of type str"):
        icsnn.SpikingNetwork("build/mynet")  # type: ignore[arg-type]
