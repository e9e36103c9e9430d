"""What max pooling costs is reported; average pooling in its place only on request, as a loss."""

from __future__ import annotations

import json
import math
from dataclasses import replace
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
from icsnn_deploy.conversion.calibration.method import Method
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.calibration.threshold_rules import MaxThreshold
from icsnn_deploy.conversion.calibration.v_init_rules import Half
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.frontend.max_pool_cost import (
    REPLACED,
    losses,
    max_pool_costs,
)
from icsnn_deploy.conversion.frontend.trace import trace, trace_exported
from icsnn_deploy.errors import ConversionError, UnsupportedOperatorError
from icsnn_deploy.graph.nodes import AvgPool, Relu
from tests.support.traced import Body, images

RECIPE = Recipe(
    name="one", time_steps=2, methods=(Method(threshold=MaxThreshold(), v_init=Half()),)
)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(4 * 9, 5)).eval()


def test_the_cost_is_reported_and_recorded() -> None:
    conversion = convert(model(), images(4, 3, 6, 6).numpy(), RECIPE)
    (cost,) = conversion.report.max_pools
    # Three neurons an output, and one that relays it to the fully connected layer.
    assert (cost.name, cost.populations, cost.neurons) == ("2", 3, 4 * 4 * 9)
    assert max_pool_costs(conversion.network) == (cost,)
    assert conversion.report.to_json()["max_pools"][0]["neurons"] == 144
    assert conversion.report.losses == ()
    rectifiers = conversion.ann.nodes_of(Relu)[1:]
    assert sum(math.prod(conversion.ann.shape(r.name)) for r in rectifiers) == 144


@pytest.mark.parametrize("second", [nn.AdaptiveMaxPool2d((4, 4)), nn.MaxPool2d(1)])
def test_a_pooling_that_does_nothing_costs_nothing(second: nn.Module) -> None:
    first = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    x = images(2, 3, 8, 8)
    (cost,) = max_pool_costs(trace(nn.Sequential(*first, second).eval(), x))
    assert (cost,) == max_pool_costs(trace(first.eval(), x))
    assert cost.neurons == 3 * 3 * 4 * 4


def test_the_fully_connected_layer_stays_one() -> None:
    conversion = convert(model(), images(4, 3, 6, 6).numpy(), RECIPE)
    weights = [node for node in conversion.network.nodes if node.kind == "linear"]
    assert len(weights) == 1


def test_average_in_the_place_of_the_maximum() -> None:
    x = images(4, 3, 6, 6)
    conversion = convert(model(), x.numpy(), RECIPE, replace_max_pool="average")
    expected = model()
    expected[2] = nn.AvgPool2d(2)
    np.testing.assert_allclose(
        run_ann(conversion.ann, x.numpy()), expected(x).detach().numpy(), rtol=1e-5, atol=1e-5
    )
    assert conversion.report.max_pools == ()
    (loss,) = conversion.report.losses
    assert loss.startswith("2: max pooling replaced by average pooling")
    assert conversion.network.provenance[REPLACED] == ["2"]
    assert losses(conversion.network) == (loss,)


def test_the_model_itself_is_not_changed() -> None:
    original = model()
    trace(original, images(2, 3, 6, 6), replace_max_pool="average")
    assert isinstance(original[2], nn.MaxPool2d)


