"""Smooth activations and products are fitted on request, measured, and then converted exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import nn
from typer.testing import CliRunner

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.cli import app
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.frontend.approximate.knots import asymptote, fit_knots
from icsnn_deploy.conversion.frontend.approximate.loss import APPROXIMATED
from icsnn_deploy.conversion.frontend.approximate.options import Approximation
from icsnn_deploy.conversion.frontend.onnx_model.read import read_onnx
from icsnn_deploy.conversion.frontend.trace import trace, trace_exported
from icsnn_deploy.errors import ConversionError, UnsupportedOperatorError
from icsnn_deploy.exporters import export_into
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import Relu
from icsnn_deploy.lattice.options import LatticeOptions
from icsnn_deploy.lattice.quantize import quantize
from icsnn_deploy.parity.verify import verify
from icsnn_deploy.report.approximation import approximation_lines
from tests.support.traced import Body, Form, images

SMOOTH: dict[str, Any] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "mish": F.mish,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def function(name: str) -> Any:
    return lambda x: SMOOTH[name](torch.from_numpy(np.asarray(x, np.float64))).numpy()


def record(graph: Graph) -> Any:
    return graph.provenance[APPROXIMATED]


def samples(count: int = 64) -> torch.Tensor:
    return images(count, 3, 6, 6)


@pytest.mark.parametrize("name", SMOOTH)
def test_more_knots_fit_better(name: str) -> None:
    values = np.random.default_rng(0).normal(size=1000)
    f = function(name)
    errors = []
    for knots in (3, 8):
        found = fit_knots(f, values, knots)
        assert (np.diff(found.places) > 0).all()
        errors.append(np.sqrt(np.mean((found(values) - f(values)) ** 2)) / f(values).std())
    assert errors[0] < 0.06
    assert errors[1] < 0.02
    assert errors[1] < 0.4 * errors[0]


def test_outer_pieces_have_the_slopes_of_the_asymptotes() -> None:
    values = np.random.default_rng(0).normal(size=4000) * 3
    for name, slopes in {"silu": (0, 1), "tanh": (0, 0), "elu": (0, 1)}.items():
        found = fit_knots(function(name), values, 6)
        assert (found.slopes[0], found.slopes[-1]) == slopes
    assert asymptote(np.square, 1.0) is None
    line = asymptote(function("softsign"), -1.0)
    assert line is not None
    assert (line.slope, line.intercept) == (0, -1)


def test_the_same_samples_give_the_same_fit() -> None:
    model = Body(lambda m, x: m.conv2(F.silu(m.conv(x)))).eval()
    asked = Approximation(knots=4, samples=samples())
    assert (
        trace(model, samples(2), approximate=asked).hash()
        == trace(model, samples(2), approximate=asked).hash()
    )


ONE_TENSOR: dict[str, Form] = {
    "silu in parts": lambda m, x: x * torch.sigmoid(x),
    "swish with a factor": lambda m, x: x * torch.sigmoid(1.7 * x),
    "gelu in parts": lambda m, x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "gelu by tanh in parts": lambda m, x: (
        0.5 * x * (1 + torch.tanh(0.8 * (x + 0.0447 * torch.pow(x, 3))))
    ),
    "mish in parts": lambda m, x: x * torch.tanh(torch.log(1 + torch.exp(x))),
    "hardswish in parts": lambda m, x: x * F.relu6(x + 3) / 6,
    "sigmoid in parts": lambda m, x: 1 / (1 + torch.exp(-x)),
    "square": lambda m, x: x * x,
    "power": lambda m, x: x**2,
}


@pytest.mark.parametrize("name", ONE_TENSOR)
def test_a_function_of_one_tensor_is_one_fit(name: str) -> None:
    body = ONE_TENSOR[name]
    model = Body(lambda m, x: m.conv2(body(m, m.conv(x)))).eval()
    graph = trace(model, samples(2), approximate=Approximation(samples=samples()))
    (fit,) = record(graph)["fits"]
    assert fit["operator"] != "product"
    assert len(fit["knots"]) == 1
    assert len(fit["knots"][0]) == 6
    assert fit["error"] < 0.02
    assert len(graph.nodes_of(Relu)) <= 8


def gated(m: Body, x: torch.Tensor) -> torch.Tensor:
    y = F.silu(m.conv(x))
    gate = torch.sigmoid(m.conv2(F.adaptive_avg_pool2d(y, 1)))
    scores: torch.Tensor = m.conv(y * gate).mean((2, 3))
    return scores


PRODUCTS: dict[str, Form] = {
    "a gate over space": gated,
    "two maps": lambda m, x: m.conv2(m.conv(x) * m.conv2(x)),
    "in place": lambda m, x: m.conv2(m.conv(x).mul_(torch.relu(m.conv2(x)))),
    "one map of attention": lambda m, x: m.conv(x) * F.hardsigmoid(m.conv2(x)[:, :1]),
    "a gated linear unit": lambda m, x: F.glu(torch.cat([m.conv(x), m.conv2(x)], 1), 1),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_is_two_functions(name: str) -> None:
    torch.manual_seed(1)
    model = Body(PRODUCTS[name]).eval()
    graph = trace(model, samples(2), approximate=Approximation(knots=8, samples=samples()))
    fit = next(one for one in record(graph)["fits"] if one["operator"] == "product")
    assert [len(places) for places in fit["knots"]] == [8, 8]
    assert fit["error"] < 0.02


@pytest.mark.parametrize("weight", [0.0, 1e-9])
def test_a_gate_that_is_constant_needs_no_kinks(weight: float) -> None:
    def forward(m: Body, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.conv(x))
        gate = torch.sigmoid(weight * m.conv2(y.mean((2, 3), keepdim=True)))
        return torch.as_tensor(m.conv2(torch.relu(y * gate)))

    graph = trace(Body(forward).eval(), samples(2), approximate=Approximation(samples=samples()))
    (errors,) = record(graph)["outputs"].values()
    assert errors["rms"] < 1e-6


def test_activations_in_place_change_what_is_read_later() -> None:
    def forward(m: Body, x: torch.Tensor) -> torch.Tensor:
        y = m.conv(x)
        F.silu(y, inplace=True)
        return torch.as_tensor(m.conv2(y))

    graph = trace(Body(forward).eval(), samples(2), approximate=Approximation(samples=samples()))
    assert len(record(graph)["fits"]) == 1


def test_the_graph_is_as_far_from_the_model_as_reported() -> None:
    torch.manual_seed(0)
    model, x = Body(gated).eval(), samples()
    graph = trace(model, x[:2], approximate=Approximation(knots=4, samples=x))
    with torch.no_grad():
        expected = model(x).numpy()
    held_out = record(graph)["held_out_samples"]
    given, wanted = run_ann(graph, x.numpy())[-held_out:], expected[-held_out:]
    (reported,) = record(graph)["outputs"].values()
    spread = np.ptp(wanted)
    assert reported["rms"] == pytest.approx(np.sqrt(np.mean((given - wanted) ** 2)) / spread, 0.01)
    assert reported["largest"] == pytest.approx(np.abs(given - wanted).max() / spread, 0.01)


def test_the_fits_see_what_the_fits_before_them_give() -> None:
    """With two knots the first fit is poor, and the second one is made for its results."""
    model = Body(lambda m, x: m.conv2(torch.tanh(3 * torch.tanh(3 * x)))).eval()
    graph = trace(model, samples(2), approximate=Approximation(knots=2, samples=samples()))
    fits = record(graph)["fits"]
    assert [one["operator"] for one in fits] == ["tanh", "tanh"]
    assert all(one["alone"] > 0 for one in fits)


REFUSED: dict[str, Form] = {
    "softmax": lambda m, x: m.conv2(m.conv(x).softmax(1)),
    "layer norm in parts": lambda m, x: x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-5),
    "division": lambda m, x: m.conv(x) / (1 + m.conv2(x).abs()),
    "attention": lambda m, x: torch.bmm(m.conv(x)[:, 0], m.conv2(x)[:, 0]),
    "exp": lambda m, x: m.conv2(torch.exp(x)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_function_of_one_tensor_and_no_product_stays_refused(name: str) -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        trace(Body(REFUSED[name]).eval(), samples(2), approximate=Approximation(samples=samples()))
    assert all("--approximate" not in one.remedy for one in caught.value.rejections)


def test_a_power_for_each_channel_is_refused_as_without_approximation() -> None:
    powers = torch.tensor([2.0, 3.0, 2.0]).reshape(1, 3, 1, 1)
    model = Body(lambda m, x: m.conv2(torch.pow(m.conv(x), powers))).eval()
    with pytest.raises(UnsupportedOperatorError, match="pow"):
        trace(model, samples(2), approximate=Approximation(samples=samples()))


@pytest.mark.parametrize("factor", [lambda y: y, lambda y: torch.sigmoid(y)])
def test_a_product_with_whole_numbers_jumps_and_stays_refused(factor: Any) -> None:
    def forward(m: Body, x: torch.Tensor) -> torch.Tensor:
        y = m.conv(x)
        return torch.as_tensor(m.conv2(factor(y) * (4 * y).to(torch.int64).to(torch.float32)))

    with pytest.raises(UnsupportedOperatorError, match="mul"):
        trace(Body(forward).eval(), samples(2), approximate=Approximation(samples=samples()))


def test_errors_on_the_samples_of_the_fit_are_not_said_to_be_of_held_out_ones() -> None:
    model = Body(lambda m, x: m.conv2(F.silu(m.conv(x)))).eval()
    graph = trace(model, samples(1), approximate=Approximation(samples=samples(1)))
    assert (record(graph)["fit_samples"], record(graph)["held_out_samples"]) == (1, 0)
    (line, _) = approximation_lines(record(graph))
    assert line.endswith("of 1 samples, which the fits saw: there are too few to hold any out")


def test_a_network_with_its_batch_size_inside_is_fitted_without_noise(
    capfd: pytest.CaptureFixture[str],
) -> None:
    model = Body(lambda m, x: F.silu(m.conv(x)).mean((2, 3)).reshape(int(x.shape[0]), -1)).eval()
    trace(model, samples(2), approximate=Approximation(samples=samples()))
    assert "FX-traced" not in capfd.readouterr().err


@pytest.mark.parametrize("form", [lambda m, x: m.conv2(F.gelu(x)), gated])
def test_without_being_asked_it_is_refused_and_the_remedy_converts(form: Form) -> None:
    model = Body(form).eval()
    with pytest.raises(UnsupportedOperatorError) as caught:
        trace(model, samples(2))
    assert all("--approximate" in one.remedy for one in caught.value.rejections)
    trace(model, samples(2), approximate=Approximation())


def test_what_converts_exactly_is_not_approximated() -> None:
    def forward(m: Body, x: torch.Tensor) -> torch.Tensor:
        y = m.conv(x)
        return torch.abs(m.conv2(F.hardtanh(y * (y > 0)) + F.leaky_relu(y)))

    model = Body(forward).eval()
    asked = trace(model, samples(2), approximate=Approximation(samples=samples()))
    assert asked.hash() == trace(model, samples(2)).hash()


def test_a_last_sigmoid_is_left_to_the_host() -> None:
    model = Body(lambda m, x: torch.sigmoid(m.conv2(F.silu(m.conv(x))))).eval()
    graph = trace(model, samples(2), approximate=Approximation(samples=samples()))
    assert [one["operator"] for one in record(graph)["fits"]] == ["silu"]


class Scored(nn.Module):
    """A convolution, SiLU, a gate over space, and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, stride=2)
        self.act = nn.SiLU(inplace=True)
        self.squeeze, self.excite = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 3, 1)
        self.score = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.conv(x))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        scores: torch.Tensor = self.score((x * gate).mean((2, 3)))
        return scores


