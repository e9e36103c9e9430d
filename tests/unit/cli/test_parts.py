"""Commands on a network of several inputs and outputs: one .npz, one array per input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle, open_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.bundle.manifest import MANIFEST
from icsnn_deploy.cli import app
from icsnn_deploy.cli.input_arrays import load_calibration
from icsnn_deploy.errors import BundleError, DataError
from icsnn_deploy.evaluation.packed_samples import open_inputs
from icsnn_deploy.graph.arrangement import pack_inputs, unpack_input
from icsnn_deploy.sources.reading import Reading
from icsnn_deploy.sources.selection import Selection
from tests.support.graphs import residual_network, samples, with_parts
from tests.unit.lattice.test_quantize import ann_of

NAMED = with_parts(residual_network(time_steps=3))
COUNT = 16


def succeeded(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.stdout


def failed(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    return result.stderr


def inputs_of(count: int = COUNT) -> dict[str, Any]:
    return unpack_input(NAMED.input, samples(NAMED, count))


@pytest.fixture
def data(tmp_path: Path) -> str:
    np.savez(tmp_path / "data.npz", **inputs_of(), labels=np.arange(COUNT) % 10)
    return str(tmp_path / "data.npz")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    x = pack_inputs(NAMED, inputs_of())
    return create_bundle(tmp_path / "b", network=NAMED, ann=ann_of(NAMED), samples=x[:2], report={})


def test_the_manifest_names_inputs_and_outputs(bundle: Bundle) -> None:
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    assert manifest["inputs"] == [
        {"name": "left", "shape": [36], "host_op": ""},
        {"name": "right", "shape": [37, 1], "host_op": ""},
    ]
    assert manifest["outputs"][0] == {"name": "scores", "shape": [5, 1], "host_op": "softmax"}
    opened = open_bundle(bundle.path)
    assert opened.manifest.outputs == NAMED.output.parts
    assert opened.network().hash() == NAMED.hash()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("outputs", 3, "malformed"),
        ("outputs", [3], "malformed"),
        ("outputs", [{"name": "a"}], "malformed"),
        ("outputs", [{"name": "a", "shape": [2**40], "host_op": ""}], "malformed"),
        ("outputs", [], "inputs and outputs other than the network has"),
        ("inputs", [{"name": "a", "shape": [2], "host_op": ""}], "other than the network has"),
    ],
)
def test_a_manifest_whose_parts_make_no_sense_is_refused(
    bundle: Bundle, key: str, value: object, message: str
) -> None:
    path = bundle.path / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(BundleError, match=message):
        open_bundle(bundle.path).network()


def test_inspect_prints_them(bundle: Bundle) -> None:
    shown = succeeded("inspect", str(bundle.path))
    assert "input     left [36]\n" in shown
    assert "input     right [37, 1]\n" in shown
    assert "output    scores [5, 1]: classification, softmax left to the host\n" in shown
    assert "output    box [5]: classification\n" in shown
    values = json.loads(succeeded("inspect", str(bundle.path), "--json"))
    assert values["inputs"][1] == {
        "name": "right",
        "shape": [37, 1],
        "dtype": "float32",
        "unit": 1.0,
    }
    assert values["outputs"][1] == {"name": "box", "shape": [5], "host_op": "", "unit": 1.0}


def test_inspect_prints_the_output_of_any_network(tmp_path: Path) -> None:
    create_bundle(tmp_path / "b", network=residual_network(), ann=None, samples=None, report={})
    shown = succeeded("inspect", str(tmp_path / "b"))
    assert "output    output [10]: classification\n" in shown
    assert "\ninput     input [" not in shown
    values = json.loads(succeeded("inspect", str(tmp_path / "b"), "--json"))
    (node,) = values["inputs"]
    assert node == {"name": "input", "shape": [2, 6, 6], "dtype": "float32", "unit": 1.0}


def test_each_command_packs_the_arrays_of_one_file(
    tmp_path: Path, bundle: Bundle, data: str
) -> None:
    x = pack_inputs(NAMED, inputs_of())
    integer = str(tmp_path / "int8")
    succeeded("quantize", str(bundle.path), "--calibration", data, "--out", integer)
    assert len(open_bundle(integer).samples()) == 8
    succeeded("export", integer, "--format", "onnx", "--format", "nir")
    verified = json.loads(succeeded("verify", integer, "--images", data, "--json"))
    assert verified["verdict"] == "pass"
    assert all(row["images"] == COUNT for row in verified["comparisons"])
    measured = json.loads(succeeded("inspect", str(bundle.path), "--images", data, "--json"))
    spikes = sum(int(spikes.sum()) for spikes in ReferenceSimulator(NAMED).run(x).spikes.values())
    found = sum(row["spikes"] for row in measured["activity"]["layers"])
    assert found * COUNT == pytest.approx(spikes)
    evaluated = json.loads(succeeded("evaluate", str(bundle.path), "--images", data, "--json"))
    assert evaluated["samples"] == COUNT


def test_a_folder_of_files_is_read_in_parts(tmp_path: Path) -> None:
    arrays = inputs_of()
    for number, rows in enumerate((slice(0, 5), slice(5, COUNT))):
        np.savez(tmp_path / f"{number}.npz", **{name: a[rows] for name, a in arrays.items()})
    opened = open_inputs(NAMED.input, str(tmp_path))
    assert len(opened) == COUNT
    assert opened.blank().shape == (1, 2, 6, 6)
    np.testing.assert_array_equal(opened.read(3, 9), pack_inputs(NAMED, arrays)[3:9])


def test_files_that_do_not_hold_the_inputs_are_refused(
    tmp_path: Path, bundle: Bundle, data: str
) -> None:
    def refused(images: str) -> str:
        messages = [
            failed(command, str(bundle.path), "--images", images)
            for command in ("verify", "evaluate", "inspect")
        ]
        return messages[0]

    assert f"{data}:left: the network takes left, right; give FILE.npz" in refused(f"{data}:left")
    np.savez(tmp_path / "one.npz", left=inputs_of()["left"])
    assert "one.npz: no array 'right'; it holds" in refused(str(tmp_path / "one.npz"))
    np.savez(tmp_path / "few.npz", left=inputs_of()["left"][:3], right=inputs_of()["right"])
    assert "few.npz" in refused(str(tmp_path / "few.npz"))
    np.savez(tmp_path / "form.npz", left=inputs_of()["left"], right=inputs_of()["left"])
    assert "'right' of shape (16, 36): [B, 37, 1] is needed" in refused(str(tmp_path / "form.npz"))


def test_calibration_of_several_inputs_is_an_array_for_each(tmp_path: Path, data: str) -> None:
    arrays = inputs_of()
    np.savez(tmp_path / "floats.npz", **arrays)
    found = load_calibration(str(tmp_path / "floats.npz"), None, Reading(selection=Selection(5)))
    assert isinstance(found, dict)
    np.testing.assert_array_equal(found["right"], arrays["right"][:5])
    assert isinstance(load_calibration(f"{data}:left", None), np.ndarray)
    with pytest.raises(DataError, match="name one of its arrays; it holds"):
        load_calibration(data, None)  # labels are no input
    np.savez(tmp_path / "gap.npz", a=arrays["left"], b=np.full((COUNT, 2), np.nan))
    with pytest.raises(DataError, match=r"gap\.npz:b: nan at"):
        load_calibration(str(tmp_path / "gap.npz"), None)
