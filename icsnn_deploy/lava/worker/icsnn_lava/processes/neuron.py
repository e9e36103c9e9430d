"""Integrate-and-fire neurons with soft reset, or with hard reset, as Lava processes."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

_LIMIT = 2**23  # Loihi's potentials have 24 bits


class SoftResetIF(AbstractProcess):  # type: ignore[misc]
    """One population, for a batch of images.

        u[t] = v[t-1] + a_in[t] + bias;  s[t] = u[t] >= v_threshold;  v[t] = u[t] - v_threshold s[t]

    In the first `offset` steps, until spikes have passed the layers before it, it does nothing.
    After that v is set to v_init every `period` steps, when the next images start.

    Args:
        shape: of the ports.
        v_threshold, v_init, bias: broadcastable to the shape.
        offset: steps.
        period: steps of one image.
    """

    def __init__(
        self,
        *,
        name: str,
        shape: tuple[int, ...],
        v_threshold: Any,
        v_init: Any,
        bias: Any,
        offset: int,
        period: int,
    ) -> None:
        super().__init__(name=name, offset=offset, period=period)
        self.a_in = InPort(shape=shape)
        self.s_out = OutPort(shape=shape)
        self.u = Var(shape=shape, init=0)
        self.v = Var(shape=shape, init=0)
        self.v_threshold = Var(shape=v_threshold.shape, init=v_threshold)
        self.v_init = Var(shape=v_init.shape, init=v_init)
        self.bias = Var(shape=bias.shape, init=bias)
        self.overflows = Var(shape=(1,), init=0)


class HardResetIF(SoftResetIF):
    """The same, but with hard reset: v[t] = v_reset after a spike, else u[t].

    Args:
        v_reset: broadcastable to the shape.
    """

    def __init__(
        self,
        *,
        name: str,
        shape: tuple[int, ...],
        v_threshold: Any,
        v_init: Any,
        v_reset: Any,
        bias: Any,
        offset: int,
        period: int,
    ) -> None:
        super().__init__(
            name=name,
            shape=shape,
            v_threshold=v_threshold,
            v_init=v_init,
            bias=bias,
            offset=offset,
            period=period,
        )
        self.v_reset = Var(shape=v_reset.shape, init=v_reset)


class _SoftResetModel(PyLoihiProcessModel):  # type: ignore[misc]
    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.uint8)
    overflows = LavaPyType(np.ndarray, np.int64)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._offset: int = proc_params["offset"]
        self._period: int = proc_params["period"]

    def run_spk(self) -> None:
        current = self.a_in.recv()
        step = self.time_step - 1 - self._offset
        if step < 0:
            self.s_out.send(np.zeros(self.v.shape, np.uint8))
            return
        if step % self._period == 0:
            self.v[:] = self.v_init
        np.add(self.v, current, out=self.u)
        self.u += self.bias
        self.saturate()
        s = (self.u >= self.v_threshold).view(np.uint8)
        self.s_out.send(s)
        self.reset(s)

    def reset(self, s: Any) -> None:
        """Compute v from u and the spikes."""
        np.multiply(s, self.v_threshold, out=self.v)
        np.subtract(self.u, self.v, out=self.v)

    def saturate(self) -> None:
        """Limit u to the range of its register."""


class _InFloats(_SoftResetModel):
    """In double precision."""

    a_in = LavaPyType(PyInPort.VEC_DENSE, np.float64)
    u = LavaPyType(np.ndarray, np.float64)
    v = LavaPyType(np.ndarray, np.float64)
    v_threshold = LavaPyType(np.ndarray, np.float64)
    v_init = LavaPyType(np.ndarray, np.float64)
    bias = LavaPyType(np.ndarray, np.float64)


class _InIntegers(_SoftResetModel):
    """In saturating 24-bit integers; `overflows` counts the saturated potentials."""

    a_in = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    u = LavaPyType(np.ndarray, np.int32, precision=24)
    v = LavaPyType(np.ndarray, np.int32, precision=24)
    v_threshold = LavaPyType(np.ndarray, np.int32, precision=24)
    v_init = LavaPyType(np.ndarray, np.int32, precision=24)
    bias = LavaPyType(np.ndarray, np.int32, precision=24)

    def saturate(self) -> None:
        if self.u.max(initial=0) < _LIMIT and self.u.min(initial=0) >= -_LIMIT:
            return
        self.overflows += np.count_nonzero((self.u >= _LIMIT) | (self.u < -_LIMIT))
        np.clip(self.u, -_LIMIT, _LIMIT - 1, out=self.u)


@implements(proc=SoftResetIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class SoftResetFloat(_InFloats):
    """v -= v_threshold, in double precision."""


@implements(proc=SoftResetIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SoftResetFixed(_InIntegers):
    """v -= v_threshold, in integers."""


@implements(proc=HardResetIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class HardResetFloat(_InFloats):
    """v = v_reset, in double precision."""

    v_reset = LavaPyType(np.ndarray, np.float64)

    def reset(self, s: Any) -> None:
        self.v[:] = np.where(s, self.v_reset, self.u)


@implements(proc=HardResetIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class HardResetFixed(_InIntegers):
    """v = v_reset, in integers."""

    v_reset = LavaPyType(np.ndarray, np.int32, precision=24)

    def reset(self, s: Any) -> None:
        self.v[:] = np.where(s, self.v_reset, self.u)