def scored() -> Scored:
    torch.manual_seed(0)
    return Scored().eval()


DATA = np.random.default_rng(0).normal(size=(16, 2, 5, 5)).astype(np.float32)
RECIPE = Recipe(name="opi", time_steps=2)
KNOTS = Approximation(knots=2)


def test_a_gated_network_is_quantized_and_verified_spike_for_spike(tmp_path: Path) -> None:
    conversion = convert(scored(), DATA, RECIPE, approximate=KNOTS)
    assert [one["name"] for one in conversion.report.approximation["fits"]] == [
        "act",
        "sigmoid",
        "mul",
    ]
    result = quantize(conversion, DATA, options=LatticeOptions(bits=8))
    bundle = result.save(tmp_path / "bundle", DATA[:2])
    for export_format in ("nir", "onnx"):
        bundle = export_into(bundle, export_format)
    report = verify(bundle, ("torch", "onnxruntime", "nir"))
    assert report.verdict == "pass"
    assert [one.spike_mismatches for one in report.comparisons] == [0, 0, 0]
    assert all(one.spikes_compared > 0 for one in report.comparisons)


def test_programs_and_onnx_files_are_approximated_alike(tmp_path: Path) -> None:
    model, x = scored(), torch.from_numpy(DATA)
    asked = Approximation(knots=4, samples=x)
    plain = trace(model, x[:2], approximate=asked)
    program = torch.export.export(model, (x[:2],))
    torch.onnx.export(model, (x[:2],), str(tmp_path / "model.onnx"), dynamo=False)
    of_file = trace(read_onnx(tmp_path / "model.onnx"), x[:2], approximate=asked)
    of_program = trace_exported(program, x[:2], approximate=asked)
    expected = run_ann(plain, DATA[:4])
    for graph in (of_program, of_file):
        assert [one["operator"] for one in record(graph)["fits"]][-1] == "product"
        assert len(graph.nodes_of(Relu)) == len(plain.nodes_of(Relu))
        np.testing.assert_allclose(run_ann(graph, DATA[:4]), expected, atol=2e-3)


