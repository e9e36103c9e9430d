"""What an evaluation measures, and how."""

from __future__ import annotations

from dataclasses import dataclass

from icsnn_deploy.backends import find_backend
from icsnn_deploy.distributed import own_device
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.parity.compare import Tolerance


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What to measure, and how.

    Args:
        backend: that is measured, as backends.open_backend takes it.
        parity: backends that are compared with it, spike for spike.
        confidence: also count what early exit at this confidence comes to; the backend must give
            the logits of each step.
        batch_size: samples run at once, fewer where spikes are kept and would not fit the memory.
        shard_size: samples that are finished, and kept, together.
        device: torch device of the ANN, and of torch backends that name none (torch, not
            torch:cuda); None: the one that `backend` names, or the CPU.
        margin: float networks: |u - v_threshold| / v_threshold allowed where an image diverges.
    """

    backend: str = "torch"
    parity: tuple[str, ...] = ()
    confidence: float | None = None
    batch_size: int = 64
    shard_size: int = 256
    device: str | None = None
    margin: float = 1e-4

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.shard_size < 1:
            raise DataError(
                f"batch_size {self.batch_size}, shard_size {self.shard_size}: at least 1 is needed"
            )
        if self.confidence is not None and not 0 < self.confidence <= 1:
            raise DataError(
                f"early exit at a confidence of {self.confidence}: 0 < c <= 1 is needed"
            )
        Tolerance(margin=self.margin)  # raises DataError
        if self.placed(self.backend) in map(self.placed, self.parity):
            raise DataError(
                f"{self.backend} compared with itself: parity takes another backend than the one "
                "that is measured"
            )

    @property
    def torch_device(self) -> str:
        """This process's device of the ANN, and of torch backends that name none."""
        backend, option = find_backend(self.backend)
        named = option if backend.on_torch else None
        return own_device(self.device or named or "cpu")

    def placed(self, spec: str) -> str:
        """A backend as this process opens it, with its device; BackendUnavailableError: none."""
        backend, option = find_backend(spec)
        if not backend.on_torch:
            return spec
        device = own_device(option) if option else self.torch_device
        return f"{spec.partition(':')[0]}:{device}"

    def tolerance(self, network: Graph) -> Tolerance:
        """What backends may differ by: an integer network's by nothing."""
        return Tolerance(margin=self.margin, exact=network.is_integer)
