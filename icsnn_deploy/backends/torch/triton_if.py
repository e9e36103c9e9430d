"""All steps of an integrate-and-fire population as one Triton kernel.

PyTorch runs three kernels per step, each of which reads and writes every potential. Here a
potential stays in a register over all steps: each current is read once, each spike written once.
Only what neuron.if_step says is computed, in its order, so that no bit of the result differs.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # neurons per program


@triton.jit  # type: ignore[untyped-decorator]
def _if_steps(  # type: ignore[no-untyped-def]  # Triton's types stand for pointers and integers
    currents,
    v,
    v_threshold,
    v_reset,
    spikes,
    u_of_steps,
    steps,
    neurons,
    current_stride,  # values from a current to that of the next step; 0 if it is the same
    threshold_run,  # successive neurons in memory that share a threshold
    thresholds,
    reset_run,
    resets,
    HARD_RESET: tl.constexpr,  # noqa: N803  # constants are written in capitals in Triton
    KEEP_U: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    neuron = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = neuron < neurons
    threshold = tl.load(v_threshold + neuron // threshold_run % thresholds, mask=exists)
    potential = tl.load(v + neuron, mask=exists)
    if HARD_RESET:
        reset = tl.load(v_reset + neuron // reset_run % resets, mask=exists)
    for _ in range(steps):
        u = potential + tl.load(currents + neuron, mask=exists)
        fired = u >= threshold
        tl.store(spikes + neuron, tl.where(fired, 1, 0).to(spikes.dtype.element_ty), mask=exists)
        if KEEP_U:
            tl.store(u_of_steps + neuron, u, mask=exists)
            u_of_steps += neurons
        if HARD_RESET:  # noqa: SIM108  # reset is defined in this case alone
            potential = tl.where(fired, reset, u)
        else:
            potential = tl.where(fired, u - threshold, u)
        currents += current_stride
        spikes += neurons
    tl.store(v + neuron, potential, mask=exists)


def run_steps(
    currents: Tensor,
    v: Tensor,
    v_threshold: Tensor,
    v_reset: Tensor | None,
    spikes: Tensor,
    u: Tensor | None,
) -> None:
    """Run all T steps of a population; the equation is in neuron.if_step.

    The values of a step lie in memory in the same order in all of them (see fused.fits).

    Args:
        currents: float32 [T, B, *shape]; may be a view expanded over T.
        v: float32 [B, *shape], the potential before the first step; that after the last is written.
        v_threshold: float32, broadcastable to [B, *shape].
        v_reset: likewise; None for soft reset.
        spikes: written, float32 or uint8 [T, B, *shape].
        u: written, the potential before the reset, float32 [T, B, *shape]; None if not needed.
    """
    neurons = v.numel()
    if not neurons or not len(currents):
        return
    thresholds, threshold_run = _along_memory(v_threshold, v)
    resets, reset_run = (thresholds, 1) if v_reset is None else _along_memory(v_reset, v)
    _if_steps[(triton.cdiv(neurons, BLOCK),)](
        currents,
        v,
        thresholds,
        resets,
        spikes,
        v if u is None else u,
        len(currents),
        neurons,
        currents.stride(0),
        threshold_run,
        thresholds.numel(),
        reset_run,
        resets.numel(),
        HARD_RESET=v_reset is not None,
        KEEP_U=u is not None,
        BLOCK=BLOCK,
    )


def _along_memory(parameter: Tensor, v: Tensor) -> tuple[Tensor, int]:
    """A parameter of a population in the order in which its neurons lie in memory.

    Args:
        parameter: broadcastable to v.
        v: [B, *shape], contiguous or channels-last.

    Returns:
        its distinct values, and how many successive neurons share one: neuron i of v has the value
        number i // shared % len(values).
    """
    shape = v.shape[1:]
    channels_last = not v.is_contiguous()
    sizes = (*(1,) * (v.ndim - parameter.ndim), *parameter.shape)  # [1 or B, *shape or ones]
    if parameter.numel() == 1:
        return parameter.reshape(1), 1
    if parameter.numel() == sizes[1]:
        return parameter.reshape(-1), 1 if channels_last else math.prod(shape[1:])
    whole = parameter.reshape(sizes).expand(sizes[0], *shape)
    return (whole.permute(0, 2, 3, 1) if channels_last else whole).reshape(-1), 1