def make() -> nn.Module:
    return scored()


def test_the_command_prints_the_errors_and_what_costs_most(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", DATA)
    arguments = ["convert", f"{__name__}:make", "--calibration", str(tmp_path / "data.npy")]
    arguments += ["--recipe", "opi", "--time-steps", "4", "--out", str(tmp_path / "bundle")]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "--approximate" in refused.output
    done = CliRunner().invoke(app, [*arguments, "--approximate", "--knots", "3"])
    assert done.exit_code == 0, done.output
    assert "LOSS      3 calls approximated, as asked" in done.output
    assert "outputs differ from the model by" in done.output
    assert "act (silu):" in done.output
    report = json.loads((tmp_path / "bundle" / "report.json").read_text())
    assert report["approximation"]["knots"] == 3
    assert len(report["approximation"]["fits"]) == 3
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "bundle")])
    assert "3 calls approximated, as asked" in shown.output


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"1 knots.*2 to 64"):
        Approximation(knots=1)
    with pytest.raises(ConversionError, match="approximate=True"):
        trace(scored(), torch.from_numpy(DATA[:2]), approximate=True)  # type: ignore[arg-type]
    np.save(tmp_path / "data.npy", DATA)
    arguments = ["convert", f"{__name__}:make", "--calibration", str(tmp_path / "data.npy")]
    given = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "b"), "--knots", "3"])
    assert given.exit_code != 0
    assert "--knots 3 without --approximate" in given.output


