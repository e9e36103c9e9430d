"""icsnn export and icsnn verify: files, verdicts and what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from icsnn_deploy.backends.recording_file import save_recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.exporters.onnx.read import read
from tests.support.desk import Desk, failed, passed, succeeded, tamper


def test_export_as_json(bundle: Path) -> None:
    (bundle / "network.nir").unlink()
    result = CliRunner().invoke(
        app, ["export", str(bundle), "--format", "nir", "--format", "onnx", "--json"]
    )
    values = json.loads(succeeded(result))
    assert values["bundle"] == str(bundle)
    assert {name: entry["file"] for name, entry in values["exports"].items()} == {
        "nir": str(bundle / "network.nir"),
        "onnx": str(bundle / "network.onnx"),
    }
    for entry in values["exports"].values():
        assert entry["bytes"] == Path(entry["file"]).stat().st_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nir", "--lossy"], "--lossy goes with --format netx, not nir"),
        (["nir", "--raw-spikes"], "--raw-spikes goes with --format onnx or onnx-step, not nir"),
        (["nir", "--spike-counts"], "--spike-counts go with --format onnx, not nir"),
        (["onnx-step", "--logits-t"], "go with --format onnx, not onnx-step"),
        (["onnx-step", "--layout", "scan"], "go with --format onnx, not onnx-step"),
    ],
)
def test_options_of_formats_that_are_not_written(
    bundle: Path, options: list[str], message: str
) -> None:
    command = ["export", str(bundle), "--format", *options]
    assert message in failed(CliRunner().invoke(app, command))


def test_export_in_a_layout(bundle: Path) -> None:
    def export(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["export", str(bundle), "--format", "onnx", *arguments])

    for arguments, layout in ((("--layout", "scan"), "scan"), ((), "unrolled")):
        assert f", layout {layout})" in succeeded(export(*arguments))
        found = json.loads(succeeded(export(*arguments, "--json")))["exports"]["onnx"]
        assert found["layout"] == layout
        assert read(bundle / "network.onnx").metadata.layout == layout
    for name, wrong in (("--layout", "flat"), ("--layout", "step"), ("--runtime", "abacus")):
        result = export(name, wrong)
        assert result.exit_code == 2
        assert wrong in result.stderr
    assert read(bundle / "network.onnx").metadata.layout == "unrolled"


CONTRACT = {
    *("backend", "verdict", "images", "spikes_compared", "spike_mismatches", "images_affected"),
    *("first_divergence", "max_abs_logit_difference", "top1_agreement"),
}


def test_verify_as_json(finished: Path, bundle: Path) -> None:
    labelled = [
        *("--images", f"{finished}/data.npz:images", "--labels", f"{finished}/data.npz:labels"),
        *("--limit", "4"),
    ]
    result = CliRunner().invoke(app, ["verify", str(bundle), "--json", *labelled])
    values = json.loads(succeeded(result))
    assert values["verdict"] == "pass"
    backends = [c["backend"] for c in values["comparisons"]]
    assert backends == ["torch", "onnxruntime", "onnxruntime-step", "nir"]
    for comparison in values["comparisons"]:
        assert set(comparison) >= CONTRACT
        assert comparison["verdict"] == "pass"
        assert comparison["images"] == 4
        assert comparison["spikes_compared"] == 4 * 3 * 2 * 4 * 8 * 8
        assert comparison["spike_mismatches"] == comparison["images_affected"] == 0
        assert comparison["first_divergence"] is None
        assert comparison["top1_agreement"] == 1
    assert 0 <= values["ann_accuracy"] <= 1
    assert 0 <= values["snn_accuracy"] <= 1
    result = CliRunner().invoke(app, ["verify", str(bundle), "--json", "--backend", "torch"])
    values = json.loads(succeeded(result))
    assert "ann_accuracy" not in values
    assert values["comparisons"][0]["images"] == 8


def test_verify_limits_the_own_samples_too(bundle: Path) -> None:
    result = CliRunner().invoke(app, ["verify", str(bundle), "--json", "--limit", "2"])
    assert {c["images"] for c in json.loads(succeeded(result))["comparisons"]} == {2}


def test_accuracies_as_text(finished: Path, bundle: Path) -> None:
    data = f"{finished}/data.npz"
    result = CliRunner().invoke(
        app,
        ["verify", str(bundle), "--images", f"{data}:images", "--labels", f"{data}:labels"],
    )
    assert "\naccuracy: ANN " in succeeded(result)


@pytest.mark.slow
def test_a_parity_failure_ends_with_1(bundle: Path) -> None:
    tamper(bundle)
    result = CliRunner().invoke(app, ["verify", str(bundle)])
    assert result.exit_code == 2
    assert "network.nir: not what icsnn-deploy" in result.stderr
    assert "conv2/bias" in result.stderr
    result = CliRunner().invoke(app, ["verify", str(bundle), "--behavior-only"])
    assert (result.exit_code, result.stderr) == (1, "")
    assert not passed(result.stdout)
    assert "\ntorch: every spike equal" in result.stdout
    assert "\n  first divergence: image " in result.stdout
    command = ["verify", str(bundle), "--json", "--backend", "nir", "--behavior-only"]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, result.stderr) == (1, "")
    values = json.loads(result.stdout)
    assert values["verdict"] == values["comparisons"][0]["verdict"] == "fail"
    assert values["comparisons"][0]["first_divergence"]["step"] >= 1
    assert values["comparisons"][0]["spike_mismatches"] > 0
    # no margin excuses more than rounding can do
    command = ["verify", str(bundle), "--behavior-only", "--margin", "1e9"]
    assert CliRunner().invoke(app, command).exit_code == 1


def test_an_external_recording(bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle)
    run = ReferenceSimulator(opened.network()).run(opened.samples())
    save_recording(run, tmp_path / "chip.npz")
    command = ["verify", str(bundle), "--against", str(tmp_path / "chip.npz"), "--json"]
    values = json.loads(succeeded(CliRunner().invoke(app, command)))
    assert [c["backend"] for c in values["comparisons"]] == ["chip.npz"]
    name = next(iter(run.spikes))
    spikes = {**run.spikes, name: 1 - run.spikes[name]}
    save_recording(replace(run, spikes=spikes), tmp_path / "chip.npz")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    first = json.loads(result.stdout)["comparisons"][0]["first_divergence"]
    assert (first["layer"], first["step"], first["u_other"]) == (name, 1, None)
    assert "no such file" in failed(CliRunner().invoke(app, [*command[:3], "none.npz"]))


def test_logits_that_are_no_numbers_are_still_json(bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle)
    run = ReferenceSimulator(opened.network()).run(opened.samples())
    logits = run.logits.copy()
    logits[0, 0] = np.nan
    save_recording(replace(run, logits=logits), tmp_path / "chip.npz")
    command = ["verify", str(bundle), "--against", str(tmp_path / "chip.npz")]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 1
    assert "NaN" not in result.stdout
    assert "Infinity" not in result.stdout
    json.loads(result.stdout)
    assert CliRunner().invoke(app, command).exit_code == 1


def test_verify_names_the_export_command(place: Desk) -> None:
    succeeded(place.convert("bundle"))
    out = place.path / "bundle"
    for backend, needed in [
        ("nir", "nir"),
        ("onnxruntime", "onnx"),
        ("onnxruntime:CPUExecutionProvider", "onnx"),
        ("onnxruntime-step", "onnx-step"),
    ]:
        message = failed(place.run("verify", str(out), "--backend", backend))
        assert message.endswith(f"run: icsnn export {out} --format {needed}")
    values = json.loads(succeeded(place.run("verify", str(out), "--json")))
    assert [c["backend"] for c in values["comparisons"]] == ["torch"]


def test_labels_need_images(finished: Path, bundle: Path) -> None:
    labels = f"{finished}/data.npz:labels"
    result = CliRunner().invoke(app, ["verify", str(bundle), "--labels", labels])
    assert "--labels needs --images" in failed(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "lava"], "no backend 'lava'; there are reference, torch, "),
        (["--backend", "torch:abacus"], "torch device 'abacus'"),
        (["--backend", "torch,nir"], "nengo-loihi; give each one with an option of its own"),
        (["--backend", "torch:"], "no backend 'torch:'; there are reference, torch, "),
        (["--backend", "reference:cuda"], "no backend 'reference:cuda'; there are reference"),
        (["--backend", "onnx-reference:x"], "no backend 'onnx-reference:x'; there are reference"),
        (["--backend", "nir-portable:x"], "no backend 'nir-portable:x'; there are reference"),
        (["--backend", "onnxruntime:Abacus"], "Abacus"),
        (["--images", "DATA:floats"], "floats must be in 0..1"),
        (["--images", "DATA:labels"], "images [N, C, H, W] or [N, H, W, C] are needed"),
        (["--images", "DATA:none"], "no array 'none'"),
        (["--images", "DATA:images", "--labels", "DATA:floats"], "integers [N] are needed; output"),
        (["--images", "DATA:images", "--labels", "DATA:years"], "sample 0 has class 1998"),
        (["--images", "DATA:images", "--limit", "0"], "--limit 0"),
        (["--against", "DATA"], "no array 'logits'"),
    ],
)
def test_options_of_verify(finished: Path, bundle: Path, options: list[str], message: str) -> None:
    given = [option.replace("DATA", f"{finished}/data.npz") for option in options]
    assert message in failed(CliRunner().invoke(app, ["verify", str(bundle), *given]))


def test_an_unknown_format_writes_none(bundle: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    command = ["export", str(bundle), "--format", "nir", "--format", "floppy"]
    message = failed(CliRunner().invoke(app, command))
    assert "no export format 'floppy'; there are nir, onnx, onnx-step" in message
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
