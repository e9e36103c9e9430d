"""The icsnn command: results on standard output, errors on standard error, exit codes 0, 1, 2."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from icsnn_deploy.backends.recording_file import save_recording
from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.exporters import export
from icsnn_deploy.exporters.onnx.read import read
from icsnn_deploy.graph.nodes import Conv
from icsnn_deploy.version import __version__

MODEL = """
import torch
from torch import nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(16, 5)
    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.conv2(x) + x)
        return self.head(F.avg_pool2d(x, 4).flatten(1))

def make():
    torch.manual_seed(0)
    return Net()

def chatty():
    print("a word from the model")
    return make()

class Forbidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.GELU(), nn.LPPool2d(2, 2), nn.Conv2d(4, 4, 1), nn.Sigmoid()
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.Softmax(dim=1))
    def forward(self, x):
        return self.head(self.features(x))

class VGG(nn.Module):
    # as torchvision's vgg16, but narrow: five max poolings, adaptive pooling, dropout
    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width in (4, 4, "M", 4, 4, "M", 4, 4, 4, "M", 4, 4, 4, "M", 4, 4, 4, "M"):
            if width == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(
            nn.Linear(4, 8), nn.ReLU(True), nn.Dropout(), nn.Linear(8, 5)
        )
    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))
"""

MEAN, STD = "0.5,0.4,0.3", "0.2,0.3,0.25"
EXPORTS = ("nir", "onnx", "onnx-step")


class Desk:
    """A folder with a model, its weights and some data, and the command run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "tiny.py").write_text(MODEL)
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (12, 8, 8, 3), np.uint8)
        floats = rng.normal(size=(6, 3, 8, 8)).astype(np.float32)
        gap = np.where(floats == floats.max(), np.nan, floats)
        labels, years = rng.integers(0, 5, 12), np.full(12, 1998)
        np.savez(
            path / "data.npz", images=images, labels=labels, years=years, floats=floats, gap=gap
        )

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    def convert(self, out: str, *more: str, model: str = "make") -> Result:
        return self.run(
            *("convert", f"{self.path}/tiny.py:{model}"),
            *("--calibration", f"{self.path}/data.npz:images", "--mean", MEAN, "--std", STD),
            *("--time-steps", "3", "--recipe", "opi", "--out", str(self.path / out), *more),
        )

    def names(self) -> set[str]:
        return set(os.listdir(self.path)) - {"__pycache__"}


