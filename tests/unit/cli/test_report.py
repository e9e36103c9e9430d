"""icsnn report, from the command line to the files."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.graph.graph import Graph
from tests.support.evaluating import NETWORK, as_ann, build, data
from tests.support.graphs import samples, two_headed_network
from tests.support.integer_graphs import on_lattice

SECTIONS = {
    "summary",
    "accuracy",
    "confusion",
    "populations",
    "errors",
    "spikes",
    "examples",
    "conversion",
    "parity",
    "targets",
    "operations",
    "memory",
    "provenance",
}


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    return result.exit_code, result.output


def sections(page: Path) -> set[str]:
    return set(re.findall(r'<section id="([^"]+)"', page.read_text()))


def test_a_report_has_every_section_and_its_markdown(tmp_path: Path) -> None:
    build(tmp_path / "bundle")
    data(tmp_path, 9)
    out = tmp_path / "report.html"
    code, text = invoke(
        tmp_path / "bundle", "--images", tmp_path / "x.npy", "--labels", tmp_path / "y.npy",
        "--out", out, "--target", "loihi2", "--parity-samples", 2,
    )  # fmt: skip
    assert code == 0, text
    assert sections(out) >= SECTIONS
    markdown = out.with_suffix(".md").read_text()
    assert "| Accuracy |" in markdown
    assert "svg" not in markdown


@pytest.mark.slow
def test_several_bundles_are_compared_first(tmp_path: Path) -> None:
    build(tmp_path / "one")
    build(tmp_path / "two", ann=False)
    out = tmp_path / "report.html"
    options = ("--target", "loihi2", "--parity-samples", 0)
    code, text = invoke(tmp_path / "one", tmp_path / "two", "--out", out, *options)
    assert code == 0, text
    found = re.findall(r'<section id="([^"]+)"', out.read_text())
    assert found[0] == "comparison"
    assert {f"b2-{name}" for name in SECTIONS} <= set(found)
    assert len(found) == len(set(found))
    figures = out.read_text().partition('id="b1"')[0].partition('id="comparison"')[2]
    assert "<td class" in figures
    assert "<td>" not in figures  # every cell wraps, so that they fit a narrow screen


@pytest.mark.slow
def test_an_integer_network_and_one_of_several_outputs_have_reports(tmp_path: Path) -> None:
    network = on_lattice(NETWORK)
    create_bundle(
        tmp_path / "integer", network=network, ann=None, samples=samples(network, 3), report={}
    )
    build(tmp_path / "heads", two_headed_network())
    for name in ("integer", "heads"):
        out = tmp_path / f"{name}.html"
        code, text = invoke(tmp_path / name, "--out", out, "--parity-samples", 1)
        assert code == 0, text
        assert sections(out) >= SECTIONS


def renamed(network: Graph, names: dict[str, str]) -> Graph:
    """The network with other names of its nodes."""
    return Graph(
        nodes=tuple(
            replace(
                node,
                name=names[node.name],
                inputs=tuple(names[source] for source in node.inputs),
            )
            for node in network.nodes
        ),
        time_steps=network.time_steps,
    )


def test_names_of_nodes_are_shown_as_text(tmp_path: Path) -> None:
    names = {node.name: f"<script>alert({n})$\\frac{{`|" for n, node in enumerate(NETWORK.nodes)}
    network = renamed(NETWORK, names)
    create_bundle(
        tmp_path / "bundle", network=network, ann=as_ann(network), samples=samples(network, 2),
        report={},
    )  # fmt: skip
    out = tmp_path / "report.html"
    code, text = invoke(tmp_path / "bundle", "--out", out, "--parity-samples", 1)
    assert code == 0, text
    assert sections(out) >= SECTIONS
    for path in (out, out.with_suffix(".md")):
        assert "<script" not in path.read_text()
    assert out.read_text().count("&lt;script&gt;alert(") > 20


WRONG = {
    "recipe": ["<script>"],
    "candidates": [1, {"divergence": "x"}, {"divergence": 1.0, "method": "<img src=x>"}],
    "chosen": 3,
    "curves": {"<b>": [{"iteration": 1, "training_divergence": 0.5}, 7], "c": 5},
    "divergence_without": {"": 2.0, "a": "x", "b": 1.0},
    "losses": 5,
    "lattice": {"divergence": {"rounded": None}, "agreement": [], "bits": {"x": "y"}},
}


def test_a_report_json_in_any_form_is_shown_as_text(tmp_path: Path) -> None:
    create_bundle(
        tmp_path / "bundle", network=NETWORK, ann=as_ann(NETWORK), samples=samples(NETWORK, 2),
        report=WRONG,
    )  # fmt: skip
    out = tmp_path / "report.html"
    code, text = invoke(tmp_path / "bundle", "--out", out, "--parity-samples", 0)
    assert code == 0, text
    page = out.read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x&gt;" in page


@pytest.mark.slow
def test_json_names_the_files_and_has_the_figures(tmp_path: Path) -> None:
    build(tmp_path / "bundle")
    out = tmp_path / "report.html"
    code, text = invoke(tmp_path / "bundle", "--out", out, "--parity-samples", 1, "--json")
    assert code == 0, text
    found = json.loads(text)
    assert found["files"] == [str(out), str(out.with_suffix(".md"))]
    assert found["bundles"][0]["parity"]["verdict"] == "pass"


@pytest.mark.parametrize(
    ("out", "more", "message"),
    [
        ("report.pdf", (), "ends in .html or .htm"),
        ("nowhere/report.html", (), "a file in a folder that exists"),
        ("report.html", ("--labels", "y.npy"), "--labels needs --images"),
        ("report.html", ("--target", "tpu"), "no target 'tpu'"),
        ("report.html", ("--parity-samples", "-1"), "at least 0"),
    ],
)
def test_what_can_not_be_reported_is_refused_before_anything_runs(
    tmp_path: Path, out: str, more: tuple[str, ...], message: str
) -> None:
    build(tmp_path / "bundle")
    code, text = invoke(tmp_path / "bundle", "--out", tmp_path / out, *more)
    assert code == 2
    assert message in text
    assert not (tmp_path / out).exists()
