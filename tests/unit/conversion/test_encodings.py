"""Conversion to networks that take spikes: the ANN runs on frames, the network on their spikes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.backends.reference import ReferenceSimulator, run_ann
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.bundle.manifest import MANIFEST
from icsnn_deploy.conversion.calibration.agreement import AgreementScorer
from icsnn_deploy.conversion.calibration.augmentation import Augmentation
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.distill import DistillOptions, distill
from icsnn_deploy.conversion.calibration.recipe import RECIPES, Recipe
from icsnn_deploy.conversion.calibration.training_batches import DrawnBatches
from icsnn_deploy.conversion.conversion import Conversion
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.frontend.approximate.options import Approximation
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import BundleError, DataError
from icsnn_deploy.graph.encoder import InputEncoder
from icsnn_deploy.graph.inputs import encode_rate
from icsnn_deploy.graph.neuron import Array
from tests.support.traced import small_model

T = 6
RECIPE = Recipe(name="fast", time_steps=T)


def frames(count: int = 16) -> Array:
    return np.random.default_rng(0).random((count, 3, 6, 6)).astype(np.float32)


def events(count: int = 16) -> Array:
    """Spikes [T, N, *shape] of different rates."""
    rng = np.random.default_rng(1)
    return (rng.random((T, count, 3, 6, 6)) < rng.random((count, 3, 6, 6))).astype(np.uint8)


def agreement(result: Conversion, x: Array, spikes: Array) -> float:
    """Share of held-out samples with the ANN's class, by the reference."""
    held_out = result.report.held_out_samples
    wanted = run_ann(result.ann, x[-held_out:]).argmax(axis=1)
    got = ReferenceSimulator(result.network).run(spikes[:, -held_out:]).logits.argmax(axis=1)
    return float((wanted == got).mean())


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "hybrid"])  # needs labels
@pytest.mark.parametrize("encoding", ["rate", "events"])
def test_every_recipe_is_judged_on_spikes(name: str, encoding: Any) -> None:
    spikes = events() if encoding == "events" else encode_rate(frames(), T)
    x = spikes.mean(axis=0, dtype=np.float32) if encoding == "events" else frames()
    given = spikes if encoding == "events" else x
    effort: dict[str, Any] = {"effort": "quick"} if name == "auto" else {}
    recipe = Recipe(name=name, time_steps=T, **effort)
    result = convert(small_model(), given, recipe, encoding=encoding)
    assert result.network.input.encoding == encoding
    assert result.ann.input.encoding == "direct"
    assert result.report.chosen.agreement == agreement(result, x, spikes)


def test_calibration_sees_the_spikes_that_are_drawn() -> None:
    hashes = {
        seed: convert(
            small_model(), frames(), RECIPE, encoding="rate", rate_seed=seed
        ).network.hash()
        for seed in (None, 1, 2)
    }
    again = convert(small_model(), frames(), RECIPE, encoding="rate", rate_seed=1)
    assert again.network.hash() == hashes[1]
    assert len(set(hashes.values())) == 3


def test_distillation_runs_on_spikes() -> None:
    recipe = Recipe(name="robust-norm", time_steps=T)  # far from the ANN
    result = convert(small_model(), events(), recipe, encoding="events")
    encoder = InputEncoder(encoding="events", time_steps=T)
    context = CalibrationContext.of(events(), batch_size=8, encoder=encoder)
    scorer = AgreementScorer(result.ann, context)
    found = distill(
        result.network,
        result.ann,
        context,
        DrawnBatches(context, 16, Augmentation(), 0),
        (T,),
        DistillOptions(iterations=20),
        objective=scorer.objective,
    )
    assert scorer.score(found.network).divergence < scorer.score(result.network).divergence


def test_batches_of_events_are_those_of_the_array() -> None:
    x = events()
    whole = convert(small_model(), x, RECIPE, encoding="events")
    batches = (x[:, start : start + 5] for start in range(0, 16, 5))
    assert convert(small_model(), batches, RECIPE, encoding="events").network.hash() == (
        whole.network.hash()
    )


def test_items_of_a_data_set_of_events_are_samples() -> None:
    x = events(6)
    encoder = InputEncoder(encoding="events", time_steps=T)
    items: Any = torch.from_numpy(np.moveaxis(x, 1, 0).copy())
    data_set: Any = torch.utils.data.TensorDataset(items, torch.arange(6))
    context = CalibrationContext.of(data_set, batch_size=6, encoder=encoder)
    found = np.asarray(context.samples.samples)  # in a mixed order
    assert found.shape == (6, T, 3, 6, 6)
    assert sorted(map(bytes, found)) == sorted(
        bytes(np.ascontiguousarray(x[:, n])) for n in range(6)
    )


