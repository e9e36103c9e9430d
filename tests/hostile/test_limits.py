"""Hostile files are refused within a second of work and 200 MB, counted in a process of their own.

The sha256 in a manifest guards against damage, not malice: a bundle is tried as it is damaged, and
with a manifest made to fit.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.bundle.manifest import MANIFEST
from icsnn_deploy.exporters import FORMATS, GENERAL, export
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Relu
from tests.support.graphs import residual_network, samples

SECONDS = 1.0
MEGABYTES = 200

MEASURE = """
import json, resource, sys, time
{imports}
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
path = sys.argv[1]
before, started = peak(), time.process_time()
try:
    {call}
    message = None
except Exception as error:
    message = f"{{type(error).__name__}}: {{error}}"
seconds = time.process_time() - started
print(json.dumps({{"message": message, "seconds": seconds, "megabytes": peak() - before}}))
"""

IMPORTS = {
    "NirSimulator(path)": """
import nir, h5py
from icsnn_deploy.backends.nir import NirSimulator
""",
    "read(path)": """
import onnx, onnxruntime
from icsnn_deploy.exporters.onnx.read import read
""",
    "OnnxRuntimeSimulator(path)": """
import onnx, onnxruntime
from icsnn_deploy.backends.onnx.onnxruntime import OnnxRuntimeSimulator
""",
    "verify(open_bundle(Path(path)), ['onnxruntime', 'nir'])": """
from pathlib import Path
import h5py, nir, onnx, onnxruntime
import safetensors.numpy
import icsnn_deploy.exporters.nir.read.file, icsnn_deploy.backends.onnx.onnxruntime
from icsnn_deploy.bundle.bundle import open_bundle
from icsnn_deploy.parity.verify import verify
""",
    "load_weights(Path(path))": """
from pathlib import Path
from icsnn_deploy.conversion.frontend.load_model import load_weights
""",
    "load_model(path)": """
