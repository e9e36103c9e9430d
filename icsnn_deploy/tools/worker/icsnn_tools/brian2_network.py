"""A circuit in Brian2: every population a NeuronGroup, its synapses summed by Brian2.

Brian2 runs NumPy code (compiling takes minutes). Potentials are float64, exact for integers below
2^53. A population integrates and fires in its own T steps only, so that nothing has to be set while
Brian2 runs. As in the graph, potentials are integers plus 1/2 and never equal a threshold.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from icsnn_tools.serve import Circuit, Neurons, serve

_EQUATIONS = """
v : 1
current : 1
bias : 1
v_threshold : 1
v_reset : 1
first : 1 (shared)
last : 1 (shared)
active = int(t_in_timesteps >= first and t_in_timesteps <= last) : 1 (shared)
"""
_INTEGRATE = """
v = v + active * (current + bias)
current = 0
"""


def run(circuit: Circuit) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run every image from its initial potentials."""
    import brian2

    brian2.prefs.codegen.target = "numpy"
    brian2.defaultclock.dt = 1 * brian2.ms
    network = _Network(circuit)
    spikes = circuit.empty_spikes()
    for image in range(circuit.images):
        network.run(image, spikes)
        circuit.image_done()
    return spikes, {}


class _Network:
    """The groups, synapses and monitors of a circuit, as they are before an image."""

    def __init__(self, circuit: Circuit) -> None:
        import brian2

        self._circuit = circuit
        self._dt = brian2.defaultclock.dt
        self._inputs: dict[str, Any] = {}
        self._groups: dict[str, Any] = {}
        self._monitors: dict[str, Any] = {}
        for source in circuit.sources:
            group = brian2.SpikeGeneratorGroup(source.spikes.shape[2], [], [] * brian2.second)
            self._inputs[source.name] = group
        for each in circuit.neurons:
            group = self._population(each)
            self._groups[each.name] = group
            self._monitors[each.name] = brian2.SpikeMonitor(group)
        senders = {**self._inputs, **self._groups}
        synapses = [self._synapses(senders, some) for some in circuit.synapses]
        self._network = brian2.Network(
            *senders.values(), *self._monitors.values(), *(s for s in synapses if s is not None)
        )
        self._network.store()

    def run(self, image: int, spikes: dict[str, Any]) -> None:
        """Run one image, and write the spikes of each population's own steps."""
        self._network.restore()
        for source in self._circuit.sources:
            steps, neurons = np.nonzero(source.spikes[:, image])
            self._inputs[source.name].set_spikes(neurons, (steps + source.offset) * self._dt)
        self._network.run((self._circuit.time_steps + self._circuit.last_offset) * self._dt)
        for each in self._circuit.neurons:
            monitor = self._monitors[each.name]
            own = np.rint(np.asarray(monitor.t / self._dt)).astype(int) - each.offset
            spikes[each.name][own, image, np.asarray(monitor.i)] = 1

    def _population(self, each: Neurons) -> Any:
        import brian2

        group = brian2.NeuronGroup(
            each.count,
            _EQUATIONS,
            threshold="active > 0 and v >= v_threshold",
            reset="v -= v_threshold" if each.v_reset is None else "v = v_reset",
        )
        group.run_regularly(_INTEGRATE, when="groups")
        group.v = each.v_init + 0.5
        group.bias = each.bias
        group.v_threshold = each.v_threshold
        if each.v_reset is not None:
            group.v_reset = each.v_reset + 0.5
        group.first = each.offset
        group.last = each.offset + self._circuit.time_steps - 1
        return group

    def _synapses(self, senders: dict[str, Any], some: Any) -> Any:
        """The synapses of one pair of groups; None if there are none."""
        import brian2

        if not len(some.weights):
            return None
        synapses = brian2.Synapses(
            senders[some.source],
            senders[some.target],
            "weight : 1",
            on_pre="current_post += weight",
            delay=some.delay * self._dt,
        )
        rows = np.repeat(np.arange(len(some.starts) - 1), np.diff(some.starts))
        synapses.connect(i=rows, j=some.targets)
        synapses.weight = some.weights
        return synapses


if __name__ == "__main__":
    serve(run)