@pytest.fixture
def place(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as the commands make it, with every export."""
    place = Desk(tmp_path_factory.mktemp("cli"))
    succeeded(place.convert("bundle"))
    formats = [part for name in EXPORTS for part in ("--format", name)]
    succeeded(place.run("export", str(place.path / "bundle"), *formats))
    return place.path


@pytest.fixture
def bundle(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "bundle", tmp_path / "bundle"))


def succeeded(result: Result) -> str:
    assert (result.exit_code, result.exception, result.stderr) == (0, None, "")
    return result.stdout


def failed(result: Result) -> str:
    """The message of a command that ends with 2 and one error."""
    assert result.exit_code == 2, (result.stdout, result.exception)
    assert isinstance(result.exception, SystemExit)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("error: ") == 1
    return result.stderr.removeprefix("error: ").rstrip("\n")


def passed(printed: str) -> bool:
    """What the title of verify's table says."""
    title = printed.splitlines()[0].strip()
    assert title.startswith("parity with the reference")
    verdict = title.rsplit(": ", 1)[1]
    assert verdict in ("pass", "fail")
    return verdict == "pass"


@pytest.mark.slow
def test_the_commands_in_their_order(place: Desk) -> None:
    out = place.path / "bundle"
    printed = succeeded(place.convert("bundle"))
    assert f"wrote {out}; next: icsnn export {out} --format nir --format onnx" in printed
    assert "opi, T = 3, judged on 3 held-out samples" in printed
    for number, name in enumerate(EXPORTS):
        printed = succeeded(place.run("export", str(out), "--format", name))
        assert printed.startswith(f"{name}: {out}/network")
        assert len(open_bundle(out).exports) == number + 1
    printed = succeeded(place.run("verify", str(out)))
    assert passed(printed)
    for backend in ("torch", "onnxruntime", "onnxruntime-step", "nir"):
        assert f"\n{backend}: every spike equal" in printed
    printed = succeeded(place.run("inspect", str(out)))
    assert "input     3 x 8 x 8 uint8, direct" in printed
    assert "exports   nir (network.nir), onnx (network.onnx), onnx-step" in printed
    assert "conv1" in printed


def test_what_loses_less_is_said_at_the_end(place: Desk) -> None:
    printed = succeeded(place.convert("far", "--recipe", "diehl", "--time-steps", "1"))
    assert "to lose less, try recipe auto, or more time steps (2)" in " ".join(printed.split())
    many = ("--recipe", "fast", "--time-steps", "64")
    assert "to lose less" not in succeeded(place.convert("near", *many))


def test_a_former_name_of_a_recipe_makes_the_same_network(place: Desk) -> None:
    succeeded(place.convert("new", "--recipe", "fast"))
    old = place.convert("old", "--recipe", "default")
    assert old.exit_code == 0
    assert old.stderr == "note: recipe default is called fast now\n"
    hashes = {open_bundle(place.path / name).graph_hash for name in ("new", "old")}
    assert len(hashes) == 1


def test_the_network_takes_pixels(finished: Path) -> None:
    """What was converted is the model with its normalization, on uint8 channels first."""
    opened = open_bundle(finished / "bundle")
    images = np.load(finished / "data.npz")["images"]
    assert np.array_equal(opened.samples(), np.moveaxis(images[:8], 3, 1))
    assert opened.network().input.dtype == "uint8"
    assert opened.normalization is not None
    assert opened.normalization.mean == (0.5, 0.4, 0.3)
    assert opened.normalization.std == (0.2, 0.3, 0.25)


def test_convert_as_json(place: Desk) -> None:
    result = json.loads(succeeded(place.convert("bundle", "--json")))
    assert set(result) == {"bundle", "graph_hash", "report"}
    assert result["bundle"] == str(place.path / "bundle")
    assert result["graph_hash"] == open_bundle(place.path / "bundle").graph_hash
    assert (result["report"]["recipe"], result["report"]["time_steps"]) == ("opi", 3)
    assert result["report"]["calibration_samples"] == 12


def test_limit_of_calibration_samples(place: Desk) -> None:
    result = json.loads(succeeded(place.convert("bundle", "--json", "--limit", "5")))
    assert result["report"]["calibration_samples"] == 5
    assert len(open_bundle(place.path / "bundle").samples()) == 5


def test_weights(place: Desk) -> None:
    torch.save({"head.weight": torch.zeros(5, 16)}, place.path / "w.pt")
    message = failed(place.convert("bundle", "--weights", str(place.path / "w.pt")))
    assert "missing conv1.weight" in message
    assert "bundle" not in place.names()


def test_float_samples_without_normalization(place: Desk) -> None:
    out = str(place.path / "bundle")
    succeeded(
        place.run(
            *("convert", f"{place.path}/tiny.py:make", "--out", out, "--recipe", "opi"),
            *("--calibration", f"{place.path}/data.npz:floats", "--time-steps", "2"),
        )
    )
    assert open_bundle(Path(out)).network().input.dtype == "float32"
    assert passed(succeeded(place.run("verify", out)))


def test_float_samples_with_a_gap(place: Desk) -> None:
    gap, out = f"{place.path}/data.npz:gap", str(place.path / "out")
    command = ["convert", f"{place.path}/tiny.py:make", "--calibration", gap, "--out", out]
    assert f"{gap}: nan at [" in failed(place.run(*command))
    floats = f"{place.path}/data.npz:floats"
    succeeded(place.run(*command[:3], floats, "--recipe", "opi", *command[4:]))
    integer = str(place.path / "int8")
    quantize = ["quantize", out, "--out", integer, "--calibration"]
    assert f"{gap}: nan at [" in failed(place.run(*quantize, gap))
    succeeded(place.run(*quantize, floats))
    for used in (out, integer):
        assert f"{gap}: nan at [" in failed(place.run("verify", used, "--images", gap))
        assert f"{gap}: nan at [" in failed(place.run("inspect", used, "--images", gap))


def test_what_the_model_prints_does_not_go_to_standard_output(place: Desk) -> None:
    result = place.convert("bundle", "--json", model="chatty")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["report"]["recipe"] == "opi"
    assert result.stderr == "a word from the model\n"


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


def tamper(bundle: Path) -> None:
    """Replace the NIR export by one of another network, with a manifest that fits."""
    opened = open_bundle(bundle)
    network = opened.network()
    node = network.node("conv2")
    assert isinstance(node, Conv)
    other = network.replace(replace(node, bias=node.bias + np.float32(0.5)))
    opened.with_export("nir", "network.nir", lambda path: export(other, path, "nir"))


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


def test_inspect_names_the_kernels_of_an_integer_network(place: Desk, bundle: Path) -> None:
    images, integer = f"{place.path}/data.npz:images", str(place.path / "int8")
    succeeded(place.run("quantize", str(bundle), "--calibration", images, "--out", integer))
    command = ("inspect", integer, "--backend", "torch")
    values = json.loads(succeeded(place.run(*command, "--json")))
    convolutions = {node["name"] for node in values["nodes"] if node["kind"] == "conv"}
    assert set(values["kernels"]) == convolutions
    for layer in values["kernels"].values():
        assert layer["kernel"] in ("8-bit", "float32")
        assert layer["proven_batches"]
    assert "kernels on this machine" in succeeded(place.run(*command))
    assert "kernels" not in json.loads(succeeded(place.run("inspect", integer, "--json")))
    assert "--backend nir: only torch" in failed(place.run(*command[:3], "nir"))


def test_inspect_as_json(bundle: Path) -> None:
    values = json.loads(succeeded(CliRunner().invoke(app, ["inspect", str(bundle), "--json"])))
    opened = open_bundle(bundle)
    assert values["graph_hash"] == opened.graph_hash
    assert values["ann_hash"] == opened.ann_hash
    assert (values["time_steps"], values["readout_start"]) == (3, 0)
    assert values["exports"] == dict(opened.exports)
    assert [node["name"] for node in values["nodes"]] == [n.name for n in opened.network().nodes]
    assert values["nodes"][0]["shape"] == [3, 8, 8]
    assert values["report"]["recipe"] == "opi"


# Errors


def test_version() -> None:
    assert succeeded(CliRunner().invoke(app, ["--version"])) == f"icsnn-deploy {__version__}\n"


def test_all_rejections_at_once(place: Desk) -> None:
    message = failed(place.convert("bundle", model="Forbidden"))
    assert message.startswith("3 operators of this model have no integrate-and-fire equivalent")
    for path, kind in [
        ("features.1", "GELU"),
        ("features.2", "LPPool2d"),
        ("features.4", "Sigmoid"),
    ]:
        (line,) = (line for line in message.splitlines() if line.strip().startswith(path))
        assert kind in line
    assert place.names() == {"tiny.py", "data.npz"}


def test_all_rejections_as_json(place: Desk) -> None:
    result = place.convert("bundle", "--json", model="Forbidden")
    assert result.exit_code == 2
    values = json.loads(result.stdout)
    assert set(values) == {"error", "message", "rejections"}
    assert values["error"] == "UnsupportedOperatorError"
    assert [set(r) for r in values["rejections"]] == [{"node", "got", "allowed", "remedy"}] * 3
    assert result.stderr == f"error: {values['message']}\n"
    assert place.names() == {"tiny.py", "data.npz"}


def test_a_vgg16_with_max_pooling(place: Desk) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    np.savez(place.path / "data.npz", images=images)
    shown = succeeded(place.convert("bundle", model="VGG"))
    # Three neurons an output of every pooling, one more in front of the fully connected layer.
    neurons = sum(3 * 4 * size**2 for size in (16, 8, 4, 2, 1)) + 4
    assert f"max pool  5 exact: {neurons:,} neurons in 11 populations" in shown


def test_an_error_as_json(place: Desk) -> None:
    result = place.run("inspect", str(place.path / "none"), "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "error": "BundleError",
        "message": f"{place.path}/none: no such bundle; make one with icsnn convert",
    }
    assert result.stderr == f"error: {json.loads(result.stdout)['message']}\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "pancakes"], "no recipe 'pancakes'; there are auto, hybrid, fast, diehl"),
        (["--time-steps", "0"], "time_steps 0"),
        (["--time-steps", "\u00b2"], "a number, or the two ends of a range"),
        (["--limit", "0"], "--limit 0: at least 1"),
        (["--limit", "-1"], "--limit -1: at least 1"),
        (["--batch-size", "0"], "batch_size 0"),
        (["--device", "abacus"], "torch device 'abacus'"),
        (["--mean", "0.5"], "mean has 1 and std 3 values"),
        (["--mean", "0.5,0.5", "--std", "1,1"], "with C = 2 channels as mean and std have"),
        (["--mean", "a,b,c"], "comma-separated numbers"),
        (["--std", "0,1,1"], "std > 0"),
        (["--mean", "123.7,116.3,103.5"], "pixels are divided by 255 first"),
        (["--effort", "best"], "go with the recipes auto and hybrid"),
        (["--keep-weights"], "go with the recipes auto and hybrid"),
        (["--seed", "1"], "go with the recipes auto and hybrid"),
        (["--calibration", "data.npz:none"], "no such file"),
        (["--calibration", "images.txt"], r"give FILE.npz:array or FILE.npy"),
        (["--weights", "none.pt"], "none.pt: no such file"),
        (["--activation", "Clip"], "CLASS:BOUND"),
        (["--activation", "Clip:bound:levels:more"], "CLASS:BOUND"),
    ],
)
def test_options_of_convert(place: Desk, options: list[str], message: str) -> None:
    before = place.names()
    assert message in failed(place.convert("bundle", *options))
    assert place.names() == before


