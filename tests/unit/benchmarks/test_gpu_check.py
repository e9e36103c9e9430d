"""The GPU check, shown without a GPU: failures are rows, differences are found, time is kept."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from icsnn_deploy.backends.reference import ReferenceSimulator
from icsnn_deploy.backends.torch import cuda_graphs
from icsnn_deploy.graph.certificate import require_certificate
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.lattice.quantize import quantize
from tests.support.devices import OneDevice
from tests.support.graphs import random_images, residual_ann, spiking_network

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
PARTS = ("table", "digits", "networks", "parity", "ann", "speed", "steps")


@pytest.fixture(scope="module")
def check() -> Iterator[Any]:
    """The modules of the check, by the last part of their names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield SimpleNamespace(
            **{part: importlib.import_module(f"gpu_check_{part}") for part in PARTS}
        )


@pytest.fixture(scope="module")
def checked(check: Any) -> Any:
    """A small residual network on the lattice."""
    ann, images = residual_ann(), random_images(16)
    network = quantize(spiking_network(ann), images).network
    inputs = to_input_units(network, images[:3])
    expected = ReferenceSimulator(network).run(inputs)
    return check.networks.CheckedNetwork(
        name="small",
        network=network,
        certificate=require_certificate(network),
        ann=ann,
        images=images[:3],
        inputs=inputs,
        spikes=expected.spikes,
        logits=expected.logits.astype(np.float32),
    )


def table_in(folder: Path, check: Any, seconds: float = 60) -> Any:
    return check.table.Table(["# title"], folder / "out" / "table.md", seconds)


def rows_of(folder: Path) -> list[list[str]]:
    lines = (folder / "out" / "table.md").read_text().splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[4:]]


def test_a_failure_is_a_row_and_the_next_row_is_measured(check: Any, tmp_path: Path) -> None:
    table, row = table_in(tmp_path, check), check.table.Row(check="one")

    def fails(row: Any) -> Any:
        raise RuntimeError("CUDA error: | no\nsecond line")

    assert table.measure(row, fails) is None
    assert table.measure(row, lambda row: replace(row, result="fine", images_s=1234.0)) is not None
    first, second = rows_of(tmp_path)
    assert first[3].startswith("FAILED: RuntimeError: CUDA error: / no (test_gpu_check.py:")
    assert second[3:5] == ["fine", "1,234"]
    assert table.failed == 1


def test_what_does_not_fit_in_the_time_is_skipped(check: Any, tmp_path: Path) -> None:
    table = table_in(tmp_path, check, seconds=10)
    assert table.measure(check.table.Row(check="one"), lambda row: row, expected_s=100) is None
    assert rows_of(tmp_path)[0][3] == "skipped: it takes about 100 s, 10 s are left"
    assert table.failed == 0


