"""benchmarks/network_coverage.py: what it calls smooth, how it ends children, and its page."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/measurements/coverage.md"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


class Calls(nn.Module):
    """A model that is one function of its inputs."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def smooth(function: Any, *inputs: Tensor) -> list[str]:
    found: list[str] = module("coverage_operators").operators_of(
        Calls(function), inputs or (torch.randn(2, 3, 4, 4),)
    )[0]
    return found


def test_linear_and_piecewise_linear_operators_are_not_smooth() -> None:
    kernel = torch.randn(3, 3, 1, 1)
    for function in (
        lambda x: F.conv2d(x, kernel).relu(),
        lambda x: F.leaky_relu(x, 0.1) + x.abs() - torch.maximum(x, -x),
        lambda x: x * (x > 0),
        lambda x: torch.where(x > 0, x, 0.1 * x),
        lambda x: x * torch.sigmoid(torch.ones(1)),
        lambda x: torch.linalg.vector_norm(x, 1, dim=1),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    ):
        assert smooth(function) == []


def test_smooth_and_multiplicative_operators_are_named() -> None:
    assert smooth(lambda x: F.silu(x) + F.gelu(x)) == ["GELU", "SiLU"]
    assert smooth(lambda x: 2 * (x * x.mean())) == ["product of two tensors"]
    assert smooth(lambda x: 1 + torch.bmm(x[0], x[1])) == ["product of two tensors"]
    assert smooth(lambda x: 2 * (x / x.abs().sum())) == ["division by data"]
    assert smooth(lambda x: 1 + x * (x.flip(2) > 0)) == ["comparison or mask by data"]
    assert smooth(lambda x: 1 + F.instance_norm(x)) == ["normalization by statistics of the sample"]


def test_operators_at_the_end_and_unused_ones_do_not_count() -> None:
    assert smooth(lambda x: torch.softmax(x, 1)) == []
    assert smooth(lambda x: (torch.sigmoid(x).flatten(1), x)) == []
    assert smooth(lambda x: (torch.tanh(x), 2 * x)[1]) == []
    assert smooth(lambda x: torch.softmax(x, 1) + 1) == ["softmax"]
    assert smooth(lambda x: (y := torch.sigmoid(x), y + 1)) == ["sigmoid"]


def test_names_are_unique_and_lists_need_no_library() -> None:
    names = [one.name for one in module("coverage_zoo").architectures()]
    assert len(names) == len(set(names)) >= 300
    assert {name.partition("/")[0] for name in names} == {
        *("torchvision", "timm", "pytorchcv", "smp", "ultralytics", "plain"),
    }


def test_the_same_name_gives_the_same_model_and_statistics() -> None:
    build = module("coverage_build").build
    one = module("coverage_zoo").Architecture(
        name="plain/a", build=lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    )
    first, second = build(one), build(one)
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
    norm = first.model[1]
    assert not norm.training
    assert norm.running_mean.abs().min() > 0
    assert not torch.equal(first.example[0], first.check[0])


def sleep(architecture: Any) -> Iterator[dict[str, Any]]:
    yield {"smooth": ["GELU"]}
    time.sleep(60)


def fill(architecture: Any) -> Iterator[dict[str, Any]]:
    held = torch.ones(3 << 28)  # 3 GiB
    time.sleep(60)
    yield {"status": "converts", "sum": float(held.sum())}


def die(architecture: Any) -> Iterator[dict[str, Any]]:
    raise SystemExit(3)
    yield {}


@pytest.mark.slow
def test_children_end_at_their_limits_and_what_they_found_is_kept(tmp_path: Path) -> None:
    run, zoo = module("coverage_run"), module("coverage_zoo")
    one = zoo.Architecture(name="plain/a", build=nn.Identity)

    def only(work: Any, **limits: float) -> dict[str, Any]:
        (record,) = run.run_all([one], work, run.Limits(**limits), 1, tmp_path)
        return dict(record)

    hanging = only(sleep, seconds=0.05)
    assert hanging["status"] == "limit"
    assert hanging["smooth"] == ["GELU"]
    assert only(fill, gib=2)["error"] == "more than 2 GiB"
    assert "SystemExit: 3" in only(die)["error"]