def test_mean_and_std_go_together(place: Desk) -> None:
    for option in ("--mean", "--std"):
        result = place.run(
            *("convert", f"{place.path}/tiny.py:make", "--out", str(place.path / "b")),
            *("--calibration", f"{place.path}/data.npz:images", option, MEAN),
        )
        assert "--mean and --std go together" in failed(result)


def test_models_that_are_not_there(place: Desk) -> None:
    assert "has no callable 'other'" in failed(place.convert("bundle", model="other"))
    result = place.run(
        *("convert", f"{place.path}/none.pt2", "--out", str(place.path / "b")),
        *("--calibration", f"{place.path}/data.npz:floats"),
    )
    assert "none.pt2: no such file" in failed(result)
    assert place.names() == {"tiny.py", "data.npz"}


def test_the_bundle_is_kept_unless_told(place: Desk, bundle: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert "--overwrite" in failed(place.convert("bundle"))
    assert failed(place.convert("bundle", "--overwrite", model="Forbidden"))
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    succeeded(place.convert("bundle", "--overwrite", "--limit", "4"))
    assert open_bundle(bundle).exports == {}
    (place.path / "notes").mkdir()
    assert "is not a bundle" in failed(place.convert("notes", "--overwrite"))


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


@pytest.mark.parametrize("command", ["export", "verify", "inspect"])
def test_a_damaged_network(bundle: Path, command: str) -> None:
    data = bytearray((bundle / "graph.safetensors").read_bytes())
    data[-1] ^= 1
    (bundle / "graph.safetensors").write_bytes(data)
    more = ["--format", "nir"] if command == "export" else []
    message = failed(CliRunner().invoke(app, [command, str(bundle), *more]))
    assert "graph.safetensors: sha256" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["ann", "golden", "graph", "samples"])
