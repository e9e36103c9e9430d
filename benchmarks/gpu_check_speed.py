"""Images per second of a spiking network and of T times its ANN, and the memory of each."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from gpu_check_ann import FloatANN, Int8ANN
from gpu_check_networks import CheckedNetwork
from gpu_check_parity import Mode, fused_calls, matrix_products_in_tf32, require_fused
from gpu_check_table import CheckFailedError, Row, Table
from torch import Tensor

from icsnn_deploy.backends.torch.cuda_graphs import CapturedRuns
from icsnn_deploy.backends.torch.simulator import TorchSimulator

BASELINES = ("float16", "bfloat16", "int8")
MEASURED_S = 0.25
GROUPS = 5

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured on a kind of device."""

    images: int  # that the reference runs
    parity_batches: tuple[int, ...]
    speed_batches: tuple[int, ...]


ON_CUDA = Sizes(
    images=16,
    parity_batches=(1, 16, 256, 4096),
    speed_batches=(1, 4, 16, 64, 256, 1024, 4096),
)
ON_CPU = Sizes(images=4, parity_batches=(1, 8), speed_batches=(1, 4))


class SpeedRows:
    """Measures one network batch by batch: the ANN in each type, then the simulator in each mode.

    Args:
        table: that gets the rows.
        checked: the network.
        device: torch device.
        modes: of the simulator.
    """

    def __init__(
        self, table: Table, checked: CheckedNetwork, device: str, modes: tuple[Mode, ...]
    ) -> None:
        self._table, self._checked, self._device, self._modes = table, checked, device, modes
        self._on_cuda = device.startswith("cuda")
        self._took: dict[str, tuple[int, float]] = {}  # of the last row: batch, seconds

    def measure(self, batch: int) -> None:
        """All rows of one batch size."""
        baselines = tuple(self._baseline(name, batch) for name in BASELINES)
        for mode in self._modes:
            tf32 = mode.tf32 and self._checked.certificate.tf32
            shown = replace(mode, tf32=tf32)
            self._row(f"spiking, T={self._checked.network.steps}, {shown}", batch, shown, baselines)

    def _baseline(self, name: str, batch: int) -> float | None:
        """Images per second of T passes of the ANN."""
        steps = self._checked.network.steps
        how = ", CUDA graph" if self._on_cuda else ""
        row = self._row(f"{steps} x ANN, {name}{how}", batch, name, (None,) * len(BASELINES))
        return None if row is None else row.images_s

    def _row(
        self, check: str, batch: int, what: Mode | str, baselines: tuple[float | None, ...]
    ) -> Row | None:
        def measurement(row: Row) -> Row:
            done = self._measured(row, batch, what)
            speed = done.images_s or 0.0
            return replace(done, shares=tuple(speed / b if b else None for b in baselines))

        before, seconds = self._took.get(check, (batch, 0.0))
        done = self._table.measure(
            Row(check=check, network=self._checked.name, batch=str(batch)),
            measurement,
            expected_s=seconds * batch / before,
        )
        if done is not None:
            self._took[check] = batch, done.took_s or 0.0
        return done

    def _measured(self, row: Row, batch: int, what: Mode | str) -> Row:
        device = torch.device(self._device)
        before = _clear(device)
        tf32 = isinstance(what, Mode) and what.tf32
        with matrix_products_in_tf32(tf32):
            if isinstance(what, Mode):
                run, inputs, passes = self._spiking(what, batch)
            else:
                run, inputs, passes = self._ann(what, batch, device)
            seconds = passes * seconds_per_call(run, inputs, device)
        peak = _peak(device, before)
        del run, inputs
        return replace(
            row,
            result=f"{1000 * seconds:.3f} ms per batch",
            images_s=batch / seconds,
            peak_mib=peak / 2**20,
        )

    def _spiking(self, mode: Mode, batch: int) -> tuple[Run, Tensor, int]:
        simulator = TorchSimulator(
            self._checked.network, device=self._device, tf32=mode.tf32, fused=mode.fused
        )
        run: Run = CapturedRuns(simulator.observe) if mode.graph else simulator.observe
        inputs = simulator.ops.tensor(_repeated(self._checked.inputs, batch))
        if mode.fused:
            with fused_calls() as found:
                simulator.observe(inputs[:1])
            require_fused(found)
        return run, inputs, 1

    def _ann(self, name: str, batch: int, device: torch.device) -> tuple[Run, Tensor, int]:
        checked = self._checked
        if name == "int8":
            ann: FloatANN = Int8ANN(checked.ann, device, checked.images)
            _require_the_same_network(ann, checked, device)
        else:
            ann = FloatANN(checked.ann, device, getattr(torch, name))
        inputs = ann.ops.tensor(_repeated(checked.images, batch))
        return CapturedRuns(ann) if self._on_cuda else ann, inputs, checked.network.steps


def _require_the_same_network(ann: FloatANN, checked: CheckedNetwork, device: torch.device) -> None:
    """The 8-bit ANN must be the ANN, within a tenth of its logits' spread."""
    expected = FloatANN(checked.ann, device, torch.float32)
    logits = expected(expected.ops.tensor(checked.images))
    error = (ann(ann.ops.tensor(checked.images)).float() - logits).abs().mean() / logits.std()
    if not float(error) < 0.1:
        raise CheckFailedError(f"the 8-bit ANN is off by {float(error):.2f} of its logits' spread")


def _repeated(values: np.ndarray, batch: int) -> np.ndarray:
    return np.concatenate([values] * -(-batch // len(values)))[:batch]


def seconds_per_call(run: Run, inputs: Tensor, device: torch.device) -> float:
    """The least mean over groups of calls, after warm-up; a captured run is replayed by then."""
    for _ in range(3):
        run(inputs)
    first = _seconds(run, inputs, device, 1)
    calls = max(1, min(200, round(MEASURED_S / GROUPS / max(first, 1e-6))))
    groups = max(1, min(GROUPS, round(2 * MEASURED_S / max(first, 1e-6))))
    return min(_seconds(run, inputs, device, calls) / calls for _ in range(groups))


def _seconds(run: Run, inputs: Tensor, device: torch.device, calls: int) -> float:
    _synchronize(device)
    began = time.perf_counter()
    for _ in range(calls):
        run(inputs)
    _synchronize(device)
    return time.perf_counter() - began


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _clear(device: torch.device) -> int:
    """Give unused memory back; the bytes that are in use."""
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize(device)  # it also starts CUDA, which has no statistics before
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak(device: torch.device, before: int) -> int:
    """Bytes allocated at most since _clear; on the CPU those of the whole process until now."""
    if device.type != "cuda":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.cuda.max_memory_allocated(device) - before