def test_samples_that_are_not_finite_name_the_call() -> None:
    bad = torch.from_numpy(DATA).clone()
    bad[3] = torch.nan
    with pytest.raises(ConversionError, match=r"act \(silu\).*not finite"):
        trace(scored(), torch.from_numpy(DATA[:2]), approximate=Approximation(samples=bad))


def head(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.SiLU(), *layers).eval()


def of_head(model: nn.Module, **more: Any) -> tuple[dict[str, Any], Any, Any]:
    """The record of the output, and the outputs of the fitted model and of the model."""
    x = samples(32)
    graph = trace(model, x[:2], approximate=Approximation(knots=3, samples=x), **more)
    held_out = record(graph)["held_out_samples"]
    with torch.no_grad():
        wanted = model(x[-held_out:]).double().numpy()
    given = run_ann(graph, x[-held_out:].numpy()).reshape(wanted.shape)
    (found,) = record(graph)["outputs"].values()
    return found, given, wanted


def test_outputs_that_are_numbers_have_a_deviation_and_no_class() -> None:
    model = head(nn.Flatten(), nn.Linear(4 * 36, 6), nn.Unflatten(1, (3, 2)))
    found, given, wanted = of_head(model)
    spread = np.mean((wanted - wanted.mean(axis=0)) ** 2)
    assert found["agreement"] is None
    assert found["r2"] == pytest.approx(1 - np.mean((given - wanted) ** 2) / spread, abs=1e-3)


def test_outputs_of_one_class_have_its_share_and_no_deviation() -> None:
    model = head(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    found, given, wanted = of_head(model)
    assert found["agreement"] == pytest.approx(np.mean(given.argmax(1) == wanted.argmax(1)))
    assert "r2" not in found


@pytest.mark.parametrize("ends", [(), (nn.Sigmoid(),)])
def test_single_decisions_agree_where_they_are_on_the_same_side(
    ends: tuple[nn.Module, ...],
) -> None:
    last = nn.Linear(4 * 36, 1)
    body = head(nn.Flatten(), last)
    with torch.no_grad():  # so that both sides occur
        last.bias.sub_(body(samples(32)).median())
    found, given, wanted = of_head(nn.Sequential(*body, *ends).eval())
    side = 0.5 if ends else 0.0
    assert found["agreement"] == pytest.approx(np.mean((given > 0) == (wanted > side)), abs=1e-4)
    assert 0 < np.mean(wanted > side) < 1


def test_a_declared_task_of_numbers_leaves_the_class_out_of_the_report() -> None:
    model = head(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    recipe = Recipe(name="opi", time_steps=4)
    for task, classes in (("classification", True), ("regression", False)):
        result = convert(model, samples(16).numpy(), recipe, approximate=Approximation(), task=task)  # type: ignore[arg-type]
        (found,) = result.report.approximation["outputs"].values()
        assert (found["agreement"] is not None) == classes
        assert result.ann.provenance[APPROXIMATED] == result.report.approximation
        lines = approximation_lines(result.report.approximation)
        assert ("same class" in lines[0]) == classes


def test_numbers_are_reported_with_r2() -> None:
    one = {"rms": 0.01, "largest": 0.1, "agreement": None, "r2": 0.99}
    content = {"outputs": {"y": one}, "fits": [], "held_out_samples": 8}
    (line,) = approximation_lines(content)
    assert line.endswith("largest 10 %), R^2 0.9900 of 8 held-out samples")