def test_inspect_checks_every_file(place: Desk, bundle: Path, name: str) -> None:
    images, integer = f"{place.path}/data.npz:images", place.path / "int8"
    quantize = ("quantize", str(bundle), "--calibration", images, "--out", str(integer))
    succeeded(place.run(*quantize))
    path = integer / f"{name}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert f"{path}: sha256" in failed(place.run("inspect", str(integer)))
    path.unlink()
    path.symlink_to(bundle / path.name)
    assert f"{path}: not a regular file" in failed(place.run("inspect", str(integer)))
    path.unlink()
    assert f"{path}: missing" in failed(place.run("inspect", str(integer)))


@pytest.mark.parametrize(
    "arguments",
    [["convert"], ["verify"], ["export", "x"], ["juggle"], ["verify", "x", "--nope"], ["inspect"]],
)
def test_usage_errors(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage" in result.stderr


def test_help_lists_the_commands() -> None:
    printed = CliRunner().invoke(app, ["--help"]).stdout
    for command in ("convert", "export", "verify", "inspect", "demo"):
        assert command in printed


# As a process


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from icsnn_deploy.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.slow
def test_a_process_ends_with_the_code_and_keeps_its_streams_apart(bundle: Path) -> None:
    tamper(bundle)
    # FORCE_COLOR makes a terminal of the error stream: progress is shown there, if it takes long
    shown = {"FORCE_COLOR": "1", "ICSNN_PROGRESS": ""}
    command = ("verify", str(bundle), "--backend", "nir", "--behavior-only", "--json")
    found = process(*command, **shown)
    assert found.returncode == 1
    assert json.loads(found.stdout)["verdict"] == "fail"
    found = process("verify", str(bundle.with_name("none")))
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("error: ")
    assert "Traceback" not in found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nir", "onnx", "onnx-step"])
def test_a_full_disk_leaves_the_bundle_as_it_was(bundle: Path, name: str) -> None:
    """Files of at most 2 kB, as if the disk had no more: an error, and no crash of a library."""
    limits = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))"
    program = f"{limits}\nfrom icsnn_deploy.cli import main; main()"
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    command = [sys.executable, "-c", program, "export", str(bundle), "--format", name]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("error: ")
    assert "can't be written" in found.stderr
    assert found.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_standard_output_is_no_verdict(bundle: Path) -> None:
    for more in ([], ["--json"]):
        command = [sys.executable, "-m", "icsnn_deploy", "verify", str(bundle), *more]
        with Path("/dev/full").open("w") as full:
            found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
        assert (found.returncode, found.stderr.count(b"Traceback")) == (2, 0)
        assert b"No space left" in found.stderr


