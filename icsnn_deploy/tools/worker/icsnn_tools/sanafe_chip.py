"""A circuit on SANA-FE's model of Loihi: spikes, and the time and energy that it estimates.

Each population is placed on cores of its own, in order. A population is only updated in the T steps
of its own: its initial potential and bias are set before, and cleared after them. A join's shorter
path goes through neurons that repeat its spikes, because SANA-FE's dendrite with delays adds steps;
what they cost is part of the totals, and their events are counted apart.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from icsnn_tools.serve import Circuit, Neurons, serve

SYNAPSE = "loihi_sparse_synapse"
INPUTS_PER_CORE = 1024  # input units of a core in sanafe's loihi.yaml


def run(circuit: Circuit) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run every image; the report has one entry per image, and the placement."""
    placed = _Placed(circuit)
    spikes = circuit.empty_spikes()
    images = []
    for image in range(circuit.images):
        images.append(_run_image(circuit, placed, image, spikes))
        circuit.image_done()
    return spikes, {"images": images, "cores": placed.cores_used}


def _run_image(
    circuit: Circuit, placed: _Placed, image: int, spikes: dict[str, Any]
) -> dict[str, Any]:
    placed.send(image)
    total: dict[str, float] = {"synaptic_events": 0, "packets": 0, "seconds": 0.0}
    energy: dict[str, float] = {}
    steps = circuit.time_steps
    for step in range(steps + circuit.last_offset):
        for each in circuit.neurons:
            if step == each.offset:
                placed.start(each)
            elif step == each.offset + steps:
                placed.stop(each)
        found = placed.chip.sim(1, spike_trace=True, processing_threads=1)
        total["synaptic_events"] += found["spikes"]
        total["packets"] += found["packets_sent"]
        total["seconds"] += found["sim_time"]
        for part, joules in found["energy"].items():
            energy[part] = energy.get(part, 0.0) + joules
        for address in found["spike_trace"][0]:
            own = placed.recorded.get(address.group_name)
            if own is not None and 0 <= step - own.offset < steps:
                spikes[own.name][step - own.offset, image, address.neuron_offset] = 1
    for each in circuit.neurons:
        placed.stop(each)
    events, repeated = placed.events(image, spikes)
    return {**total, "joules": energy, "events": events, "repeated_events": repeated}


