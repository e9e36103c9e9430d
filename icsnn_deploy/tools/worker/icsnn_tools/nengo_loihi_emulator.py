"""A circuit in nengo-loihi's emulator of Loihi 1, from its low-level blocks.

Loihi's neuron resets hard, so the potential is kept in the synaptic current u, which does not decay
(decay_u), and v follows it (decay_v = 4096). A synapse of weight -v_threshold from each neuron to
itself subtracts the threshold one step after its spike, which is soft reset:

    u[t] = u[t-1] + I[t] - v_threshold * s[t-1];    s[t] = u[t] >= v_threshold

v does not accumulate, so the bias register can't be used: the bias is the weight of an input that
spikes at every step of a population (the gate). Weights are even numbers on Loihi, and are added 6
bits up; the lattice is doubled. decay_u = -1 keeps u exactly, 0 loses 1/4096 of it per step.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from icsnn_tools.serve import Circuit, Neurons, serve

STEP = 2  # weights are even
SHIFT = 6  # bits that weights are added above those of u
U_MAX = 2**23 - 1
DECAY_ALL = 4096


def run(circuit: Circuit) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run every image; raises SimulationError where a register overflows."""
    warnings.simplefilter("ignore")
    from nengo_loihi.builder import Model
    from nengo_loihi.emulator.interface import EmulatorInterface

    EmulatorInterface.strict = True  # an overflow is an error
    network = _Network(circuit, Model())
    spikes = circuit.empty_spikes()
    for image in range(circuit.images):
        network.send(image)
        emulator = EmulatorInterface(network.model, seed=0)
        with emulator:
            _follow(circuit, network, emulator, image, spikes)
        circuit.image_done()
    return spikes, {}


def _follow(
    circuit: Circuit, network: _Network, emulator: Any, image: int, spikes: dict[str, Any]
) -> None:
    """Step the emulator, set each population's initial u before its first step, record it."""
    state = emulator.compartment
    for step in range(1, circuit.time_steps + circuit.last_offset + 1):
        for each in circuit.neurons:
            if step == each.offset + 1:
                place = emulator.block_info.slices[network.blocks[each.name]]
                state.current[place] = (each.v_init * STEP) << SHIFT
        emulator.step()
        for each in circuit.neurons:
            own = step - each.offset - 1
            if 0 <= own < circuit.time_steps:
                place = emulator.block_info.slices[network.blocks[each.name]]
                spikes[each.name][own, image] = state.spiked[place]


class _Network:
    """The blocks, synapses and inputs of a circuit."""

    def __init__(self, circuit: Circuit, model: Any) -> None:
        from nengo_loihi.inputs import SpikeInput

        self.model, self._circuit = model, circuit
        self.blocks: dict[str, Any] = {}
        self._senders: dict[tuple[str, int], Any] = {}  # by source and additional delay
        self._inputs: dict[str, Any] = {}
        self._gates: dict[str, Any] = {}
        for source in circuit.sources:
            self._inputs[source.name] = SpikeInput(source.spikes.shape[2], label=source.name)
            self._senders[source.name, 0] = self._inputs[source.name]
        for each in circuit.neurons:
            self.blocks[each.name] = self._population(each)
            self._senders[each.name, 0] = self.blocks[each.name]
        for some in circuit.synapses:
            sender = self._delayed(some.source, some.delay, len(some.starts) - 1)
            self._connect(sender, self.blocks[some.target], list(some.rows()))
        for block in self.blocks.values():
            model.add_block(block)
        for sender in (*self._inputs.values(), *self._gates.values()):
            model.add_input(sender)

    def send(self, image: int) -> None:
        """Set the spikes of the inputs and the gates for one image."""
        for source in self._circuit.sources:
            sender = self._inputs[source.name]
            sender.spikes.clear()
            for step, row in enumerate(source.spikes[:, image]):
                sender.add_spikes(source.offset + 1 + step, np.nonzero(row)[0])
        for each in self._circuit.neurons:
            if each.name in self._gates:
                gate = self._gates[each.name]
                gate.spikes.clear()
                for step in range(self._circuit.time_steps):
                    gate.add_spikes(each.offset + step, np.zeros(1, np.int64))

    def _population(self, each: Neurons) -> Any:
        from nengo_loihi.inputs import SpikeInput

        decay = int(self._circuit.settings["decay_u"])
        # u is floor(u) lattice units: it reaches v_threshold where it exceeds v_threshold - 1/2.
        threshold = (each.v_threshold * STEP - 1) << SHIFT
        block = _block(each.name, threshold, decay)
        neurons = np.arange(each.count)
        self._connect(
            block, block, [(neurons[i : i + 1], -each.v_threshold[i : i + 1]) for i in neurons]
        )
        if each.bias.any():
            gate = SpikeInput(1, label=f"gate of {each.name}")
            self._connect(gate, block, [(neurons, each.bias)])
            self._gates[each.name] = gate
        return block

    def _delayed(self, source: str, delay: int, count: int) -> Any:
        """What sends a source's spikes `delay` steps late: a chain of blocks that repeat them."""
        if (source, delay) not in self._senders:
            before = self._delayed(source, delay - 1, count)
            name = f"{source} + {delay}"
            block = _block(name, np.zeros(count, np.int64), DECAY_ALL - 1)
            one = np.ones(1, np.int64)
            self._connect(before, block, [(np.full(1, i), one) for i in range(count)])
            self.blocks[name] = self._senders[source, delay] = block
        return self._senders[source, delay]

    def _connect(self, sender: Any, block: Any, rows: list[tuple[Any, Any]]) -> None:
        from nengo_loihi.block import Axon, Synapse

        synapse = Synapse(len(rows))
        synapse._set_weights_indices(
            [_register(weights)[None] for _, weights in rows],
            indices=[np.asarray(targets, np.int32)[None] for targets, _ in rows],
            weight_dtype=np.int32,
        )
        block.add_synapse(synapse)
        axon = Axon(len(rows))
        axon.target = synapse
        sender.add_axon(axon)


def _block(name: str, threshold: Any, decay_u: int) -> Any:
    from nengo_loihi.block import LoihiBlock

    block = LoihiBlock(len(threshold), label=name)
    neurons = block.compartment
    neurons.decay_u = np.full(len(threshold), decay_u, np.int32)
    neurons.decay_v = np.full(len(threshold), DECAY_ALL, np.int32)
    neurons.scale_u = neurons.scale_v = False
    neurons.vth = _fitting(threshold, U_MAX, f"{name}: v_threshold")
    neurons.bias = np.zeros(len(threshold), np.int32)
    neurons.refract_delay = np.zeros(len(threshold), np.int32)
    neurons.vmin, neurons.vmax = -U_MAX, U_MAX
    return block


def _register(weights: Any) -> Any:
    return _fitting((np.asarray(weights, np.int64) * STEP) << SHIFT, 2**31 - 1, "weight")


def _fitting(values: Any, most: int, what: str) -> Any:
    if len(values) and np.abs(values).max() > most:
        raise OverflowError(f"{what} of {np.abs(values).max():,} in Loihi's units; {most:,} fit")
    return np.asarray(values, np.int32)


if __name__ == "__main__":
    serve(run)