@pytest.mark.slow
def test_a_small_run_compares_and_deploys_and_writes_a_page(tmp_path: Path) -> None:
    run, zoo, measure = module("coverage_run"), module("coverage_zoo"), module("coverage_measure")
    models = {
        "plain/mlp": nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)),
        "plain/gelu": nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3)),
        "plain/broken": Calls(lambda x: x @ x),
    }
    architectures = [
        zoo.Architecture(name=name, build=lambda m=model: m, inputs=((6,),))
        for name, model in models.items()
    ]
    found = {}
    for stage, work, chosen in (
        ("trace", measure.trace_one, architectures),
        ("approximate", measure.approximate_one, architectures[1:2]),
        ("deploy", measure.deploy_one, architectures[:1]),
    ):
        for record in run.run_all(chosen, work, run.Limits(), 2, tmp_path):
            found[stage, record["name"]] = {"stage": stage, **record}
    mlp, gelu = found["trace", "plain/mlp"], found["trace", "plain/gelu"]
    assert (mlp["status"], mlp["smooth"], mlp["neurons"]) == ("converts", [], 5)
    assert mlp["difference"] < 1e-5
    assert (gelu["status"], gelu["smooth"]) == ("refused", ["GELU"])
    assert found["trace", "plain/broken"]["status"] == "unbuildable"
    deployed = found["deploy", "plain/mlp"]
    assert deployed["status"] == "certified"
    assert deployed["mismatches"] == {"torch": 0, "onnxruntime": 0, "nir": 0}
    fitted = found["approximate", "plain/gelu"]
    assert (fitted["status"], fitted["fits"]) == ("approximated", 1)
    assert 0 < fitted["rms"] < 0.1
    text = module("coverage_page").page(found, architectures)
    assert "| gelu | 6 | smooth: GELU |" in text
    assert f"| 1 fits, {fitted['rms']:.1%} |" in text
    assert "1 of the 1 refused networks were tried" in text
    assert "1 of 1 networks certify and pass" in text
    check_page(text)


def test_a_graph_that_differs_from_its_model_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    measure, zoo = module("coverage_measure"), module("coverage_zoo")
    one = zoo.Architecture(name="plain/a", build=lambda: nn.Linear(6, 3), inputs=((6,),))
    right = measure.ann_graph

    def wrong(model: nn.Module, example: Any) -> Any:
        with torch.no_grad():
            model.bias[0] += 0.01  # type: ignore[operator, index]
        return right(model, example)

    monkeypatch.setattr(measure, "ann_graph", wrong)
    record = {key: value for part in measure.trace_one(one) for key, value in part.items()}
    assert record["status"] == "wrong"
    assert record["difference"] == pytest.approx(0.01, rel=5)


def test_results_survive_a_line_that_was_cut_off(tmp_path: Path) -> None:
    results, path = module("coverage_results"), tmp_path / "run.jsonl"
    results.append(path, {"stage": "trace", "name": "a", "status": "refused"})
    with path.open("a") as file:
        file.write('{"stage": "trace", "na')
    assert set(results.read(path)) == {("trace", "a")}
    results.append(path, {"stage": "deploy", "name": "a", "status": "certified"})
    assert set(results.read(path)) == {("trace", "a"), ("deploy", "a")}


def test_blockers_count_networks_and_those_that_wait_for_one_alone() -> None:
    blockers = module("coverage_blockers")

    def refused(name: str, *got: str) -> dict[str, Any]:
        return {"name": name, "status": "refused", "rejections": [["", g, "", ""] for g in got]}

    ranked = blockers.rank(
        [
            refused("a", "LeakyReLU", "LeakyReLU"),
            refused("b", "LeakyReLU", "ConvTranspose2d"),
            {"name": "c", "status": "converts"},
            {"name": "d", "status": "refused", "error": "the model takes the inputs a, b: exactly"},
        ]
    )
    assert [(one.label, one.networks, one.alone) for one in ranked] == [
        ("LeakyReLU", ("a", "b"), ("a",)),
        ("ConvTranspose", ("b",), ()),
        ("several inputs", ("d",), ("d",)),
    ]


def rows(text: str, heading: str) -> list[list[str]]:
    """Cells of the first table under a heading."""
    section = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines][2:]


def check_page(text: str) -> None:
    """The summary counts the rows below it, and the last row adds up the others."""
    *libraries, total = [
        [row[0], *(int(cell.replace(",", "")) for cell in row[1:])] for row in rows(text, "Summary")
    ]
    for name, networks, converting, *_ in libraries:
        listed = rows(text, str(name))
        assert len(listed) == networks
        assert sum(row[2] == "converts" for row in listed) == converting
    assert total[1:] == [
        sum(column) for column in zip(*(row[1:] for row in libraries), strict=True)
    ]


def test_the_page_agrees_with_itself() -> None:
    check_page(PAGE.read_text())
