"""The faster of two backends that give the same result: PyTorch, and the network's C program.

A C program has to be compiled first, which takes longer than a short evaluation. So PyTorch runs
the first batches. If it would take ten times as long for the rest as the compiler probably takes,
the program is compiled, both run one batch, and the faster one runs the rest. Spikes and logits of
a certified network are the same on both, so the choice shows in no figure.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np

from icsnn_deploy.backends.c_program import MOST_COUNTED, CSimulator
from icsnn_deploy.backends.recording import Record, Recording, Simulator
from icsnn_deploy.errors import BackendUnavailableError, ExportError, GraphError, first_line
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.native.build import find_compiler

LOGGER = logging.getLogger(__name__)

_COMPILE_S = 0.2
"""Processor seconds for a population: a ResNet20 of 19 takes 3.2, a VGG16 of 14 takes 2.9."""
_WORTH = 10.0
"""Times the compiler's time that PyTorch has to take for the rest: the program saves a fifth."""


def has_faster_candidate(network: Graph) -> bool:
    """Whether a network may have a C program, and this machine a compiler for it."""
    return network.is_integer and network.steps <= MOST_COUNTED and find_compiler() is not None


class FastestSimulator:
    """Runs an integer network by PyTorch or by its C program, whichever is faster here.

    Args:
        graph: the network (has_faster_candidate).
        usual: PyTorch's simulator, on the CPU.
        samples: number of samples that will be run.
    """

    name = "auto"
    gives_logits_t = True
    cuts_batches = True

    def __init__(self, graph: Graph, usual: Simulator, samples: int) -> None:
        self._graph = graph
        self._usual = usual
        self._left = samples
        self._is_first = True  # which also proves kernels
        self._is_decided = False
        self._program: CSimulator | None = None  # once it was the faster one
        self.ran: set[str] = set()  # names of the backends that gave results

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        """Run a batch; see recording.Simulator."""
        count = inputs.shape[self._graph.input.batch_axis]
        self._left -= count
        if self._program is not None:
            return self._run_program(self._program, inputs, record)
        started = time.perf_counter()
        found = self._usual.run(inputs, record)
        self.ran.add(self._usual.name)
        seconds = time.perf_counter() - started
        if not self._is_decided and not self._is_first and count:
            self._decide(inputs, record, seconds, count)
        self._is_first = False
        return found

    def _decide(self, inputs: Array, record: Record, seconds: float, count: int) -> None:
        """Compile and time the program if that is worth it; `seconds` are PyTorch's."""
        compiling = _COMPILE_S * len(self._graph.nodes_of(Population))
        if self._left * seconds / count < _WORTH * compiling:
            return
        self._is_decided = True
        try:
            program = CSimulator(self._graph)
        except (BackendUnavailableError, ExportError, GraphError) as error:
            LOGGER.debug("no C program: %s; PyTorch runs all samples", first_line(error))
            return
        started = time.perf_counter()
        program.run(inputs, record)
        if time.perf_counter() - started < seconds:
            self._program = program

    def _run_program(self, program: CSimulator, inputs: Array, record: Record) -> Recording:
        """As PyTorch gives it: logits are quotients of integers, rounded to float32."""
        self.ran.add(program.name)
        found = program.run(inputs, record)
        logits_t = found.logits_t
        return replace(
            found,
            backend=self._usual.name,
            logits=found.logits.astype(np.float32),
            logits_t=None if logits_t is None else logits_t.astype(np.float32),
        )
