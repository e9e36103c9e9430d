"""Run two neurons in Lava and compare their spikes with the equation.

    python -m icsnn_lava.selftest

Prints the versions as one JSON object; on any fault, a traceback and exit code 1.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import version
from typing import Any

import numpy as np

from icsnn_lava import shim

_INPUT = np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]])
_WEIGHTS = np.array([[2, 0], [-2, 6]])
_V_THRESHOLD = 5


def expected_spikes() -> Any:
    """The expected spikes of Lava's LIF without leak: fire above v_threshold, reset to 0.

    v[t] = v[t-1] + W x[t-1];  s[t] = v[t] > v_threshold;  v[t] = 0 after a spike
    """
    v = np.zeros(2, int)
    spikes = np.zeros_like(_INPUT)
    for t in range(1, _INPUT.shape[1]):  # a connection delays its input by one step
        v += _WEIGHTS @ _INPUT[:, t - 1]
        spikes[:, t] = v > _V_THRESHOLD
        v[v > _V_THRESHOLD] = 0
    return spikes


def lava_spikes() -> Any:
    """The same two neurons in Lava's fixed-point simulation."""
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.dense.process import Dense
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIF

    source = Source(data=_INPUT)
    dense = Dense(weights=_WEIGHTS)
    neurons = LIF(
        shape=(2,), du=4095, dv=0, vth=_V_THRESHOLD
    )  # the current decays at once, v never
    sink = Sink(shape=(2,), buffer=_INPUT.shape[1])
    source.s_out.connect(dense.s_in)
    dense.a_out.connect(neurons.a_in)
    neurons.s_out.connect(sink.a_in)
    try:  # without stop() the interpreter does not end
        neurons.run(RunSteps(num_steps=_INPUT.shape[1]), Loihi2SimCfg(select_tag="fixed_pt"))
        return sink.data.get()
    finally:
        neurons.stop()


def main() -> None:
    shim.apply()
    got, expected = lava_spikes(), expected_spikes()
    if not np.array_equal(got, expected):
        sys.exit(f"Lava's neurons fired {got.tolist()}, expected {expected.tolist()}")
    versions = {name: version(name) for name in ("lava-nc", "numpy")}
    json.dump({"python": platform.python_version(), **versions}, sys.stdout)


if __name__ == "__main__":
    main()
