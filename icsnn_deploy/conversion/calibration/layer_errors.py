"""How much of the divergence from the ANN each population causes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.ops import integrate_and_fire
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.layer_run import currents_of_output
from icsnn_deploy.conversion.calibration.objective import Objective
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import IF

LAYER_SAMPLES = 64


@torch.no_grad()
def divergence_without(
    network: Graph, ann: Graph, context: CalibrationContext, time_steps: Sequence[int]
) -> dict[str, float]:
    """The divergence that is left where one population gives the ANN's activations, by name.

    The population's spikes are replaced by a / v_threshold at every step, a: the ANN's activation
    on the same sample. Its own error vanishes so, and the errors of the layers before it with it,
    as far as they reach the output through it. The first entry, by the name of the input, is the
    divergence of the network as it is.

    Args:
        network: a float IF network.
        ann: the ANN that it comes from.
        context: held-out samples; the first 64 are used.
        time_steps: readout steps; the divergence is the mean over them.
    """
    few = context.part(0, LAYER_SAMPLES)
    runner = TorchANN(ann, device=context.device)
    logits, activations = runner.run_with_activations(few.frames(slice(None)))
    objective = Objective(ann, logits)
    inputs = few.inputs(slice(None))
    simulator = TorchSimulator(network, device=context.device)
    names = [network.input.name, *(node.name for node in network.nodes_of(IF))]
    found = {}
    for done, name in enumerate(names):
        context.progress("errors by layer", done, len(names))
        currents = _run(simulator, inputs, name, activations.get(name))  # [T, B, *output shape]
        means = [currents[network.readout_start : t].mean(dim=0).cpu().numpy() for t in time_steps]
        found[name] = sum(objective.score(mean).divergence for mean in means) / len(means)
    context.progress("errors by layer", len(names), len(names))
    return found


def _run(
    simulator: TorchSimulator, inputs: Array, replaced: str, activation: Tensor | None
) -> Tensor:
    """Currents of the output where one population gives activations, [T, B, *shape].

    Where `replaced` is the input, every population gives its spikes.
    """
    graph, ops = simulator.graph, simulator.ops
    batch = inputs.shape[graph.input.batch_axis]

    def fire(node: IF, current: Tensor) -> Tensor:
        if node.name == replaced and activation is not None:
            rate = activation / ops.parameter(node, "v_threshold")
            return rate.repeat(graph.steps, *(1,) * (rate.ndim - 1))  # [T B, *shape]
        over_time = simulator.over_time(node.inputs[0], current, batch)
        v_init, v_threshold = (ops.parameter(node, key) for key in ("v_init", "v_threshold"))
        return integrate_and_fire(over_time, v_init, v_threshold)[0].flatten(0, 1)

    return simulator.over_time(
        graph.output.name, currents_of_output(simulator, inputs, fire), batch
    )
