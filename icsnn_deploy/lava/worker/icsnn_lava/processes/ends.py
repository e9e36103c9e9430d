"""Lava processes for the input, the readout and the recorders of a network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


class Source(AbstractProcess):  # type: ignore[misc]
    """Sends data[k] for `hold` steps, then data[k + 1]; zeros after the last.

    Args:
        data: [K, *shape of the port].
        hold: steps.
    """

    def __init__(self, *, name: str, data: Any, hold: int) -> None:
        super().__init__(name=name, data=data, hold=hold)
        self.s_out = OutPort(shape=data.shape[1:])


class _SourceModel(PyLoihiProcessModel):  # type: ignore[misc]
    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._data: Any = proc_params["data"]
        self._hold: int = proc_params["hold"]

    def run_spk(self) -> None:
        index = (self.time_step - 1) // self._hold
        has_data = index < len(self._data)
        self.s_out.send(self._data[index] if has_data else np.zeros_like(self._data[0]))


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class SourceFloat(_SourceModel):
    """In double precision."""

    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.float64)


@implements(proc=Source, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class SourceFixed(_SourceModel):
    """In integers."""

    s_out = LavaPyType(PyOutPort.VEC_DENSE, np.int32)


class _WriterModel(PyLoihiProcessModel):  # type: ignore[misc]
    """Appends to a file after step `offset`; unbuffered, because Lava kills its processes."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._offset: int = proc_params["offset"]
        self._path: Path = proc_params["path"]
        self._file: Any = None

    def write(self, data: Any) -> None:
        if self.time_step <= self._offset:
            return
        if self._file is None:
            self._file = self._path.open("wb", buffering=0)
        rest = memoryview(data.tobytes())
        while rest:  # one call may write a part only
            rest = rest[self._file.write(rest) :]


class SpikeRecorder(AbstractProcess):  # type: ignore[misc]
    """Writes the spikes of each step as packed bits, padded to whole bytes."""

    def __init__(self, *, name: str, shape: tuple[int, ...], offset: int, path: Path) -> None:
        super().__init__(name=name, offset=offset, path=path)
        self.s_in = InPort(shape=shape)


@implements(proc=SpikeRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class SpikeRecorderModel(_WriterModel):
    """Accepts spikes of any dtype."""

    s_in = LavaPyType(PyInPort.VEC_DENSE, np.uint8)

    def run_spk(self) -> None:
        self.write(np.packbits(self.s_in.csp_ports[0].recv() != 0))


class Readout(AbstractProcess):  # type: ignore[misc]
    """Writes the current of the output layer at each step, as float64 or int32.

    It also writes one byte per step to the heartbeat pipe, which the parent process reads.
    """

    def __init__(
        self,
        *,
        name: str,
        shape: tuple[int, ...],
        bias: Any,
        offset: int,
        path: Path,
        heartbeat: int,
    ) -> None:
        super().__init__(name=name, offset=offset, path=path, heartbeat=heartbeat)
        self.a_in = InPort(shape=shape)
        self.bias = Var(shape=bias.shape, init=bias)


class _ReadoutModel(_WriterModel):
    def run_spk(self) -> None:
        self.write(self.a_in.recv() + self.bias)
        os.write(self.proc_params["heartbeat"], b".")


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class ReadoutFloat(_ReadoutModel):
    """In double precision."""

    a_in = LavaPyType(PyInPort.VEC_DENSE, np.float64)
    bias = LavaPyType(np.ndarray, np.float64)


@implements(proc=Readout, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class ReadoutFixed(_ReadoutModel):
    """In integers."""

    a_in = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    bias = LavaPyType(np.ndarray, np.int32)


class VarRecorder(AbstractProcess):  # type: ignore[misc]
    """Writes a Var of another process at the end of each step, as float64."""

    def __init__(self, *, name: str, var: Var, offset: int, path: Path) -> None:
        super().__init__(name=name, offset=offset, path=path)
        self.state = RefPort(var.shape)
        self.state.connect_var(var)


class _VarRecorderModel(_WriterModel):
    def post_guard(self) -> bool:
        return True

    def run_post_mgmt(self) -> None:
        self.write(self.state.read().astype(np.float64))


@implements(proc=VarRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class VarRecorderFloat(_VarRecorderModel):
    """In double precision."""

    state = LavaPyType(PyRefPort.VEC_DENSE, np.float64)


@implements(proc=VarRecorder, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class VarRecorderFixed(_VarRecorderModel):
    """In integers."""

    state = LavaPyType(PyRefPort.VEC_DENSE, np.int32)
