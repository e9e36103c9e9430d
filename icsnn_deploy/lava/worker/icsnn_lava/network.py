"""Build a Lava network from a list of processes and wires, and run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.lif.process import LIF
from lava.proc.sparse.process import Sparse
from scipy.sparse import csr_matrix

from icsnn_lava.follow import follow
from icsnn_lava.linear import Layer, LinearMap
from icsnn_lava.processes.connection import BatchConnection, DelayLine
from icsnn_lava.processes.ends import Readout, Source, SpikeRecorder, VarRecorder
from icsnn_lava.processes.neuron import HardResetIF, SoftResetIF

_CHANNEL_SLOTS = 2
"""Messages that a channel holds. Lava's default of 64 would need gigabytes of shared memory."""


def find_models_once() -> None:
    """Make Lava look up process models once per class, not once per process.

    Each lookup executes the source files next to the process class, which takes about 8 ms.
    """
    find, cache = ProcGroupDiGraphs._find_proc_models, {}

    def cached(proc: Any) -> Any:
        cls = type(proc)
        if cls not in cache:
            cache[cls] = find(proc)
        return cache[cls]

    ProcGroupDiGraphs._find_proc_models = staticmethod(cached)


class Network:
    """One network, built from the parent process's request.

    Args:
        folder: for the recordings.
        description: tag, steps, processes and wires.
        arrays: by the keys that the processes name.
        heartbeat: file descriptor to which one byte per step is written.
    """

    def __init__(
        self,
        folder: Path,
        description: Mapping[str, Any],
        arrays: Mapping[str, Any],
        heartbeat: int,
    ) -> None:
        self._folder, self._heartbeat = folder, heartbeat
        self._tag: str = description["tag"]
        self._steps: int = description["steps"]
        self._integer = self._tag == "fixed_pt"
        self._processes: dict[str, Any] = {}
        for entry in description["processes"]:
            values = {**entry["options"]}
            values.update({name: arrays[key] for name, key in entry["arrays"].items()})
            make = _MAKERS[entry["kind"]]
            self._processes[entry["name"]] = make(self, entry["name"], values)
        for source, target, transforms in description["wires"]:
            self._connect(source, target, transforms)

    def run(self) -> dict[str, int]:
        """Run all steps; returns how often potentials of each population exceeded their range.

        Raises:
            ProcessError: one of Lava's processes failed; the others are still running.
        """
        first = next(iter(self._processes.values()))
        config = Loihi2SimCfg(select_tag=self._tag)
        first.create_runtime(config, compile_config={"pypy_channel_size": _CHANNEL_SLOTS})
        first.run(RunSteps(num_steps=self._steps, blocking=False))
        follow(first.runtime)
        overflows = {
            name: int(process.overflows.get()[0])
            for name, process in self._processes.items()
            if isinstance(process, SoftResetIF) and self._integer
        }
        first.stop()
        return overflows

    def _connect(self, source: str, target: str, transforms: list[Any]) -> None:
        start, end = self._processes[source], self._processes[target]
        port = start.s_out if hasattr(start, "s_out") else start.a_out
        for operation, axes in transforms:
            port = getattr(port, operation)(tuple(axes))
        port.connect(end.s_in if hasattr(end, "s_in") else end.a_in)

    def _source(self, name: str, values: Mapping[str, Any]) -> Any:
        return Source(name=name, data=values["data"], hold=values["hold"])

    def _soft_reset_if(self, name: str, values: Mapping[str, Any]) -> Any:
        return SoftResetIF(**_population(name, values))

    def _hard_reset_if(self, name: str, values: Mapping[str, Any]) -> Any:
        return HardResetIF(v_reset=values["v_reset"], **_population(name, values))

    def _batch_connection(self, name: str, values: Mapping[str, Any]) -> Any:
        layers = tuple(
            Layer(
                name=layer["name"],
                kind=layer["kind"],
                inputs=tuple(layer["inputs"]),
                geometry=layer["geometry"],
                array=values.get(f"layer{number}"),
            )
            for number, layer in enumerate(values["layers"])
        )
        return BatchConnection(
            name=name,
            shape_in=tuple(values["shape_in"]),
            shape_out=tuple(values["shape_out"]),
            linear=LinearMap(values["source"], layers, values["dtype"], self._integer),
            steady=values["steady"],
        )

    def _delay_line(self, name: str, values: Mapping[str, Any]) -> Any:
        return DelayLine(name=name, shape=tuple(values["shape"]), delay=values["delay"])

    def _spike_recorder(self, name: str, values: Mapping[str, Any]) -> Any:
        path = self._folder / values["file"]
        return SpikeRecorder(
            name=name, shape=tuple(values["shape"]), offset=values["offset"], path=path
        )

    def _var_recorder(self, name: str, values: Mapping[str, Any]) -> Any:
        var = getattr(self._processes[values["process"]], values["var"])
        path = self._folder / values["file"]
        return VarRecorder(name=name, var=var, offset=values["offset"], path=path)

    def _readout(self, name: str, values: Mapping[str, Any]) -> Any:
        return Readout(
            name=name,
            shape=tuple(values["shape"]),
            bias=values["bias"],
            offset=values["offset"],
            path=self._folder / values["file"],
            heartbeat=self._heartbeat,
        )

    def _lif(self, name: str, values: Mapping[str, Any]) -> Any:
        shape = tuple(values["shape"])
        return LIF(
            name=name,
            shape=shape,
            u=values["u"],
            v=0,
            du=values["du"],
            dv=values["dv"],
            vth=values["vth"],
        )

    def _dense(self, name: str, values: Mapping[str, Any]) -> Any:
        return Dense(
            name=name,
            weights=values["weight"],
            weight_exp=values["weight_exp"],
            num_message_bits=values["message_bits"],
        )

    def _sparse(self, name: str, values: Mapping[str, Any]) -> Any:
        entries = (values["value"], (values["row"], values["column"]))
        return Sparse(
            name=name,
            weights=csr_matrix(entries, shape=tuple(values["shape"])),
            weight_exp=values["weight_exp"],
            num_message_bits=values["message_bits"],
        )

    def _conv(self, name: str, values: Mapping[str, Any]) -> Any:
        return Conv(
            name=name,
            weight=values["weight"],
            input_shape=tuple(values["input_shape"]),
            padding=tuple(values["padding"]),
            stride=tuple(values["stride"]),
            dilation=tuple(values["dilation"]),
            groups=values["groups"],
            num_message_bits=values["message_bits"],
        )


def _population(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a population that do not depend on its reset."""
    fields = ("v_threshold", "v_init", "bias", "offset", "period")
    return {
        "name": name,
        "shape": tuple(values["shape"]),
        **{field: values[field] for field in fields},
    }


_MAKERS: dict[str, Callable[[Network, str, Mapping[str, Any]], Any]] = {
    "source": Network._source,
    "soft-reset-if": Network._soft_reset_if,
    "hard-reset-if": Network._hard_reset_if,
    "batch-connection": Network._batch_connection,
    "delay-line": Network._delay_line,
    "spike-recorder": Network._spike_recorder,
    "var-recorder": Network._var_recorder,
    "readout": Network._readout,
    "lif": Network._lif,
    "dense": Network._dense,
    "sparse": Network._sparse,
    "conv": Network._conv,
}
