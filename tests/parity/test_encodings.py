"""Networks on rate-encoded samples and on events, converted, quantized and run from their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters import export_into
from icsnn_deploy.exporters.onnx.contract import OnnxOptions
from icsnn_deploy.graph.inputs import encode_rate
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.parity.golden import FILE, read_golden
from icsnn_deploy.parity.verify import verify

T = 5


class Residual(nn.Module):
    """A padded convolution, a residual join, a pooling and a head on [2, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 * 4 * 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv1(x))  # [B, 6, 8, 8]
        x = torch.relu(self.conv2(x) + x)
        x = nn.functional.avg_pool2d(x, 2)  # [B, 6, 4, 4]
        logits: torch.Tensor = self.head(x.flatten(1))
        return logits


def frames(count: int = 24) -> Array:
    return np.random.default_rng(0).random((count, 2, 8, 8)).astype(np.float32)


def quantized(path: Path, encoding: Any, seed: int | None, *, per_layer: bool = False) -> Bundle:
    x = encode_rate(frames(), T, seed=0) if encoding == "events" else frames()
    recipe = Recipe(name="fast", time_steps=T)
    conversion = convert(Residual().eval(), x, recipe, encoding=encoding, rate_seed=seed)
    bundle = conversion.save(path / "float", x[:, :3] if encoding == "events" else x[:3])
    return quantize(bundle, x, options=LatticeOptions(per_layer=per_layer)).save(path / "integer")


@pytest.mark.parametrize(("encoding", "seed"), [("rate", None), ("rate", 4), ("events", None)])
def test_no_spike_differs_in_any_file(tmp_path: Path, encoding: Any, seed: int | None) -> None:
    bundle = quantized(tmp_path, encoding, seed, per_layer=True)
    network = bundle.network()
    assert (network.input.encoding, network.input.dtype) == (encoding, "uint8")
    assert bundle.rate_seed == seed
    assert bundle.samples().shape == (T, 8, 2, 8, 8)
    x = encode_rate(frames(6), T, seed=seed)
    exported = export_into(bundle, "nir", "nir-portable", "nir-relay", "onnx-step")
    backends = ["torch", "nir", "nir-portable", "nir-relay", "onnxruntime-step"]
    report = verify(exported, backends, x)
    assert [(c.verdict, c.spike_mismatches) for c in report.comparisons] == [("pass", 0)] * 5
    layouts: tuple[Any, ...] = ("unrolled", "folded", "scan")
    for layout in layouts:
        written = export_into(bundle, "onnx", options=(OnnxOptions(layout=layout),))
        (found,) = verify(written, ["onnxruntime"], x).comparisons
        assert (found.verdict, found.spike_mismatches) == ("pass", 0), layout


@pytest.mark.slow
def test_no_spike_differs_on_lava(tmp_path: Path) -> None:
    bundle = quantized(tmp_path, "rate", None)
    report = verify(bundle, ["lava-fixed"], encode_rate(frames(2), T))
    assert [(c.verdict, c.spike_mismatches) for c in report.comparisons] == [("pass", 0)]


def test_golden_spikes_have_the_steps_of_the_input(tmp_path: Path) -> None:
    bundle = quantized(tmp_path, "rate", None)
    inputs, recording = read_golden(bundle.file(FILE), bundle.network())
    assert inputs.shape == (T, 8, 2, 8, 8)
    (found,) = verify(bundle, [], inputs, against=recording).comparisons
    assert found.spike_mismatches == 0


def test_spikes_and_frames_quantize_to_networks_on_the_same_lattice(tmp_path: Path) -> None:
    x = frames()
    conversion = convert(Residual().eval(), x, Recipe(name="fast", time_steps=T), encoding="rate")
    from_frames, from_spikes = quantize(conversion, x), quantize(conversion, encode_rate(x, T))
    assert from_frames.bits == from_spikes.bits
    assert from_frames.samples.shape == from_spikes.samples.shape == (T, 8, 2, 8, 8)


def test_without_an_ann_frames_are_encoded() -> None:
    conversion = convert(
        Residual().eval(), frames(), Recipe(name="fast", time_steps=T), encoding="rate"
    )
    one = quantize(conversion.network, frames())
    other = quantize(conversion.network, encode_rate(frames(), T))
    assert one.network.hash() == other.network.hash()
    np.testing.assert_array_equal(one.samples, other.samples)


def test_netx_refuses_spikes_as_input(tmp_path: Path) -> None:
    bundle = quantized(tmp_path, "rate", None)
    with pytest.raises(ExportError, match="rate encoding"):
        export_into(bundle, "netx")
