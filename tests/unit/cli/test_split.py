"""icsnn split: what it prints, writes and refuses, and the commands that go on from there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.data import Normalization
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.passes.split_first_layer import split_first_layer
from icsnn_deploy.splitting import split as splitting
from tests.support.branches import rounded
from tests.support.graphs import residual_network, samples


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A bundle of an integer network."""
    graph = rounded(residual_network())
    inputs = to_input_units(graph, samples(graph, 3))
    path = tmp_path / "whole"
    create_bundle(path, network=graph, ann=None, samples=inputs, report={})
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def cut(bundle: Path, out: Path, *more: object) -> Result:
    return run("split", bundle, "--host-first-layer", "--out", out, *more)


def test_the_parts_are_printed_with_their_comparison_and_the_next_commands(
    whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "parts"
    result = cut(whole, out)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"host  {out}/host.onnx: output spikes/stem.if, uint8" in result.stdout
    assert f"chip  {out}/chip: takes these spikes, [8, N, 4, 6, 6], events" in result.stdout
    assert "host.onnx + chip: every spike and logit equal" in result.stdout
    assert "0 of 10,368 spikes and 0 logits differ from the whole network on 3" in result.stdout
    assert f"next: icsnn check {out}/chip --target speck" in result.stdout
    for part in ("host", "chip"):
        shown = run("inspect", out / part).stdout
        assert f"from      {part} part of network " in shown
        assert "host runs stem.if" in shown
        assert run("verify", out / part, "--backend", "torch").exit_code == 0
    checked = run("check", out / "chip", "--target", "speck", "--json")
    misfits = {misfit["what"] for misfit in json.loads(checked.stdout)["misfits"]}
    assert "analog input" not in misfits


def test_the_result_as_json(whole: Path, tmp_path: Path) -> None:
    result = cut(whole, tmp_path / "parts", "--limit", "2", "--json")
    content = json.loads(result.stdout)
    assert content["populations"] == {"stem.if": "spikes/stem.if"}
    assert content["parity"]["verdict"] == "pass"
    assert {c["images"] for c in content["parity"]["comparisons"]} == {2}


def test_other_inputs_than_those_of_the_bundle(tmp_path: Path) -> None:
    """Pixels [N, H, W, C] for the whole network and for the host part."""
    graph = residual_network()
    graph = graph.replace(replace(graph.input, dtype="uint8"))
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 2), np.uint8)
    np.save(tmp_path / "images.npy", images)
    create_bundle(
        tmp_path / "whole",
        network=graph,
        ann=None,
        samples=None,
        report={},
        normalization=Normalization(mean=(0.5, 0.5), std=(0.25, 0.25)),
    )
    out = tmp_path / "parts"
    none = cut(tmp_path / "whole", out)
    assert none.exit_code == 2
    assert "holds no samples; give some with --images" in none.stderr
    result = cut(tmp_path / "whole", out, "--images", tmp_path / "images.npy")
    assert result.exit_code == 0, result.stderr
    assert "on 5 samples" in result.stdout
    np.testing.assert_array_equal(open_bundle(out / "host").samples(), np.moveaxis(images, 3, 1))
    again = run("verify", out / "host", "--images", tmp_path / "images.npy", "--backend", "torch")
    assert again.exit_code == 0, again.stderr


def test_parts_that_differ_end_with_exit_code_1_and_no_folder(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = open_bundle(whole).network()
    parts = split_first_layer(graph)

    def wrong(graph: Graph) -> object:
        return replace(parts, chip=replace(parts.chip, readout_start=3))

    monkeypatch.setattr(splitting, "split_first_layer", wrong)
    result = cut(whole, tmp_path / "parts")
    assert result.exit_code == 1
    assert "host.onnx + chip: fail (0 spikes differ, logits by up to" in result.stderr
    assert result.stderr.endswith("Nothing was written.\n")
    as_json = cut(whole, tmp_path / "parts", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["parity"]["verdict"] == "fail"
    assert not (tmp_path / "parts").exists()


def test_wrong_usage_is_one_error(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    cases = {
        "pass --host-first-layer": run("split", whole, "--out", out),
        "no such bundle": cut(tmp_path / "nothing", out),
        "was not written by icsnn split": cut(whole, whole, "--overwrite"),
    }
    for message, result in cases.items():
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
    assert not out.exists()


def test_a_report_with_a_damaged_record_of_the_split_is_still_shown(tmp_path: Path) -> None:
    for number, record in enumerate(("chip", {"host_populations": 3})):
        path = tmp_path / str(number)
        create_bundle(
            path, network=residual_network(), ann=None, samples=None, report={"split": record}
        )
        assert run("inspect", path).exit_code == 0
