"""Evaluating on each backend and device: what is measured does not depend on which it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.cli import app
from icsnn_deploy.errors import BackendUnavailableError, DataError
from icsnn_deploy.evaluation.evaluator import Evaluator
from icsnn_deploy.evaluation.options import EvaluationOptions
from icsnn_deploy.exporters.onnx.contract import OnnxOptions
from icsnn_deploy.exporters.onnx.write import write
from tests.support.evaluating import NETWORK, build, data, run

FORMATS = ("onnx-step", "nir", "nir-portable", "nir-relay")
SECOND = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "LOCAL_RANK": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backends")
    build(folder / "bundle", NETWORK, *FORMATS)
    data(folder, 9)
    return folder


@pytest.fixture(scope="module")
def bundle(place: Path) -> Bundle:
    """With an ONNX file that hands out the logits of each step."""
    from icsnn_deploy.bundle.bundle import open_bundle

    opened = open_bundle(place / "bundle")
    options = OnnxOptions(logits_t=True)
    return opened.with_export("onnx", "net.onnx", lambda file: write(NETWORK, file, options))


@pytest.fixture(scope="module")
def expected(bundle: Bundle, place: Path) -> dict[str, Any]:
    return run(bundle, place, confidence=0.25).to_json()


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend",
    [
        "reference",
        "torch:cpu",
        "torch-float64",
        "onnxruntime",
        "onnxruntime-step",
        "onnx-reference",
        "openvino",
        "nir",
        "nir-portable",
        "nir-relay",
    ],
)
def test_every_backend_counts_the_same(
    bundle: Bundle, place: Path, expected: dict[str, Any], backend: str
) -> None:
    """Accuracy over time and early exit too."""
    found = run(bundle, place, backend=backend, confidence=0.25)
    assert found.to_json() == {**expected, "backend": backend}
    assert 1 < found.to_json()["early_exit"]["mean_steps"] < 6
    assert len(found.top1_t) == 6


def test_no_early_exit_without_logits_over_time(tmp_path: Path) -> None:
    built = build(tmp_path / "bundle", NETWORK, "onnx")
    data(tmp_path, 3)
    with pytest.raises(DataError, match=r"early exit on onnxruntime: .*--logits-t"):
        run(built, tmp_path, backend="onnxruntime", confidence=0.5, out=tmp_path / "out")
    # nothing began: another backend may take the folder
    assert run(built, tmp_path, confidence=0.5, out=tmp_path / "out").mean_steps is not None


@pytest.mark.parametrize(
    ("options", "at_once"),
    [
        ({}, 50),
        ({"backend": "onnxruntime"}, 50),
        ({"backend": "reference"}, 3),
        ({"backend": "nir"}, 3),
        ({"parity": ("reference",)}, 3),
    ],
)
def test_batches_fit_the_memory(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], at_once: int
) -> None:
    """Where spikes are compared, and on backends that do not cut a batch themselves."""
    monkeypatch.setattr("icsnn_deploy.evaluation.evaluator.images_at_once", lambda *given: 3)
    evaluator = Evaluator(bundle, bundle.network(), EvaluationOptions(batch_size=50, **options))
    assert evaluator.batch_size == at_once


# Devices


@pytest.mark.parametrize(
    ("options", "device", "placed"),
    [
        ({}, "cpu", {"torch": "torch:cpu", "nir": "nir", "onnxruntime": "onnxruntime"}),
        ({"device": "cuda:3"}, "cuda:3", {"torch": "torch:cuda:3", "torch:cpu": "torch:cpu"}),
        ({"backend": "torch:cuda:3"}, "cuda:3", {"torch-float64": "torch-float64:cuda:3"}),
        ({"backend": "torch:cuda:3", "device": "cpu"}, "cpu", {"torch:cuda:3": "torch:cuda:3"}),
        ({"backend": "openvino:GPU"}, "cpu", {"openvino:GPU": "openvino:GPU"}),
        ({"backend": "nir:nirtorch", "device": "cuda"}, "cuda", {"nir:nirtorch": "nir:nirtorch"}),
    ],
)
def test_the_device_is_named_by_either(
    options: dict[str, Any], device: str, placed: dict[str, str]
) -> None:
    found = EvaluationOptions(**options)
    assert found.torch_device == device
    assert {spec: found.placed(spec) for spec in placed} == placed


@pytest.mark.parametrize("options", [{"backend": "torch:cuda"}, {"device": "cuda"}])
def test_each_process_takes_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    for name, value in SECOND.items():
        monkeypatch.setenv(name, value)
    found = EvaluationOptions(**options)
    assert found.torch_device == "cuda:1"
    specs = ("torch", "torch:cuda", "torch-float64:cuda", "torch:cpu")
    assert [found.placed(spec) for spec in specs] == [
        "torch:cuda:1",
        "torch:cuda:1",
        "torch-float64:cuda:1",
        "torch:cpu",
    ]


@pytest.mark.parametrize(
    ("options", "opened"),
    [
        ({"device": "cuda:3"}, ["torch:cuda:3", "cuda:3"]),
        ({"backend": "torch:cuda:3"}, ["torch:cuda:3", "cuda:3"]),
        ({"backend": "torch:cuda:3", "device": "cpu"}, ["torch:cuda:3", "cpu"]),
        (
            {"device": "cuda", "parity": ("torch-float64",)},
            ["torch-float64:cuda", "torch:cuda", "cuda"],
        ),
    ],
)
def test_the_ann_and_the_backends_are_where_they_are_said_to_be(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], opened: list[str]
) -> None:
    found = []

    def opens(given: Bundle, spec: str) -> ReferenceSimulator:
        found.append(spec)
        return ReferenceSimulator(NETWORK)

    monkeypatch.setattr("icsnn_deploy.evaluation.evaluator.open_backend", opens)
    monkeypatch.setattr(
        "icsnn_deploy.evaluation.evaluator.TorchANN", lambda graph, device: found.append(device)
    )
    Evaluator(bundle, bundle.network(), EvaluationOptions(**options))
    assert found == opened


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "torch:cpu", "parity": ("torch",)},
        {"backend": "torch", "parity": ("torch:cpu",)},
        {"backend": "torch", "parity": ("torch:cuda",), "device": "cuda"},
    ],
)
def test_a_backend_is_not_compared_with_itself(options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="compared with itself"):
        EvaluationOptions(**options)


@pytest.mark.parametrize("options", [{"device": "nonsense"}, {"backend": "torch:nonsense"}])
def test_a_device_that_is_not_there(bundle: Bundle, place: Path, options: dict[str, Any]) -> None:
    with pytest.raises(BackendUnavailableError, match="torch device 'nonsense' can't be used"):
        run(bundle, place, **options)


# The command


def command(place: Path, *arguments: str) -> tuple[int, str, str]:
    names = ("evaluate", str(place / "bundle"), "--images", f"{place}/x.npy")
    found = CliRunner().invoke(app, [*names, "--labels", f"{place}/y.npy", *arguments])
    return found.exit_code, found.stdout, found.stderr


def test_the_command_takes_the_device_either_way(place: Path) -> None:
    results = []
    for arguments in (("--device", "cpu"), ("--backend", "torch:cpu"), ()):
        code, out, err = command(place, *arguments, "--early-exit", "0.5", "--json")
        assert (code, err) == (0, "")
        results.append({**json.loads(out), "backend": "torch"})
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("limit", ["0", "-100"])
def test_the_command_refuses_a_limit_of_none(place: Path, limit: str) -> None:
    code, out, err = command(place, "--limit", limit)
    assert (code, out) == (2, "")
    assert err == f"error: --limit {limit}: at least 1 is needed\n"
