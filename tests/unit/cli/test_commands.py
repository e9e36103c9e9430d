"""The icsnn command: results on standard output, errors on standard error, exit codes 0, 1, 2."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.cli import app
from icsnn_deploy.version import __version__
from tests.support.desk import EXPORTS, Desk, failed, passed, process, succeeded, tamper


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


def test_version() -> None:
    assert succeeded(CliRunner().invoke(app, ["--version"])) == f"icsnn-deploy {__version__}\n"


def test_an_error_as_json(place: Desk) -> None:
    result = place.run("inspect", str(place.path / "none"), "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "error": "BundleError",
        "message": f"{place.path}/none: no such bundle; make one with icsnn convert",
    }
    assert result.stderr == f"error: {json.loads(result.stdout)['message']}\n"


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
