"""A modelled cost in icsnn report and icsnn inspect, from the file of icsnn cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from icsnn_deploy.cli import app
from icsnn_deploy.evaluation.cost_record import write_cost
from tests.support.costs import some_cost
from tests.support.evaluating import build


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a bundle, the cost of its network, and that of another one."""
    bundle = build(tmp_path / "bundle")
    write_cost(some_cost(bundle.graph_hash), tmp_path / "cost.json")
    write_cost(some_cost("0" * 64), tmp_path / "other.json")
    return tmp_path


def test_inspect_shows_the_model_after_the_estimate(place: Path) -> None:
    command = ("inspect", place / "bundle", "--cost", place / "cost.json")
    code, text = invoke(*command, "--images", place / "bundle" / "none.npy")
    assert code == 2, text
    code, text = invoke(*command)
    assert code == 0, text
    for shown in ("modelled by SANA-FE", "1.25 ms", "0.75 ms", "21 uJ", "if2", "if1, output"):
        assert shown in text
    code, text = invoke(*command, "--json")
    assert json.loads(text)["chip_cost"]["placements"][1]["seconds"] == 0.75e-3
    code, text = invoke("inspect", place / "bundle", "--json")
    assert json.loads(text)["chip_cost"] is None


def test_the_report_shows_the_model_beside_the_estimate(place: Path) -> None:
    out = place / "report.html"
    code, text = invoke(
        "report", place / "bundle", "--out", out, "--cost", place / "cost.json", "--target",
        "loihi1", "--parity-samples", 0, "--json",
    )  # fmt: skip
    assert code == 0, text
    assert json.loads(text)["bundles"][0]["chip_cost"]["target"] == "loihi1"
    for path in (out, out.with_suffix(".md")):
        page = path.read_text().replace("\\", "")  # Markdown escapes hyphens
        estimate = page.index("an estimate, not a measurement")
        model = page.index("modelled by SANA-FE from constants of SPICE simulations")
        assert estimate < model < page.index("0.75 ms", model)
        assert "Energy per sample on loihi1, modelled" in page
        assert "21 µJ to 22 µJ" in page


def test_a_report_without_a_cost_says_nothing_of_a_model(place: Path) -> None:
    out = place / "report.html"
    code, text = invoke(
        "report", place / "bundle", "--out", out, "--target", "loihi1", "--parity-samples", 0
    )
    assert code == 0, text
    assert "SANA-FE" not in out.read_text()


@pytest.mark.parametrize("command", ["inspect", "report"])
def test_the_cost_of_another_network_is_refused(place: Path, command: str) -> None:
    out = ("--out", place / "report.html") if command == "report" else ()
    code, text = invoke(command, place / "bundle", *out, "--cost", place / "other.json")
    assert code == 2
    assert "cost of network 000000000000..." in text
    assert not (place / "report.html").exists()


def test_a_cost_is_not_computed_for_a_file_that_can_not_be_written(place: Path) -> None:
    code, text = invoke("cost", place / "bundle", "--out", place / "none" / "cost.json")
    assert code == 2
    assert "a file in a folder that exists" in text
