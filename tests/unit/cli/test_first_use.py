"""What a person meets in the first hour: partial failures, units, advice and notes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.errors import Rejection, rejection_table
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.round_network import even_widths, round_to_lattice
from tests.support.graphs import residual_network, samples

MODEL = """
import torch
from torch import nn

def fresh():
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))

def trained():
    with torch.random.fork_rng():
        return fresh()
"""


def run(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
    """Standard output and error of a command that ends with this exit code."""
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def integer() -> Graph:
    graph = residual_network()
    prepared = prepare(graph, samples(graph, 4), per_layer=False, input_bits=8)
    return round_to_lattice(prepared, {}, even_widths(prepared, 12), per_layer=False).graph


@pytest.fixture
def bundles(tmp_path: Path, integer: Graph) -> Path:
    """A folder with the bundles float and int."""
    graph = residual_network()
    x = samples(graph, 3)
    for name, one in (("float", graph), ("int", integer)):
        create_bundle(
            tmp_path / name, network=one, ann=None, samples=to_input_units(one, x), report={}
        )
    return tmp_path


def test_a_backend_that_fails_does_not_hide_the_results_of_others(bundles: Path) -> None:
    both = ("--backend", "torch", "--backend", "onnxruntime")
    out, err = run("verify", bundles / "float", *both, code=2)
    assert "torch: every spike equal" in out
    assert "did not run: onnxruntime" in " ".join(out.split())
    assert err.startswith("error: onnxruntime: ")
    values = json.loads(run("verify", bundles / "float", *both, "--json", code=2)[0])
    assert [one["backend"] for one in values["comparisons"]] == ["torch"]
    assert values["errors"]["onnxruntime"]["error"] == "BundleError"


def test_a_format_that_fails_does_not_keep_others_from_being_written(bundles: Path) -> None:
    formats = [f"--format={name}" for name in ("c", "nir", "testvectors", "golden")]
    out, err = run("export", bundles / "float", *formats, code=2)
    assert out.startswith("nir: ")
    assert [line.split(":")[1] for line in err.splitlines()] == [" c", " testvectors", " golden"]
    assert (bundles / "float" / "network.nir").is_file()
    values = json.loads(run("export", bundles / "float", *formats, "--json", code=2)[0])
    assert set(values["exports"]) == {"nir"}
    assert set(values["errors"]) == {"c", "testvectors", "golden"}


def test_one_format_alone_fails_as_before(bundles: Path) -> None:
    _, err = run("export", bundles / "float", "--format", "c", code=2)
    assert err.startswith("error: c holds integer networks only")


@pytest.mark.parametrize("command", ["verify", "evaluate"])
@pytest.mark.parametrize("name", ["float", "int"])
def test_the_samples_of_a_bundle_are_images(bundles: Path, command: str, name: str) -> None:
    images = bundles / name / "samples.safetensors"
    values = json.loads(run(command, bundles / name, "--images", images, "--json")[0])
    assert values.get("samples", 3) == 3


def test_integers_in_other_files_are_refused_because_pixels_look_the_same(
    bundles: Path, integer: Graph
) -> None:
    bundle = create_bundle(
        bundles / "traced",
        network=integer,
        ann=residual_network(),
        samples=None,
        report={},
    )
    np.save(bundles / "x.npy", to_input_units(integer, samples(integer, 3)))
    _, err = run("evaluate", bundle.path, "--images", bundles / "x.npy", code=2)
    assert "are read from the samples.safetensors of its bundle alone" in err


def test_inspect_says_what_integers_stand_for(bundles: Path, integer: Graph) -> None:
    assert f"unit      of the input: {integer.input.unit:.6g}" in run("inspect", bundles / "int")[0]
    assert "unit " not in run("inspect", bundles / "float")[0]
    values = json.loads(run("inspect", bundles / "int", "--json")[0])
    assert values["inputs"][0]["unit"] == integer.input.unit
    assert values["inputs"][0]["dtype"] == integer.input.dtype


def test_an_onnx_file_says_what_integers_stand_for(bundles: Path, integer: Graph) -> None:
    import onnx

    for name in ("float", "int"):
        run("export", bundles / name, "--format", "onnx", "--format", "onnx-step")
    for file in ("network.onnx", "network-step.onnx"):
        text = onnx.load(bundles / "int" / file).doc_string
        assert f"round(sample / {integer.input.unit!r})" in text
        assert "Pixels cast to this type are other numbers" in text
        assert onnx.load(bundles / "float" / file).doc_string == ""


def test_check_names_quantize_where_only_widths_do_not_fit(bundles: Path) -> None:
    out, _ = run("check", bundles / "int", "--target", "loihi2", code=1)
    assert "icsnn quantize FLOAT_BUNDLE --target loihi2" in out
    out, _ = run("check", bundles / "float", "--target", "loihi2", code=1)
    assert f"icsnn quantize {bundles / 'float'} --target loihi2" in out
    out, _ = run("check", bundles / "int", "--target", "speck", code=1)
    assert "only widths" not in out  # its input is analog, which no width changes


def test_quantize_for_a_target_says_whether_it_fits(bundles: Path) -> None:
    np.save(bundles / "x.npy", samples(residual_network(), 8))
    given = ("quantize", bundles / "float", "--calibration", bundles / "x.npy")
    out, _ = run(*given, "--target", "loihi2", "--out", bundles / "a")
    assert "\nfits loihi2" in out
    run("check", bundles / "a", "--target", "loihi2")
    out, _ = run(*given, "--target", "speck", "--out", bundles / "b")
    assert "does not fit speck" in out
    assert "icsnn check" in out
    values = json.loads(run(*given, "--target", "speck", "--out", bundles / "c", "--json")[0])
    assert values["target"] == {"name": "speck", "fits": False}
    assert "fits" not in run(*given, "--out", bundles / "d")[0].replace("so that it fits", "")


@pytest.mark.parametrize(("name", "more"), [("fresh", 1), ("trained", 0)])
def test_convert_says_that_weights_may_be_random(tmp_path: Path, name: str, more: int) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((16, 8), np.float32))
    given = ("convert", f"{tmp_path}/model.py:{name}", "--calibration", tmp_path / "x.npy")
    out, err = run(*given, "--recipe", "opi", "--out", tmp_path / "b")
    assert out.count("random unless it loads trained ones") == more
    assert err == ""


def test_equal_rejections_are_one_entry_in_lines_that_fit_a_terminal() -> None:
    def rejections(names: Sequence[str], got: str) -> list[Rejection]:
        allowed = "rectifiers " * 20
        return [
            Rejection(node=name, got=got, allowed=allowed, remedy="Replace it.") for name in names
        ]

    many = rejections([f"layer{n}.act" for n in range(123)], "GELU")
    text = rejection_table("problems", [*many, *rejections(["head"], "Sigmoid")])
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) < 20
    assert sum("GELU" in line for line in lines) == 1
    assert "and 117 more: GELU" in text
    assert "head: Sigmoid" in text
