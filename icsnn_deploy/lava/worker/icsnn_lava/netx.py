"""Run a .net file that icsnn-deploy wrote in lava-dl's netx, with soft reset.

    python -m icsnn_lava.netx FILE.net INPUTS.npy RESULT.npz

Needs an environment with lava-dl 0.6.0 (Python 3.10). INPUTS holds [N, *input shape], in the form
that the network takes; RESULT gets logits [N, classes], and spikes [T, N, *shape] by population.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from lava.lib.dl.netx import hdf5
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.monitor.process import Monitor

from icsnn_lava.processes.ends import Source
from icsnn_lava.processes.neuron import SoftResetIF

KEY = "icsnn_deploy"
V_THRESHOLD, V_INIT, NAME = "icsnn_v_threshold", "icsnn_v_init", "icsnn_name"

_MESSAGE_BITS = 16  # of the analog input
_MAX_BYTES = 2**30
_MAX_THRESHOLD = 2**23 - 1


@dataclass(frozen=True)
class NetxHeader:
    """The metadata that icsnn-deploy adds to lava-dl's own fields."""

    time_steps: int
    readout_start: int
    zero_point: list[int] | None
    populations: list[str]  # names, from input to readout


def read_header(path: Path) -> NetxHeader:
    """Check the file and read the header; raises ValueError."""
    with h5py.File(path, "r") as file:
        _check(file, path)
        if KEY not in file:
            raise ValueError(f"{path}: was not written by icsnn-deploy (no {KEY!r})")
        header = json.loads(file[KEY][()])
        layers = [file["layer"][str(number)] for number in range(len(file["layer"]))]
        names = [layer[NAME][()].decode() for layer in layers if "neuron" in layer]
    if header.get("reset") != "subtract" or header.get("encoding") != "direct":
        raise ValueError(f"{path}: only reset 'subtract' and encoding 'direct' can be run")
    steps, start = header["time_steps"], header["readout_start"]
    if not (isinstance(steps, int) and isinstance(start, int) and 0 <= start < steps <= 2**16):
        raise ValueError(
            f"{path}: time_steps {steps!r}, readout_start {start!r}; integers "
            f"0 <= readout_start < time_steps <= {2**16} are needed"
        )
    return NetxHeader(steps, start, header["zero_point"], names)


def _check(group: Any, path: Path) -> None:
    """Refuse links, external data and datasets that are too large; raises ValueError."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{path}: {group.name}/{name} is a link, which is not allowed")
        item = group[name]
        if isinstance(item, h5py.Group):
            _check(item, path)
        elif item.external or item.is_virtual or item.dtype.kind not in "iubS":
            raise ValueError(f"{path}: {item.name} is not a plain array of integers or bytes")
        elif item.nbytes > _MAX_BYTES:
            raise ValueError(
                f"{path}: {item.name} holds {item.nbytes} bytes; at most {_MAX_BYTES} are allowed"
            )


def load(path: Path) -> Any:
    """Load the file as lava-dl's Network, with soft-reset populations.

    netx looks neurons up by name, so a subclass has no effect; its lookup is replaced while the
    network is built. Layer l starts l steps late, because each connection delays by one step.
    """
    period = read_header(path).time_steps
    original = hdf5.Network.get_neuron_params
    hdf5.Network.get_neuron_params = staticmethod(_neuron_params)
    try:
        return hdf5.Network(
            net_config=str(path), input_message_bits=_MESSAGE_BITS, reset_interval=period
        )
    finally:
        hdf5.Network.get_neuron_params = original


def _neuron_params(
    neuron_config: Any,
    input: bool = False,  # noqa: A002 (netx passes it by this name)
    reset_interval: int | None = None,
    reset_offset: int = 0,
    spike_exp: int = 6,
) -> dict[str, Any]:
    """The parameters that netx builds a population from; replaces Network.get_neuron_params.

    The readout has no neuron in the file, and netx passes a dict for it. Its period is 1, so that
    v is reset at every step and u is the current of that step.
    """
    readout = isinstance(neuron_config, dict)
    group: Any = None if readout else neuron_config.f
    return {
        "neuron_proc": SoftResetIF,
        "bias_key": "bias",
        "name": "readout" if readout else "population",
        "v_threshold": np.array([_MAX_THRESHOLD]) if readout else _reversed(group[V_THRESHOLD]),
        "v_init": np.array([0]) if readout else _reversed(group[V_INIT]),
        "offset": reset_offset,
        "period": 1 if readout else reset_interval,
    }


def _reversed(values: Any) -> Any:
    """Transpose an array from [C, H, W] to Lava's [W, H, C]."""
    return np.ascontiguousarray(values[()].T)


def run(path: Path, inputs: Any) -> dict[str, Any]:
    """Run a file; returns logits and spikes. Raises ValueError if a potential exceeds 24 bits.

    Args:
        path: a .net file of icsnn-deploy.
        inputs: [N, *input shape], integers, before the zero point is subtracted.
    """
    header, network = read_header(path), load(path)
    steps, count = header.time_steps, len(inputs)
    data = inputs.astype(np.int32)
    if header.zero_point is not None:
        data = data - np.array(header.zero_point, np.int32).reshape(-1, 1, 1)
    shape = network.inp.shape
    if len(shape) > 1:
        data = data.transpose(0, 3, 2, 1)  # [N, W, H, C]
    source = Source(name="input", data=data.reshape(count, *shape), hold=steps)
    source.s_out.connect(network.inp)
    length = count * steps + len(network.layers)
    sinks = []
    for layer in network.layers[:-1]:
        sinks.append(Sink(shape=layer.neuron.s_out.shape, buffer=length))
        layer.neuron.s_out.connect(sinks[-1].a_in)
    readout, monitor = network.layers[-1].neuron, Monitor()
    monitor.probe(readout.u, length)
    try:  # without stop() the interpreter does not end
        network.run(RunSteps(num_steps=length), Loihi2SimCfg(select_tag="fixed_pt"))
        recorded = [sink.data.get() for sink in sinks]
        currents = monitor.get_data()[readout.name][readout.u.name]
        overflows = [int(layer.neuron.overflows.get()[0]) for layer in network.layers]
    finally:
        network.stop()
    if any(overflows[1:]):  # the first layer's current is constant: saturation changes no spike
        raise ValueError(f"{path}: potentials exceeded 24 bits, by layer {overflows} times")
    result = {}
    named = zip(header.populations, recorded, strict=True)
    for offset, (name, spikes) in enumerate(named, start=1):
        window = spikes[..., offset : offset + count * steps].astype(np.uint8).T  # [N T, *shape]
        window = window.reshape(count, steps, *window.shape[1:])
        result[f"spikes/{name}"] = np.ascontiguousarray(window.swapaxes(0, 1))  # [T, N, *shape]
    start = len(network.layers)
    window = currents[start : start + count * steps].reshape(count, steps, -1)
    result["logits"] = window[:, header.readout_start :].mean(axis=1)
    return result


def main() -> None:
    path, inputs, result = (Path(argument) for argument in sys.argv[1:])
    np.savez(result, **run(path, np.load(inputs, allow_pickle=False)))


if __name__ == "__main__":
    main()
