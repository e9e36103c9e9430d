"""The backend event-driven: what a chip without time steps, such as Speck, computes of a network.

A step of the network is a tick of the clock that adds the biases, and the events that the input
sends in it. Between two ticks there is no time: a spike is an event, which is sent as soon as it
is fired; events are taken in the order in which they were sent, and each lets every neuron that
it lifts to its threshold fire once. The spikes of a layer reach the next one in the order in which
they were fired, as on asynchronous hardware; only how the spikes of two layers mix at a join
depends on the speed of its cores, which is not known here.

    step t:  v += bias                      for layers with biases, whose neurons may fire
             events of the input, in order
             event: v += weight, and where v >= v_threshold: v -= v_threshold, and a new event

Spikes differ from those of the network in time steps, and a neuron may fire several times in a
step. Populations that the analog input drives run on the host, in time steps; the host also reads
out, by applying the last connection to the number of spikes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from icsnn_deploy.backends import Backend
from icsnn_deploy.backends.event_driven import native_run, numpy_run
from icsnn_deploy.backends.event_driven.layers import layers_of
from icsnn_deploy.backends.recording import Record, Recording, Simulator
from icsnn_deploy.backends.reference import ReferenceSimulator, evaluate, running_mean
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import BackendUnavailableError, ExportError, SimulationError
from icsnn_deploy.graph.arrangement import pack_inputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Population
from icsnn_deploy.passes.split_first_layer import split_first_layer

MOST_IN_A_STEP = 255
"""Spikes of a neuron in one step: recordings hold bytes."""


def open_event_driven(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's network; the option is a seed. See backends.Opener."""
    if option is not None and not option.isdecimal():
        raise BackendUnavailableError(
            f"event-driven:{option}: the part after the colon is a seed, a whole number >= 0"
        )
    return EventDrivenSimulator(bundle.network(), seed=None if option is None else int(option))


class EventDrivenSimulator:
    """Runs an integer network event by event.

    Args:
        graph: an integer network of convolutions and fully connected layers. Of one with analog
            input the first populations run in time steps, as on a host.
        seed: the input's events of each step come in a random order; None: channel by channel,
            row by row.
        native: whether the C function is used; None: where it can be compiled. Both give the same.

    Raises:
        ExportError: a float network, other neurons than integrate-and-fire, or connections that are
            no convolutions of spikes.
        GraphError: the first layer can't be split off.
    """

    name = "event-driven"
    gives_logits_t = True
    cuts_batches = False

    def __init__(
        self, graph: Graph, *, seed: int | None = None, native: bool | None = None
    ) -> None:
        if not graph.is_integer:
            raise ExportError(
                "event-driven runs integer networks, whose sums do not depend on the order of "
                "events: make one with icsnn quantize"
            )
        parts = None if graph.input.is_timed else split_first_layer(graph)
        self._host = None if parts is None else ReferenceSimulator(parts.host)
        self._chip = graph if parts is None else parts.chip
        self._graph, self._seed = graph, seed
        self.layers = layers_of(self._chip)
        self._run = native_run.run if native is not False else numpy_run.run
        if native is None and not native_run.is_available():
            self._run = numpy_run.run

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        x = check_inputs(self._graph, inputs)
        of_host: Mapping[str, Array] = {}
        if self._host is not None:
            of_host = self._host.run(x).spikes
            x = pack_inputs(self._chip, of_host)
        counts, _ = self.run_events(x)
        currents = self._readout(x, counts)
        logits_t = running_mean(currents, self._chip.readout_start)
        spikes = {name: each.astype(np.uint8) for name, each in counts.items()}
        return Recording(
            backend=self.name,
            logits=logits_t[-1],
            spikes={**of_host, **spikes},
            logits_t=logits_t,
        ).only(record)

    def run_events(self, x: Array) -> tuple[dict[str, Array], Array]:
        """Run the part without time steps.

        Args:
            x: spikes of its input, [T, B, *shape].

        Returns:
            the spikes of each population in each step, int32 [T, B, *shape]; and the synaptic
            operations of each layer (0 of the input), int64 [B, layers].

        Raises:
            SimulationError: a neuron fires more than MOST_IN_A_STEP times in a step.
        """
        steps, batch = x.shape[:2]
        events, first = self._events(x)
        neurons = sum(layer.size for layer in self.layers[1:])
        counts = np.zeros((batch, steps, neurons), np.int32)
        operations = np.zeros((batch, len(self.layers)), np.int64)
        self._run(self.layers, events, first, counts, operations)
        most = int(counts.max(initial=0))
        if most > MOST_IN_A_STEP:
            raise SimulationError(
                f"event-driven: a neuron fires {most} times in one step, {MOST_IN_A_STEP} are "
                "recorded; a threshold is far below the weights that lead to it"
            )
        found = {}
        for layer in self.layers[1:]:
            own = counts[:, :, layer.offset : layer.offset + layer.size]
            images = own.reshape(batch, steps, *layer.shape).transpose(1, 0, 4, 2, 3)
            shape = self._chip.shape(layer.name)
            found[layer.name] = np.ascontiguousarray(images).reshape(steps, batch, *shape)
        return found, operations

    def _events(self, x: Array) -> tuple[Array, Array]:
        """The input's events, as neurons of [H, W, C], and where those of each step begin."""
        steps, batch = x.shape[:2]
        height, width, channels = self.layers[0].shape
        whole = np.arange(height * width * channels, dtype=np.int32)
        numbers = whole.reshape(height, width, channels).transpose(2, 0, 1).reshape(-1)
        rng = None if self._seed is None else np.random.default_rng(self._seed)
        flat = x.reshape(steps, batch, -1)
        parts = []
        for sample in range(batch):
            for step in range(steps):
                own = np.repeat(numbers, flat[step, sample].astype(np.int64))
                parts.append(own if rng is None else rng.permutation(own))
        first = np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)
        return np.concatenate(parts), first

    def _readout(self, x: Array, counts: Mapping[str, Array]) -> Array:
        """The output's current at each step, int64 [T, B, *shape]."""
        graph = self._chip
        before = graph.ancestors(graph.output.name, lambda node: not isinstance(node, Population))
        needed = {graph.output.name, *(node.name for node in before)}
        results = []
        for step in range(graph.steps):
            values = {graph.input.name: x[step].astype(np.int64)}
            for node in graph.nodes[1:]:
                if node.name in counts:
                    values[node.name] = counts[node.name][step].astype(np.int64)
                elif node.name in needed:
                    values[node.name] = evaluate(node, *(values[name] for name in node.inputs))
            results.append(values[graph.output.name])
        return np.stack(results)
