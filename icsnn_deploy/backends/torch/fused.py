"""The fused kernel of a population, where this machine has one that keeps to the definition.

It needs a CUDA device and the package triton, which comes with PyTorch's CUDA builds for Linux.
On the CPU the same is done in C (population.py). Everywhere else PyTorch's own operators are used,
with the same result.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icsnn_deploy.backends.torch.population import is_channels_last
from icsnn_deploy.errors import SimulationError, first_line
from icsnn_deploy.graph.neuron import Array, if_step

LOGGER = logging.getLogger(__name__)

SWITCH = "ICSNN_FUSED"  # 0 in the environment: PyTorch's operators are always used
MAX_NEURONS = 2**30  # of a batch; the kernel counts them in 32-bit integers

RunSteps = Callable[[Tensor, Tensor, Tensor, "Tensor | None", Tensor, "Tensor | None"], None]
"""See triton_if.run_steps."""


def fused_steps(currents: Tensor, v: Tensor, spikes: Tensor, u: Tensor | None) -> RunSteps | None:
    """The kernel that runs these currents; None if PyTorch's operators have to.

    Args:
        currents: [T, B, *shape].
        v: [B, *shape].
        spikes: [T, B, *shape], float or bytes.
        u: [T, B, *shape], or None.
    """
    if not currents.is_cuda or type(currents) is not Tensor or not fits(currents, v, spikes, u):
        return None
    return kernel_on(currents.device)


def fits(currents: Tensor, v: Tensor, spikes: Tensor, u: Tensor | None) -> bool:
    """Whether the kernel takes these: float32, each step in memory without gaps, in one order."""
    if not v.numel() or v.numel() > MAX_NEURONS or currents.requires_grad:
        return False
    floats = (currents, v) if u is None else (currents, v, u)
    if any(values.dtype != torch.float32 for values in floats):
        return False
    dense = v.is_contiguous() or is_channels_last(v)
    written = [spikes] if u is None else [spikes, u]
    return (
        dense
        and _order(currents[0]) == _order(v)
        and all(_order(values[0]) == _order(v) for values in written)
        and all(len(values) < 2 or values.stride(0) == v.numel() for values in written)
    )


def _order(values: Tensor) -> tuple[int, ...]:
    """The strides of the axes that have more than one value."""
    sizes = zip(values.shape, values.stride(), strict=True)
    return tuple(stride for size, stride in sizes if size > 1)


@cache
def kernel_on(device: torch.device) -> RunSteps | None:
    """The kernel for a device, compared with the definition once; None if it can't be used."""
    if os.environ.get(SWITCH) == "0" or importlib.util.find_spec("triton") is None:
        return None
    try:
        return proven_kernel(device)
    except Exception as error:  # Triton needs a C compiler and a driver; its errors have no base
        LOGGER.debug("%s: %s; PyTorch's operators are used instead", device, first_line(error))
        return None


def proven_kernel(device: torch.device) -> RunSteps:
    """The Triton kernel, after a comparison with neuron.if_step on this device.

    Raises:
        ImportError: triton is not installed.
        SimulationError: the kernel gives another result.
    """
    from icsnn_deploy.backends.torch.triton_if import run_steps

    def run(*tensors: Any) -> None:
        # Triton launches on the current device, wherever its tensors are.
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            kernel(*tensors)

    kernel: Callable[..., None] = run_steps
    for hard_reset in (False, True):
        for dtype in (torch.float32, torch.uint8):
            for layout in (torch.contiguous_format, torch.channels_last):
                _compare(run, device, dtype, layout, hard_reset=hard_reset)
    return run


def _compare(
    run: RunSteps,
    device: torch.device,
    spike_dtype: torch.dtype,
    layout: torch.memory_format,
    *,
    hard_reset: bool,
) -> None:
    """Compare a kernel with the definition on random currents; raises SimulationError."""
    rng = np.random.default_rng(0)
    steps, shape = 3, (2, 5, 17, 13)  # [B, C, H, W]: more neurons than a program has
    folded = rng.normal(size=(steps * shape[0], *shape[1:])).astype(np.float32)
    expected_v = rng.normal(size=shape).astype(np.float32)
    v_threshold = rng.uniform(0.5, 1, (5, 1, 1)).astype(np.float32)
    v_reset = rng.normal(size=(1, 1, 1)).astype(np.float32) if hard_reset else None

    def there(array: Array) -> Tensor:
        return torch.tensor(array, device=device)

    currents = there(folded).contiguous(memory_format=layout)
    spikes = torch.empty_like(currents, dtype=spike_dtype).view(steps, *shape)
    v = there(expected_v).contiguous(memory_format=layout)
    reset = None if v_reset is None else there(v_reset)
    run(currents.view(steps, *shape), v, there(v_threshold), reset, spikes, None)
    for step, current in enumerate(folded.reshape(steps, *shape)):
        s, _, expected_v = if_step(expected_v, current, v_threshold, v_reset)
        if not np.array_equal(spikes[step].cpu().numpy(), s):
            raise SimulationError(f"the Triton kernel gives other spikes on {device}, step {step}")
    if not np.array_equal(v.cpu().numpy(), expected_v):
        raise SimulationError(f"the Triton kernel gives other potentials on {device}")