def test_functions_and_exported_programs() -> None:
    def forward(m: Body, x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(m.conv(x), 3, stride=2, padding=1) + torch.max_pool2d(x, 3, 2, 1)

    body, x = Body(forward).eval(), images(2, 3, 6, 6)
    graph = trace(body, x, replace_max_pool="average")
    assert len(graph.nodes_of(AvgPool)) == 2
    assert graph.provenance[REPLACED] == ["max_pool2d", "max_pool2d_1"]
    exported = trace_exported(torch.export.export(body, (x,)), x, replace_max_pool="average")
    assert exported.hash() == graph.hash()
    adaptive = nn.Sequential(nn.AdaptiveMaxPool2d(2)).eval()
    assert trace(adaptive, x, replace_max_pool="average").nodes_of(AvgPool)[0].kernel == (3, 3)


POOLS: dict[str, tuple[nn.Module, tuple[int, int]]] = {
    "windows": (nn.MaxPool2d(3, 2, 1), (3, 3)),
    "adaptive": (nn.AdaptiveMaxPool2d(2), (3, 3)),
    "function": (Body(lambda m, x: F.max_pool2d(x, 2)), (2, 2)),
    "adaptive function": (Body(lambda m, x: F.adaptive_max_pool2d(x, 3)), (2, 2)),
    "values alone": (Body(lambda m, x: F.max_pool2d(x, 3, return_indices=True)[0]), (3, 3)),
}


# A module that asks for indices by name is rejected; of a program's, the values can be taken alone.
FORMS = [(name, form) for name in POOLS for form in ("exported", "decomposed")]
FORMS += [(name, "module") for name in POOLS if name != "values alone"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_no_form_of_max_pooling_is_left(name: str, form: str) -> None:
    pool, kernel = POOLS[name]
    work, x = nn.Sequential(nn.ReLU(), pool).eval(), images(2, 3, 6, 6)
    if form == "module":
        graph = trace(work, x, replace_max_pool="average")
    else:
        program = torch.export.export(work, (x,))
        program = program.run_decompositions() if form == "decomposed" else program
        graph = trace_exported(program, x, replace_max_pool="average")
        assert trace_exported(program, x).max_pools
    assert [node.kernel for node in graph.nodes_of(AvgPool)] == [kernel]
    assert graph.max_pools == {}
    assert len(graph.provenance[REPLACED]) == 1


def test_what_has_no_average_is_listed_with_all_else() -> None:
    layers = (nn.MaxPool2d((2, 1), dilation=2), nn.GELU(), nn.MaxPool2d(3, 2, ceil_mode=True))
    work = nn.Sequential(*layers, Body(lambda m, x: F.max_pool2d(x, 2, 1, 0, 2))).eval()
    with pytest.raises(UnsupportedOperatorError) as caught:
        trace(work, images(2, 3, 24, 24), replace_max_pool="average")
    first, second, third = caught.value.rejections
    assert (first.node, second.node) == ("0", "1")
    for found in (first, third):
        assert "dilation" in found.got
        assert "Convert it exactly, without --replace-maxpool" in found.remedy


@pytest.mark.slow
@pytest.mark.parametrize("decomposed", [False, True])
def test_exported_indices_are_rejected_where_they_are_used(decomposed: bool) -> None:
    def forward(m: Body, x: torch.Tensor) -> torch.Tensor:
        values, indices = F.max_pool2d(F.relu(x), 2, return_indices=True)
        return values + indices.float()

    x = images(2, 3, 6, 6)
    program = torch.export.export(Body(forward).eval(), (x,))
    program = program.run_decompositions() if decomposed else program
    for replacement in (None, "average"):
        with pytest.raises(UnsupportedOperatorError, match="indices"):
            trace_exported(program, x, replace_max_pool=replacement)


def test_an_unknown_replacement() -> None:
    unknown: Any = "mean"
    with pytest.raises(ConversionError, match=r"'mean' \(--replace-maxpool\): average, or"):
        trace(model(), images(2, 3, 6, 6), replace_max_pool=unknown)


def test_provenance_from_elsewhere_is_not_trusted() -> None:
    graph = trace(model(), images(2, 3, 6, 6))
    for said in ("text", 3, {"2": "x"}, {"2": [3, ["x"], "nowhere"]}):
        assert losses(replace(graph, provenance={REPLACED: said})) == ()
    (cost,) = max_pool_costs(replace(graph, max_pools={"2": ("nowhere",)}))
    assert (cost.populations, cost.neurons) == (0, 0)


MODEL = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(16, 5)).eval()
"""


@pytest.mark.parametrize("replacing", [False, True])
def test_the_command_says_what_became_of_them(tmp_path: Path, replacing: bool) -> None:
    (tmp_path / "m.py").write_text(MODEL)
    np.save(tmp_path / "x.npy", images(8, 3, 6, 6).numpy())
    bundle = str(tmp_path / "bundle")
    arguments = ["convert", f"{tmp_path / 'm.py'}:build", "--calibration", str(tmp_path / "x.npy")]
    arguments += ["--recipe", "diehl", "--time-steps", "2", "--out", bundle]
    arguments += ["--replace-maxpool", "average"] if replacing else []
    converted = CliRunner().invoke(app, arguments)
    assert converted.exit_code == 0, converted.output
    inspected = CliRunner().invoke(app, ["inspect", bundle])
    for shown in (converted.stdout, inspected.stdout):
        assert ("LOSS      2: max pooling replaced" in shown) is replacing
        assert ("max pool  1 exact: 64 neurons in 3 populations" in shown) is not replacing
    report = json.loads((tmp_path / "bundle" / "report.json").read_text())
    assert len(report["losses"]) == replacing
