"""CUDA graphs: a run of many small kernels, launched as one.

Running a batch launches a few kernels per node and T small ones per population. They are captured
once per shape and then replayed without Python in between.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Size, Tensor

_WARM_UP = 2  # runs before the capture, in which libraries choose kernels and allocate
_MAX_CAPTURED = 2  # shapes: that of full batches and that of the last one

RunBatch = Callable[[Tensor], Tensor]


class CapturedRuns:
    """Runs a function of one tensor; from the second call with a shape on, as a CUDA graph.

    Args:
        run: works on its input's device alone, launches the same kernels for every input of a
            shape, and does not synchronize.
    """

    def __init__(self, run: RunBatch) -> None:
        self._run = run
        self._seen: set[Size] = set()
        self._captured: dict[Size, _CapturedRun] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """The function's result, in newly allocated memory."""
        if x.shape not in self._seen or not x.numel():
            self._seen.add(x.shape)
            return self._run(x)
        if x.shape not in self._captured:
            if len(self._captured) == _MAX_CAPTURED:  # each keeps the activations of a whole run
                del self._captured[next(iter(self._captured))]
            self._captured[x.shape] = _CapturedRun(self._run, x)
        return self._captured[x.shape](x)


class _CapturedRun:
    """The captured kernels of one shape, with fixed memory for its input and its result."""

    def __init__(self, run: RunBatch, example: Tensor) -> None:
        self._input = example.clone()
        with torch.cuda.device(example.device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP):
                    run(self._input)
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._result = run(self._input)

    def __call__(self, x: Tensor) -> Tensor:
        self._input.copy_(x)
        self._graph.replay()
        return self._result.clone()
