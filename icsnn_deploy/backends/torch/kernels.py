"""Which kernel runs each convolution of an integer network on this machine, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from icsnn_deploy.backends.torch.float32 import Float32Convolution
from icsnn_deploy.backends.torch.int8 import Int8Convolution


@dataclass(frozen=True, kw_only=True)
class LayerKernel:
    """The kernel that ran a convolution."""

    kernel: str  # "8-bit", "events", "float32" or "float64 products"; "none" before the first run
    reason: str  # why it is not a faster one; "" for 8-bit and events
    proven_batches: tuple[int, ...]  # batch sizes that were proven for this layer

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "proven_batches": list(self.proven_batches)}


def kernel_of(
    int8: Int8Convolution | None, float32: Float32Convolution, misfit: str | None
) -> LayerKernel:
    """The kernel that ran a convolution in the last run.

    Args:
        int8: its 8-bit form, if it has one.
        float32: its float32 form.
        misfit: why it has no 8-bit form, if it has none.
    """
    if int8 is not None and int8.events is not None and int8.ran_events:
        return _layer("events", "", int8.events.proven_batches)
    if int8 is not None and int8.proven.refused is None:
        return _layer("8-bit", "", int8.proven.proven_batches)
    slower = int8.proven.refused if int8 is not None else misfit
    reasons = [f"not in 8 bits: {slower or 'switched off, or not in this build of torch'}"]
    if float32.proven.refused is not None:
        reasons.append(f"not in float32: {float32.proven.refused}")
        return _layer("float64 products", "; ".join(reasons), set())
    return _layer("float32", reasons[0], float32.proven.proven_batches)


def _layer(kernel: str, reason: str, batches: set[int]) -> LayerKernel:
    if not batches and kernel != "float64 products":
        kernel = "none"
    return LayerKernel(kernel=kernel, reason=reason, proven_batches=tuple(sorted(batches)))