@pytest.mark.slow
def test_a_measurement_that_hangs_ends_with_the_rows_before_it(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\n"
        f"sys.path.insert(0, {str(BENCHMARKS)!r})\n"
        "from gpu_check_table import Row, Table\n"
        f"table = Table([], pathlib.Path({str(tmp_path)!r}) / 'table.md', 0.5, grace_s=0.5)\n"
        "with table:\n"
        "    table.measure(Row(check='first'), lambda row: row)\n"
        "    table.measure(Row(check='second'), lambda row: time.sleep(60) or row)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], timeout=50)
    assert found.returncode == 1
    text = (tmp_path / "table.md").read_text()
    assert "| first |" in text
    assert "| second |  |  | FAILED: still running when the time was over |" in text


@pytest.mark.parametrize("batch", [1, 3, 6])
def test_differing_spikes_and_logits_are_counted(check: Any, checked: Any, batch: int) -> None:
    parity = check.parity
    right = parity.Comparison(checked, "cpu", parity.Mode(), batch)
    assert right.run(right.inputs).tolist() == [0, 0]
    assert right.compared == batch * sum(s[:, 0].size for s in checked.spikes.values())
    spikes = {name: values.copy() for name, values in checked.spikes.items()}
    next(reversed(spikes.values()))[-1, 0].flat[5] ^= 1
    other = replace(checked, spikes=spikes, logits=checked.logits + np.eye(4, dtype=np.float32)[:1])
    wrong = parity.Comparison(other, "cpu", parity.Mode(), batch)
    assert wrong.run(wrong.inputs).tolist() == [max(1, batch // 3), batch]


def test_parity_and_its_control_pass_and_fail(check: Any, checked: Any) -> None:
    parity, row = check.parity, check.table.Row(check="parity")
    done = parity.check_parity(row, checked, "cpu", parity.Mode(tf32=True), 4)
    assert done.result.startswith("0 of ")
    assert "must" in parity.check_that_differences_are_found(row, checked, "cpu").result
    other = replace(checked, logits=checked.logits + 1)
    with pytest.raises(check.table.CheckFailedError, match=r"^0 of .* spikes, 8 logits differ"):
        parity.check_parity(row, other, "cpu", parity.Mode(), 2)
    with pytest.raises(check.table.CheckFailedError, match="the fused kernel ran 0 of"):
        parity.check_parity(row, checked, "cpu", parity.Mode(fused=True), 2)


def test_the_narrow_anns_are_the_ann(check: Any, checked: Any) -> None:
    cpu = torch.device("cpu")
    exact = check.ann.FloatANN(checked.ann, cpu, torch.float32)
    expected = exact(exact.ops.tensor(checked.images))
    narrow = [check.ann.FloatANN(checked.ann, cpu, t) for t in (torch.float16, torch.bfloat16)]
    for ann in (*narrow, check.ann.Int8ANN(checked.ann, cpu, checked.images)):
        found = ann(ann.ops.tensor(checked.images))
        assert found.dtype != torch.float32
        assert float((found.float() - expected).abs().mean()) < 0.04 * float(expected.std())


@pytest.mark.slow
def test_all_that_is_captured_stays_on_the_device(
    check: Any, checked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scales = check.ann._largest_inputs(checked.ann, torch.device("cpu"), checked.images)
    monkeypatch.setattr(check.ann, "_largest_inputs", lambda *given: scales)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 1 << 30))
    cuda = torch.device("cuda")
    with FakeTensorMode(allow_non_fake_inputs=True):
        comparison = check.parity.Comparison(checked, "cuda", check.parity.Mode(), 6)
        anns = [check.ann.FloatANN(checked.ann, cuda, t) for t in (torch.float16, torch.bfloat16)]
        anns.append(check.ann.Int8ANN(checked.ann, cuda, checked.images))
        runs = [(comparison.run, comparison.inputs)]
        runs += [(ann, ann.ops.tensor(checked.images)) for ann in anns]
        for run, inputs in runs:
            run(inputs)  # parameters go to the device the first time
            with OneDevice():
                assert run(inputs).device.type == "cuda"


@pytest.fixture
def as_if_on_cuda(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A captured run is run, and the fused kernel is PyTorch's operators."""

    class Captured:
        def __init__(self, run: cuda_graphs.RunBatch, example: Tensor) -> None:
            self.run = run

        def __call__(self, x: Tensor) -> Tensor:
            return self.run(x)

    monkeypatch.setattr(cuda_graphs, "_CapturedRun", Captured)
    monkeypatch.setattr(check.steps, "_probe", lambda row: replace(row, result="as it must be"))
    for part in (check.parity, check.speed):
        monkeypatch.setattr(part, "require_fused", lambda found: None)


@pytest.mark.slow
@pytest.mark.usefixtures("as_if_on_cuda")
def test_every_step_of_a_gpu_runs(
    check: Any, checked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = check.digits.TrainedDigits(
        model=check.networks.ResNet20(), calibration=checked.images, origin="none", accuracy=0.5
    )
    monkeypatch.setattr(check.steps, "train_digits", lambda folder: trained)
    monkeypatch.setattr(check.steps, "digits_network", lambda trained, images: checked)
    monkeypatch.setattr(check.steps, "resnet20_network", lambda images: 1 / 0)
    monkeypatch.setattr(check.steps, "check_calibration", lambda row, trained, device: row)
    monkeypatch.setattr(check.speed, "MEASURED_S", 0.01)
    sizes = check.speed.Sizes(images=3, parity_batches=(1, 4), speed_batches=(1, 2))
    table = table_in(tmp_path, check)
    gpu = check.steps.GPUCheck(table, "cpu", sizes, tmp_path)
    gpu._on_cuda = True
    gpu.run()
    rows = rows_of(tmp_path)
    failed = [row for row in rows if row[3].startswith("FAILED")]
    assert [row[:2] for row in failed] == [["certified network", "ResNet20"]]
    assert not [row for row in rows if row[3].startswith("skipped")]
    modes, speeds = check.parity.MODES, check.steps.SPEED_MODES
    assert sum(row[0].startswith("parity") for row in rows) == 2 * len(modes)
    assert sum(row[0].startswith("spiking") for row in rows) == 2 * len(speeds)
    assert all(row[5] and row[6] and row[7] for row in rows if row[0].startswith("spiking"))


@pytest.mark.slow
def test_digits_are_carried_as_they_are(check: Any, tmp_path: Path) -> None:
    check.digits.carry_digits(tmp_path)
    carried, origin = check.digits.find_digits(tmp_path)
    assert origin == "carried (digits.npz)"
    found, _ = check.digits.find_digits(tmp_path / "nothing")
    for name, values in vars(found).items():
        np.testing.assert_array_equal(vars(carried)[name], values)
        assert vars(carried)[name].dtype == values.dtype