def test_a_context_gives_frames_and_inputs() -> None:
    x = events()
    encoder = InputEncoder(encoding="events", time_steps=T)
    context = CalibrationContext.of(x, batch_size=5, encoder=encoder)
    assert len(context) == 16
    parts = list(context.map(lambda start, batch: (start, batch)))
    assert [start for start, _ in parts] == [0, 5, 10, 15]
    mean = x.mean(axis=0, dtype=np.float32)
    np.testing.assert_allclose(np.concatenate([batch for _, batch in parts]), mean, rtol=1e-6)
    taken = list(context.map_inputs(lambda start, batch: batch))
    np.testing.assert_array_equal(np.concatenate(taken, axis=1), x)
    np.testing.assert_array_equal(context.inputs(np.array([2, 7])), x[:, [2, 7]])


def test_pixels_with_a_normalization_are_rates() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 3, 6, 6)).astype(np.uint8)
    normalization = Normalization(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    model = small_model()
    result = convert(model, pixels, RECIPE, normalization=normalization, encoding="rate")
    with torch.no_grad():
        wanted = model(torch.from_numpy(normalization.apply(pixels))).numpy()
    found = run_ann(result.ann, pixels.astype(np.float32) / 255)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    (first,) = result.network.consumers(result.network.input.name)
    assert first.kind == "conv"  # the mean is part of its bias: nothing is added to spikes
    assert result.network.input.dtype == "float32"


@pytest.mark.parametrize("encoding", ["rate", "events"])
def test_smooth_activations_are_fitted_on_frames(encoding: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 8), nn.SiLU(), nn.Linear(8, 3)).eval()
    x = events() if encoding == "events" else frames()
    result = convert(model, x, RECIPE, encoding=encoding, approximate=Approximation())
    taken = x.mean(axis=0, dtype=np.float32) if encoding == "events" else x
    with torch.no_grad():
        wanted = model(torch.from_numpy(taken)).numpy()
    np.testing.assert_allclose(run_ann(result.ann, taken), wanted, atol=0.05)
    assert result.network.input.encoding == encoding


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right, self.head = nn.Linear(4, 8), nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.head(torch.relu(self.left(left) + self.right(right)))
        return hidden


def test_several_inputs_are_encoded_together() -> None:
    rng = np.random.default_rng(0)
    named = {"left": rng.random((12, 4)), "right": rng.random((12, 3))}
    result = convert(TwoInputs().eval(), named, RECIPE, encoding="rate")
    assert result.network.input.encoding == "rate"
    assert [part.name for part in result.network.input.parts] == ["left", "right"]
    with pytest.raises(DataError, match="events for the inputs left, right"):
        convert(TwoInputs().eval(), named, RECIPE, encoding="events")


@pytest.mark.parametrize("seed", [None, 5])
def test_a_bundle_holds_spikes_and_their_seed(tmp_path: Path, seed: int | None) -> None:
    x = frames()
    result = convert(small_model(), x, RECIPE, encoding="rate", rate_seed=seed)
    bundle = open_bundle(result.save(tmp_path / "b", x[:3]).path)
    np.testing.assert_array_equal(bundle.samples(), encode_rate(x[:3], T, seed=seed))
    assert bundle.rate_seed == seed
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    assert ("rate_seed" in manifest) == (seed is not None)
    given = result.save(tmp_path / "c", encode_rate(x[:2], T))
    assert given.samples().shape == (T, 2, 3, 6, 6)


@pytest.mark.parametrize(
    ("key", "value"), [("rate_seed", -1), ("rate_seed", "1"), ("event_bins", "gaps")]
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    result = convert(small_model(), events(), RECIPE, encoding="events")
    result.save(tmp_path / "b", None, event_bins="count")
    assert open_bundle(tmp_path / "b").event_bins == "count"
    path = tmp_path / "b" / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(BundleError, match=key):
        open_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    ("given", "arguments", "message"),
    [
        (frames() - 0.5, {"encoding": "rate"}, r"rate encoding takes \[0, 1\]"),
        (events()[:4], {"encoding": "events"}, "4 steps: events encoding takes spikes"),
        (frames(), {"rate_seed": 1}, "only rate encoding draws spikes"),
        (
            events(),
            {"encoding": "events", "normalization": Normalization(mean=(0.5,), std=(0.5,))},
            "a normalization of pixels with events encoding",
        ),
    ],
)
def test_samples_of_another_encoding_are_refused(
    given: Array, arguments: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        convert(small_model(), given, RECIPE, **arguments)