import torch.export.pt2_archive._package
from icsnn_deploy.conversion.frontend.load_model import load_model
""",
}


# A process begins with the peak of the one that starts it, which here has PyTorch loaded.
BETWEEN = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"


def measured(imports: str, call: str, path: Path) -> dict[str, Any]:
    """What a call in a fresh process raised, and what it took once all was imported."""
    code = MEASURE.format(imports=imports, call=call)
    found = subprocess.run(
        [sys.executable, "-c", BETWEEN, sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    figures: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return figures


def test_what_a_call_takes_is_measured(tmp_path: Path) -> None:
    """So that the limits can be exceeded."""
    work = "numpy.ones(2**25)\n    while time.process_time() - started < 0.5: pass"
    figures = measured("import numpy", work, tmp_path)
    assert figures["message"] is None
    assert 200 < figures["megabytes"] < 400
    assert 0.5 <= figures["seconds"] < 30


def refused(call: str, path: Path) -> str:
    """The error of a call in a fresh process, within the limits once all is imported."""
    figures = measured(IMPORTS[call], call, path)
    assert figures["message"] is not None
    assert figures["seconds"] < SECONDS, figures
    assert figures["megabytes"] < MEGABYTES, figures
    message: str = figures["message"]
    return message


# What is done to an exported file

Harm = Callable[[bytes, Path], bytes]


def truncated(data: bytes, spare: Path) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes, spare: Path) -> bytes:
    broken = bytearray(data)
    broken[len(broken) // 2] ^= 1
    return bytes(broken)


def linked(data: bytes, spare: Path) -> bytes:
    """With a link into another file, which HDF5 would follow."""
    spare.write_bytes(data)
    with h5py.File(spare, "a") as file:
        file["node/nodes/away"] = h5py.ExternalLink("/etc/passwd", "/")
    return spare.read_bytes()


def declared(data: bytes, spare: Path) -> bytes:
    """With an array of 8 GiB that takes a kilobyte: none of it was ever written."""
    spare.write_bytes(data)
    with h5py.File(spare, "a") as file:
        chunks = {"chunks": (2**20,), "compression": "gzip"}
        file.create_dataset("node/nodes/huge", shape=(2**31,), dtype="f4", **chunks)
    return spare.read_bytes()


def declared_in_one_piece(data: bytes, spare: Path) -> bytes:
    spare.write_bytes(data)
    with h5py.File(spare, "a") as file:
        file.create_dataset("node/nodes/huge", shape=(2**31,), dtype="f4")
    return spare.read_bytes()


NIR: dict[Harm, str] = {
    truncated: "not a readable HDF5 file",
    linked: "is a link into another file",
    declared: "brings the declared data to 8589",
    declared_in_one_piece: "brings the declared data to 8589",
}
ONNX: dict[Harm, str] = {flipped: "sha256", truncated: "ONNX file, or truncated|sha256|metadata"}
HARMS = [
    *(("network.nir", harm, message) for harm, message in NIR.items()),
    *(("network.onnx", harm, message) for harm, message in ONNX.items()),
]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = residual_network(time_steps=2)
    ann = Graph(
        nodes=tuple(
            Relu(name=node.name, inputs=node.inputs) if isinstance(node, IF) else node
            for node in network.nodes
        )
    )
    path = tmp_path_factory.mktemp("hostile") / "bundle"
    bundle = create_bundle(
        path, network=network, ann=ann, samples=samples(network, 2), report={"recipe": "none"}
    )
    for name in GENERAL:

        def write(file: Path, name: str = name) -> None:
            export(network, file, name)

        bundle = bundle.with_export(name, FORMATS[name].file, write)
    return path


def harmed(pristine: Path, folder: Path, file: str, harm: Harm, *, fits: bool) -> Path:
    """A bundle with one file harmed, and with a manifest that fits it if so wanted."""
    bundle = Path(shutil.copytree(pristine, folder / "bundle"))
    data = harm((pristine / file).read_bytes(), folder / "spare")
    (bundle / file).write_bytes(data)
    if fits:
        manifest = json.loads((bundle / MANIFEST).read_text())
        digest = hashlib.sha256(data).hexdigest()
        manifest["files"][file] = {"sha256": digest, "size": len(data)}
        (bundle / MANIFEST).write_text(json.dumps(manifest))
    return bundle


def test_a_good_bundle_passes(pristine: Path) -> None:
    """So that the refusals are about the harm."""
    found = command("verify", str(pristine), "--backend", "nir", "--backend", "onnxruntime")
    assert (found["code"], found["stderr"]) == (0, "")


@pytest.mark.parametrize("harm", NIR)
def test_nir_files(pristine: Path, tmp_path: Path, harm: Harm) -> None:
    path = tmp_path / "net.nir"
    path.write_bytes(harm((pristine / "network.nir").read_bytes(), tmp_path / "spare"))
    message = refused("NirSimulator(path)", path)
    assert message.startswith(f"ExportError: {path}: ")
    assert NIR[harm] in message


@pytest.mark.parametrize("call", ["read(path)", "OnnxRuntimeSimulator(path)"])
def test_onnx_files(pristine: Path, tmp_path: Path, call: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(flipped((pristine / "network.onnx").read_bytes(), path))
    message = refused(call, path)
    assert message.startswith(f"ExportError: {path}: ")
    assert "sha256" in message


@pytest.mark.parametrize(("file", "harm", "message"), HARMS)
def test_files_in_a_bundle_whose_manifest_fits(
    pristine: Path, tmp_path: Path, file: str, harm: Harm, message: str
) -> None:
    bundle = harmed(pristine, tmp_path, file, harm, fits=True)
    found = refused("verify(open_bundle(Path(path)), ['onnxruntime', 'nir'])", bundle)
    assert found.startswith(f"ExportError: {bundle / file}: ")
    assert any(part in found for part in message.split("|"))


def test_files_in_a_bundle_whose_manifest_does_not_fit(pristine: Path, tmp_path: Path) -> None:
    bundle = harmed(pristine, tmp_path, "network.nir", linked, fits=False)
    found = refused("verify(open_bundle(Path(path)), ['onnxruntime', 'nir'])", bundle)
    assert found.startswith(f"BundleError: {bundle}/network.nir: ")
    assert "the manifest says" in found


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_checkpoint_with_code(tmp_path: Path, form: str) -> None:
    path, touched = tmp_path / "w.pt", tmp_path / "touched"
    value = {"weight": torch.zeros(4), "code": Touches(touched)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(value, protocol=2))
    else:
        torch.save(value, path)
    message = refused("load_weights(Path(path))", path)
    assert message.startswith(f"DataError: {path}: ")
    assert "could run code" in message
    assert not touched.exists()


def test_an_exported_program_with_code(tmp_path: Path) -> None:
    path, touched = tmp_path / "net.pt2", tmp_path / "touched"
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    torch.save(((Touches(touched),), {}), tmp_path / "inputs.pt")
    (name,) = (name for name in records if name.endswith("sample_inputs/model.pt"))
    with zipfile.ZipFile(path, "w") as archive:
        for other, data in records.items():
            archive.writestr(
                other, (tmp_path / "inputs.pt").read_bytes() if other == name else data
            )
    message = refused("load_model(path)", path)
    assert message.startswith(f"DataError: {path}: not loaded, because loading it could run code")
    assert not touched.exists()


# The whole command

COMMAND = """
import json, resource, subprocess, sys
command = [sys.executable, "-c", "from icsnn_deploy.cli import main; main()", *sys.argv[1:]]
found = subprocess.run(command, capture_output=True, text=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({
    "code": found.returncode,
    "stdout": found.stdout,
    "stderr": found.stderr,
    "megabytes": usage.ru_maxrss / 1024,
}))
"""


def command(*arguments: str) -> dict[str, Any]:
    """The icsnn command in a process of its own, and its peak memory."""
    found = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    result: dict[str, Any] = json.loads(found.stdout)
    return result


def refused_by_the_command(*arguments: str) -> str:
    """The one line with which the command ends; its whole process stays below the limit."""
    found = command(*arguments)
    assert (found["code"], found["stdout"]) == (2, "")
    assert found["stderr"].startswith("error: ")
    assert found["stderr"].count("\n") == 1
    assert found["megabytes"] < MEGABYTES
    message: str = found["stderr"]
    return message


@pytest.mark.parametrize(("file", "harm", "message"), HARMS)
def test_the_command_on_harmed_bundles_whose_manifest_fits(
    pristine: Path, tmp_path: Path, file: str, harm: Harm, message: str
) -> None:
    bundle = harmed(pristine, tmp_path, file, harm, fits=True)
    backend = {"network.nir": "nir", "network.onnx": "onnxruntime"}.get(file, "reference")
    found = refused_by_the_command("verify", str(bundle), "--backend", backend)
    assert str(bundle / file) in found
    assert any(part in found for part in message.split("|"))


@pytest.mark.parametrize(("file", "harm"), [("network.nir", truncated), ("network.onnx", flipped)])
def test_the_command_on_harmed_bundles(
    pristine: Path, tmp_path: Path, file: str, harm: Harm
) -> None:
    bundle = harmed(pristine, tmp_path, file, harm, fits=False)
    found = refused_by_the_command("verify", str(bundle))
    assert str(bundle / file) in found
    assert "the manifest says" in found


def test_the_command_on_a_manifest_with_another_hash(pristine: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(pristine, tmp_path / "bundle"))
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"]["graph.safetensors"]["sha256"] = "0" * 64
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    for arguments in (["verify"], ["inspect"], ["export", "--format", "nir"]):
        assert "graph.safetensors: sha256" in refused_by_the_command(*arguments, str(bundle))


def test_the_command_on_a_checkpoint_with_code(tmp_path: Path) -> None:
    """Here PyTorch is needed to read at all: the limit on memory does not hold for the process."""
    (tmp_path / "m.py").write_text("from torch import nn\ndef make(): return nn.Linear(2, 2)\n")
    np.save(tmp_path / "d.npy", np.zeros((4, 2), np.float32))
    torch.save({"weight": Touches(tmp_path / "touched")}, tmp_path / "w.pt")
    found = command(
        *("convert", f"{tmp_path}/m.py:make", "--weights", f"{tmp_path}/w.pt"),
        *("--calibration", f"{tmp_path}/d.npy", "--out", f"{tmp_path}/bundle"),
    )
    assert (found["code"], found["stdout"]) == (2, "")
    assert found["stderr"].startswith(f"error: {tmp_path}/w.pt: holds more than tensors")
    assert found["stderr"].count("\n") == 1
    assert set(os.listdir(tmp_path)) - {"__pycache__"} == {"m.py", "d.npy", "w.pt"}