@pytest.mark.slow
def test_names_of_files_that_no_terminal_can_show(
    tmp_path: Path, place: Desk, bundle: Path
) -> None:
    """A folder whose name is not UTF-8, which Python holds as half a surrogate pair."""
    folder = tmp_path / os.fsdecode(b"b\xff")
    shutil.copytree(bundle, folder)
    data = tmp_path / os.fsdecode(b"d\xff.npz")
    shutil.copy(place.path / "data.npz", data)
    missing = process("inspect", str(folder / "none"))
    assert missing.returncode == 2
    assert "b\\udcff" in missing.stderr
    page = str(folder) + ".html"
    for arguments in (["inspect"], ["report", "--images", f"{data}:images", "--out", page]):
        made = process(arguments[0], str(folder), *arguments[1:])
        assert made.returncode == 0, made.stderr


@pytest.mark.slow
def test_quantize_then_verify_and_check(place: Desk, bundle: Path) -> None:
    """The integer path: certified, exact on every backend, held against a target."""
    images, integer = f"{place.path}/data.npz:images", str(place.path / "int8")
    quantized = place.run(
        "quantize", str(bundle), "--calibration", images, "--out", integer, "--json"
    )
    assert json.loads(succeeded(quantized))["lattice"]["certificate"]["float32"] is True
    assert (place.path / "int8" / "golden.safetensors").is_file()
    again = ("quantize", str(bundle), "--calibration", images, "--out", integer, "--overwrite")
    stages = [line for line in succeeded(place.run(*again)).splitlines() if ", kept" in line]
    assert [line.split()[0] for line in stages] == [json.loads(quantized.stdout)["lattice"]["kept"]]
    succeeded(place.run("export", integer, "--format", "nir", "--format", "onnx"))
    verified = place.run("verify", integer, "--images", images, "--backend", "torch", "--json")
    (comparison,) = json.loads(succeeded(verified))["comparisons"]
    assert comparison["spike_mismatches"] == 0
    assert comparison["reason"] == "every spike and logit equal"
    assert passed(succeeded(place.run("verify", integer)))
    assert "certificate: exact in float32" in succeeded(place.run("inspect", integer))


def test_a_target_that_fits_and_one_that_does_not(place: Desk, bundle: Path) -> None:
    integer = str(place.path / "int8")
    images = f"{place.path}/data.npz:images"
    succeeded(place.run("quantize", str(bundle), "--calibration", images, "--out", integer))
    fits = place.run("check", integer, "--target", "generic", "--json")
    assert json.loads(succeeded(fits))["ok"] is True
    small = place.run("check", integer, "--target", "loihi2", "--set", "weight_bits=2")
    assert small.exit_code == 1
    assert "weight width" in small.stdout
    assert "does not fit loihi2" in small.stdout
    unfit = json.loads(place.run("check", integer, "--target", "speck", "--json").stdout)
    assert unfit["ok"] is False
    assert "analog input" in {misfit["what"] for misfit in unfit["misfits"]}
    assert "spinnaker2" in succeeded(place.run("targets"))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--target", "abacus"), "no target 'abacus'; there are generic"),
        (("--bits", "33"), "2 to 16"),
        (("--bits", "0"), "weights of 0 bits: 2 to 16"),
        (("--target", "loihi2", "--bits", "12"), "it takes 8 at most"),
        (("--limit", "0"), "at least 1"),
        (("--out", "BUNDLE", "--overwrite"), "--out is the float bundle itself"),
    ],
)
def test_what_quantize_refuses(
    extra: tuple[str, ...], message: str, place: Desk, bundle: Path
) -> None:
    out, images = place.path / "int8", f"{place.path}/data.npz:images"
    wanted = ("quantize", str(bundle), "--calibration", images, "--out", str(out))
    given = [str(bundle) if option == "BUNDLE" else option for option in extra]
    assert message in failed(place.run(*wanted, *given))
    assert not out.exists()
    assert not open_bundle(bundle).network().is_integer


def test_inspect_counts_what_images_cost(place: Desk, bundle: Path) -> None:
    images = f"{place.path}/data.npz:images"
    printed = succeeded(place.run("inspect", str(bundle), "--images", images, "--limit", "5"))
    assert "per sample, mean of 5, T = 3" in printed
    assert "an estimate, not a measurement" in printed
    as_json = place.run("inspect", str(bundle), "--images", images, "--json")
    activity = json.loads(succeeded(as_json))["activity"]
    assert activity["samples"] == 12
    assert activity["energy"]["ac_picojoule"] == 0.9
