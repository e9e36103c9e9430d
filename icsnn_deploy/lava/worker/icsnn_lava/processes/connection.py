"""Linear connections that run a batch of images at a time, and delay lines."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from icsnn_lava.linear import LinearMap


class BatchConnection(AbstractProcess):  # type: ignore[misc]
    """The connection between two populations: a_out[t] = W s_in[t-1], delayed like Lava's own.

    Args:
        shape_in, shape_out: of the ports, batch first.
        linear: W.
        steady: the input is mostly the same as in the step before, so the result is kept.
    """

    def __init__(
        self,
        *,
        name: str,
        shape_in: tuple[int, ...],
        shape_out: tuple[int, ...],
        linear: LinearMap,
        steady: bool,
    ) -> None:
        super().__init__(name=name, linear=linear, steady=steady)
        self.s_in = InPort(shape=shape_in)
        self.a_out = OutPort(shape=shape_out)


class _ConnectionModel(PyLoihiProcessModel):  # type: ignore[misc]
    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._linear: LinearMap = proc_params["linear"]
        self._steady: bool = proc_params["steady"]
        self._last: Any = None
        self._buffer: Any = None

    def run_spk(self) -> None:
        if self._buffer is None:
            self._buffer = np.zeros(self.a_out.shape, self.a_out._d_type)
        self.a_out.send(self._buffer)
        # Not recv(): it sums over the port's sources, and this port has one.
        x = self.s_in.csp_ports[0].recv()
        if self._steady:
            if self._last is not None and np.array_equal(x, self._last):
                return
            self._last = x
        self._buffer = self._linear(x)


@implements(proc=BatchConnection, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class BatchConnectionFloat(_ConnectionModel):
    """In double precision."""

    s_in = LavaPyType(PyInPort.VEC_DENSE, np.float64)
    a_out = LavaPyType(PyOutPort.VEC_DENSE, np.float64)


@implements(proc=BatchConnection, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class BatchConnectionFixed(_ConnectionModel):
    """In integers; products are computed in a floating dtype that holds every partial sum."""

    s_in = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


class DelayLine(AbstractProcess):  # type: ignore[misc]
    """s_out[t] = s_in[t - delay]: delays a source whose path to a target is the shorter one."""

    def __init__(self, *, name: str, shape: tuple[int, ...], delay: int) -> None:
        super().__init__(name=name, delay=delay)
        self.s_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)


class _DelayLineModel(PyLoihiProcessModel):  # type: ignore[misc]
    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._line: deque[Any] = deque()
        self._delay: int = proc_params["delay"]

    def run_spk(self) -> None:
        if len(self._line) == self._delay:
            self.s_out.send(self._line.popleft())
        else:
            self.s_out.send(np.zeros(self.s_out.shape, self.s_out._d_type))
        self._line.append(self.s_in.csp_ports[0].recv())


@implements(proc=DelayLine, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class DelayLineFloat(_DelayLineModel):
    """For spikes and for analog input."""

    s_in = LavaPyType(PyInPort.VEC_DENSE, np.float64)
    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.float64)


@implements(proc=DelayLine, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class DelayLineFixed(_DelayLineModel):
    """For spikes and for integer input."""

    s_in = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32)
