"""The steps of the GPU check, in the order in which they are worth most."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from gpu_check_ann import INT8_MEANS
from gpu_check_digits import TrainedDigits, one_thread, train_digits
from gpu_check_networks import CheckedNetwork, digits_network, resnet20_network
from gpu_check_parity import MODES, Mode, check_parity, check_that_differences_are_found
from gpu_check_speed import ON_CPU, ON_CUDA, Sizes, SpeedRows
from gpu_check_table import CheckFailedError, Row, Table

from icsnn_deploy import __version__
from icsnn_deploy.conversion.calibration.recipe import Recipe
from icsnn_deploy.conversion.convert import convert
from icsnn_deploy.conversion.report import ConversionReport
from icsnn_deploy.errors import first_line

FUSED_ALONE = """
import torch
from icsnn_deploy.backends.torch.fused import proven_kernel
proven_kernel(torch.device("cuda", torch.cuda.current_device()))
"""
FUSED_LIMIT_S = 90
SPEED_MODES = (Mode(), Mode(graph=True), Mode(fused=True), Mode(fused=True, graph=True, tf32=True))


def run_all(out: Path, seconds: float, device: str | None, carried: Path) -> int:
    """Run the check; returns the exit code."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_cuda = device.startswith("cuda")
    with Table(_title(device, seconds), out, seconds) as table:
        GPUCheck(table, device, ON_CUDA if on_cuda else ON_CPU, carried).run()
    failed = f"{table.failed} rows failed" if table.failed else "no row failed"
    print(f"\n{failed}; {seconds - table.left_s:.0f} s; written to {out}")
    return 1 if table.failed else 0


class GPUCheck:
    """All steps on one device.

    Args:
        table: that gets the rows.
        device: torch device.
        sizes: what is measured.
        carried: folder of what was prepared for machines without a network.
    """

    def __init__(self, table: Table, device: str, sizes: Sizes, carried: Path) -> None:
        self._table, self._device, self._sizes, self._carried = table, device, sizes, carried
        self._on_cuda = device.startswith("cuda")
        self._fused = False

    def run(self) -> None:
        """Parity first, then calibration, then speed from the smallest batch to the largest."""
        trained = self._trained()
        made = (
            [] if trained is None else [self._network("digits", partial(digits_network, trained))]
        )
        made.append(self._network("ResNet20", resnet20_network))
        networks = [network for network in made if network is not None]
        self._probe_fused_kernel()
        for checked in networks:
            self._parity(checked)
        if trained is not None:
            self._calibration(trained)
        modes = tuple(filter(self._runs, SPEED_MODES))
        speeds = [SpeedRows(self._table, each, self._device, modes) for each in networks]
        for batch in self._sizes.speed_batches:
            for speed in speeds:
                speed.measure(batch)

    def _trained(self) -> TrainedDigits | None:
        kept: list[TrainedDigits] = []

        def measurement(row: Row) -> Row:
            trained = train_digits(self._carried)
            kept.append(trained)
            accuracy = f"ANN right on {100 * trained.accuracy:.1f} % of those held out"
            return replace(row, result=f"{trained.origin}; {accuracy}")

        self._table.measure(Row(check="training", network="digits"), measurement)
        return kept[0] if kept else None

    def _network(self, name: str, make: Callable[[int], CheckedNetwork]) -> CheckedNetwork | None:
        kept: list[CheckedNetwork] = []

        def measurement(row: Row) -> Row:
            checked = make(self._sizes.images)
            kept.append(checked)
            certificate = checked.certificate
            neurons = sum(spikes[0, 0].size for spikes in checked.spikes.values())
            return replace(
                row,
                result=f"{neurons:,} neurons, T={checked.network.steps}, fires at "
                f"{100 * checked.firing_rate:.1f} %, {certificate.tightest.headroom_bits:.1f} bits "
                f"below float32's limit, TF32 {'exact' if certificate.tf32 else 'not certified'}",
            )

        row = Row(check="certified network", network=name, batch=str(self._sizes.images))
        self._table.measure(row, measurement)
        return kept[0] if kept else None

    def _probe_fused_kernel(self) -> None:
        """Try the kernel in a process of its own: an illegal access would end all of CUDA here."""
        row = Row(check="fused kernel against its definition")
        if not self._on_cuda:
            self._table.skip(row, "no CUDA device; make test-triton runs Triton's interpreter")
            return
        self._fused = self._table.measure(row, _probe) is not None
        if not self._fused:
            os.environ["ICSNN_FUSED"] = "0"

    def _runs(self, mode: Mode) -> bool:
        if mode.graph and not self._on_cuda:
            return False
        return self._fused or not mode.fused

    def _parity(self, checked: CheckedNetwork) -> None:
        control = Row(check="control: another threshold", network=checked.name)
        self._table.measure(
            control, lambda row: check_that_differences_are_found(row, checked, self._device)
        )
        for mode in MODES:
            row = Row(check=f"parity, {mode}", network=checked.name)
            if not self._runs(mode):
                why = "the fused kernel was refused" if self._on_cuda else "no CUDA device"
                self._table.skip(row, why)
                continue
            before = 0.0
            for batch in self._sizes.parity_batches:
                run = partial(
                    check_parity, checked=checked, device=self._device, mode=mode, batch=batch
                )
                done = self._table.measure(
                    replace(row, batch=str(batch)), run, expected_s=4 * before
                )
                before = done.took_s or 0.0 if done else before
                if self._on_cuda:
                    torch.cuda.empty_cache()

    def _calibration(self, trained: TrainedDigits) -> None:
        row = Row(check="calibration auto (quick)", network="digits", batch="64")
        run = partial(check_calibration, trained=trained, device=self._device)
        self._table.measure(row, run, expected_s=20)