class _Placed:
    """The network on the cores of a chip."""

    def __init__(self, circuit: Circuit) -> None:
        import sanafe

        self._circuit, self._network = circuit, sanafe.Network()
        self._architecture = sanafe.load_loihi()
        self._free = iter(self._architecture.cores())
        self.cores_used: dict[str, int] = {}
        self._groups: dict[tuple[str, int], Any] = {}  # by source and additional delay
        self.recorded = {f"neurons{n}": each for n, each in enumerate(circuit.neurons)}
        self._names = {each.name: name for name, each in self.recorded.items()}
        for number, source in enumerate(circuit.sources):
            self._groups[source.name, 0] = self._inputs(
                f"source{number}", source.name, source.spikes.shape[2]
            )
        for each in circuit.neurons:
            name = self._names[each.name]
            self._groups[each.name, 0] = self._population(name, each.name, each.v_threshold)
        for some in circuit.synapses:
            sender = self._delayed(some.source, some.delay, len(some.starts) - 1)
            _connect(sender, self._groups[some.target, 0], list(some.rows()))
        self.chip = sanafe.SpikingChip(self._architecture)
        self.chip.load(self._network)

    def send(self, image: int) -> None:
        """Set the spikes of the inputs for one image."""
        for number, source in enumerate(self._circuit.sources):
            group = self.chip.mapped_neuron_groups[f"source{number}"]
            before = [False] * source.offset
            for neuron, row in zip(group, source.spikes[:, image].T.astype(bool), strict=True):
                neuron.set_attributes(model_attributes={"spikes": before + row.tolist()})

    def start(self, each: Neurons) -> None:
        """Set the initial potentials and the biases of a population, and update it from now on."""
        group = self.chip.mapped_neuron_groups[self._names[each.name]]
        for neuron, v, bias in zip(group, each.v_init, each.bias, strict=True):
            neuron.set_attributes(
                model_attributes={
                    "potential": float(v) + 0.5,
                    "bias": float(bias),
                    "force_update": True,
                }
            )

    def stop(self, each: Neurons) -> None:
        """Silence a population after its last step."""
        quiet = {"potential": 0.0, "bias": 0.0, "force_update": False}
        for neuron in self.chip.mapped_neuron_groups[self._names[each.name]]:
            neuron.set_attributes(model_attributes=quiet)

    def events(self, image: int, spikes: dict[str, Any]) -> tuple[dict[str, int], int]:
        """Spikes times synapses, into each target; and into the neurons that repeat spikes."""
        sent = {source.name: source.spikes[:, image] for source in self._circuit.sources}
        sent |= {name: own[:, image] for name, own in spikes.items()}
        found: dict[str, int] = {}
        for some in self._circuit.synapses:
            counts = sent[some.source].sum(axis=0, dtype=np.int64)
            events = int((counts * np.diff(some.starts)).sum())
            found[some.target] = found.get(some.target, 0) + events
        repeated = sum(int(sent[name].sum()) for name, delay in self._groups if delay)
        return found, repeated

    def _population(self, name: str, title: str, threshold: Any, reset: str = "soft") -> Any:
        """A group of neurons, which fire above their threshold: v is 1/2 above floor(v)."""
        count = len(threshold)
        group = self._network.create_neuron_group(
            name,
            count,
            soma_hw_name="loihi_lif",
            default_synapse_hw_name=SYNAPSE,
            default_dendrite_hw_name="loihi_dendrites",
            log_spikes=True,
            model_attributes={"reset_mode": reset, "leak_decay": 1.0},
        )
        for neuron, value in zip(group, threshold, strict=True):
            neuron.set_attributes(model_attributes={"threshold": float(value)})
        self._place(group, title, count, int(self._circuit.settings["neurons_per_core"]))
        return group

    def _inputs(self, name: str, title: str, count: int) -> Any:
        group = self._network.create_neuron_group(name, count, log_spikes=False)
        for number, neuron in enumerate(group):
            neuron.set_attributes(soma_hw_name=f"loihi_inputs[{number % INPUTS_PER_CORE}]")
        self._place(group, title, count, INPUTS_PER_CORE)
        return group

    def _place(self, group: Any, title: str, count: int, size: int) -> None:
        """Map a group to new cores, `size` neurons on each."""
        core = None
        for number, neuron in enumerate(group):
            if number % size == 0:
                core = next(self._free, None)
                if core is None:
                    raise ValueError(
                        f"{title}: no core is left of the {len(self._architecture.cores())}; take "
                        "more neurons per core, or a smaller network"
                    )
            neuron.map_to_core(core)
        self.cores_used[title] = math.ceil(count / size)

    def _delayed(self, source: str, delay: int, count: int) -> Any:
        """A group that repeats a source's spikes `delay` steps late."""
        if (source, delay) not in self._groups:
            before = self._delayed(source, delay - 1, count)
            name = f"repeated{len(self._groups)}"
            title = f"{source}, {delay} steps later"
            group = self._population(name, title, np.full(count, 0.5), reset="hard")
            one = np.ones(1, np.int64)
            _connect(before, group, [(np.full(1, i), one) for i in range(count)])
            self._groups[source, delay] = group
        return self._groups[source, delay]


def _connect(sender: Any, group: Any, rows: list[tuple[Any, Any]]) -> None:
    pairs = [
        (number, int(target)) for number, (targets, _) in enumerate(rows) for target in targets
    ]
    weights = [float(weight) for _, row in rows for weight in row]
    if pairs:
        sender.connect_neurons_sparse(group, {"weight": weights}, pairs)


if __name__ == "__main__":
    serve(run)
