"""Run a network layer by layer, all T steps of a layer at once, with populations of one's own."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF
from icsnn_deploy.progress import inner_tracked

Fire = Callable[[IF, Tensor], Tensor]
"""What a population emits for its currents, both folded over time: [T B, *shape].

A current that is the same at every step has no time axis, [B, *shape].
"""


def currents_of_output(simulator: TorchSimulator, inputs: Array, fire: Fire) -> Tensor:
    """Currents of the output, folded over time.

    Args:
        simulator: evaluates the connections, with the parameters that its ops were given.
        inputs: a batch as the network takes it.
        fire: evaluates the populations.
    """
    network = simulator.graph
    source = network.input
    if source.is_timed:
        inputs = inputs.reshape(-1, *source.shape)  # [T B, *shape]
    values = {source.name: simulator.ops.tensor(inputs)}
    spent = network.last_uses()
    for node in inner_tracked(network.nodes[1:], "layers of a batch"):
        sources = [values[name] for name in node.inputs]
        if isinstance(node, IF):
            values[node.name] = fire(node, sources[0])
        else:
            values[node.name] = simulator.evaluate(node, sources)
        for name in spent[node.name]:
            del values[name]
    return values[network.output.name]