def _probe(row: Row) -> Row:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    found = subprocess.run(
        [sys.executable, "-c", FUSED_ALONE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=FUSED_LIMIT_S,
    )
    if found.returncode:
        lines = found.stderr.strip().splitlines()
        raise CheckFailedError(f"{lines[-1] if lines else f'exit code {found.returncode}'}")
    return replace(row, result="the same spikes and potentials")


def check_calibration(row: Row, trained: TrainedDigits, device: str) -> Row:
    """Calibrate on the device and on the CPU: the same candidates, and as good a network."""
    reports: list[ConversionReport] = []
    took: list[float] = []
    for place in (device, "cpu"):
        began = time.monotonic()
        with one_thread():
            recipe = Recipe(name="auto", time_steps=4, effort="quick")
            conversion = convert(trained.model, trained.calibration, recipe, device=place)
            reports.append(conversion.report)
        took.append(time.monotonic() - began)
    there, here = (report.chosen for report in reports)
    agreements = (there.agreement or 0.0, here.agreement or 0.0)
    result = (
        f"divergence {there.divergence:.4f} on {device}, {here.divergence:.4f} on the CPU; "
        f"agreement {agreements[0]:.3f} and {agreements[1]:.3f}; "
        f"{took[0]:.1f} s and {took[1]:.1f} s"
    )
    methods = [[c.method for c in report.candidates] for report in reports]
    if methods[0] != methods[1]:
        raise CheckFailedError(f"other candidates: {methods[0]} and {methods[1]}; {result}")
    # Sums in another order move thresholds by rounding errors, and a spike or two with them.
    close = np.isclose(there.divergence, here.divergence, rtol=0.2, atol=0.01)
    if not close or abs(agreements[0] - agreements[1]) > 0.05:
        raise CheckFailedError(result)
    return replace(row, result=result)


def _title(device: str, seconds: float) -> list[str]:
    try:
        machine = _machine(device)
    except Exception as error:  # the rows will say what does not work
        machine = f"{device}: {type(error).__name__}: {first_line(error)}"
    kind = "CUDA" if device.startswith("cuda") else "CPU: small sizes, no statement about a GPU"
    return [
        f"# GPU check on {kind}",
        "",
        f"{machine}; Python {platform.python_version()}, torch {torch.__version__}, "
        f"icsnn-deploy {__version__}; limit {seconds:.0f} s.",
        "",
        f'"of T x" is the speed relative to T passes of the ANN; {INT8_MEANS}. Peak memory is '
        "that of the tensors of one row on CUDA, and of the whole process on the CPU.",
    ]


def _machine(device: str) -> str:
    if not device.startswith("cuda"):
        return f"{platform.machine()}, {torch.get_num_threads()} threads"
    properties = torch.cuda.get_device_properties(device)
    memory = properties.total_memory / 2**30
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return f"{properties.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}, cuDNN {cudnn}"
