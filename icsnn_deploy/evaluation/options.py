"""The options of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from icsnn_deploy.backends import find_backend
from icsnn_deploy.distributed import own_device
from icsnn_deploy.errors import DataError
from icsnn_deploy.evaluation.fastest import has_faster_candidate
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.parity.judge import Tolerance

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """The options of an evaluation.

    Args:
        backend: the backend that is measured, see backends.open_backend; "auto": torch, or the
            network's C program where it gives the same result and is faster (fastest.py).
        parity: backends that are compared with it, spike for spike.
        confidence: also measure early exit at this confidence; the backend must record the logits
            of each step.
        batch_size: samples that are run at once; fewer if their spikes would not fit the memory.
        shard_size: samples whose counts are saved together.
        device: torch device of the ANN, and of torch backends without one in their name (torch,
            not torch:cuda); None: the one in the name of `backend`, or the CPU.
        margin: for float networks, the largest |u - v_threshold| / v_threshold that is allowed at
            the first divergence of an image.
    """

    backend: str = AUTO
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
        if self.placed(self.opened) in map(self.placed, self.parity):
            raise DataError(
                f"{self.opened} compared with itself: give parity another backend than the one "
                "that is measured"
            )

    @property
    def opened(self) -> str:
        """The backend that is opened first."""
        return "torch" if self.backend == AUTO else self.backend

    def chosen_for(self, network: Graph) -> EvaluationOptions:
        """The same, with "auto" only where another backend than torch may run the network."""
        plain = self.confidence is None and not self.parity and self.torch_device == "cpu"
        if self.backend == AUTO and not (plain and has_faster_candidate(network)):
            return replace(self, backend="torch")
        return self

    @property
    def torch_device(self) -> str:
        """This process's device for the ANN, and for torch backends without one in their name."""
        backend, option = find_backend(self.opened)
        named = option if backend.on_torch else None
        return own_device(self.device or named or "cpu")

    def placed(self, spec: str) -> str:
        """The name of a backend with this process's device; raises BackendUnavailableError."""
        backend, option = find_backend(spec)
        if not backend.on_torch:
            return spec
        device = own_device(option) if option else self.torch_device
        return f"{spec.partition(':')[0]}:{device}"

    def tolerance(self, network: Graph) -> Tolerance:
        """The differences that are allowed between backends; none for an integer network."""
        return Tolerance(margin=self.margin).on(network)
