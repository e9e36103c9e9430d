"""Run a reader's module step by step and record the spikes of its populations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from icsnn_deploy.backends.recording import Recording
from icsnn_deploy.backends.reference import running_mean
from icsnn_deploy.errors import ExportError, SimulationError
from icsnn_deploy.exporters.nir.portable.relay import relay_inputs
from icsnn_deploy.graph.inputs import check_input
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.readers.nir_file import NirFile, NirPopulation

_ATTRIBUTE = "icsnn_file"

Start = Callable[[torch.nn.Module, int], Any]
"""start(module, batch): sets the populations to their initial potentials; returns the state for the
first call.
"""

RunReader = Callable[[torch.nn.Module, Array], Recording]
"""run(module, inputs): runs a batch in a module that was made by `load`."""


def attach(module: torch.nn.Module, file: NirFile) -> torch.nn.Module:
    """Attach the file to the module that was loaded from it; returns the module."""
    setattr(module, _ATTRIBUTE, file)
    return module.eval()


def file_of(module: torch.nn.Module) -> NirFile:
    """The file that a module was loaded from; raises ExportError if `load` did not make it."""
    file = getattr(module, _ATTRIBUTE, None)
    if not isinstance(file, NirFile):
        raise ExportError("this module was not made by load(); make it with load(path)")
    return file


def populations_of(module: torch.nn.Module) -> dict[str, tuple[NirPopulation, Any]]:
    """Each population by its name in the network, with the module that runs it.

    Raises:
        ExportError: the reader dropped a population.
    """
    modules = {name: child for name, child in module.named_children() if name != ""}
    pairs = {}
    for population in file_of(module).populations:
        # nirtorch prefixes names that are Python keywords
        child = modules.get(population.key) or modules.get(f"nir_node_{population.key}")
        if child is None:
            raise ExportError(
                f"{population.name}: the reader dropped this population. Use another reader"
            )
        pairs[population.name] = (population, child)
    return pairs


def initial(population: NirPopulation, batch: int) -> torch.Tensor:
    """Initial potentials of a population, [B, *shape]."""
    v_init = torch.from_numpy(population.v_init)
    return v_init.expand(batch, *v_init.shape).clone()


def stepped_inputs(file: NirFile, inputs: Array) -> torch.Tensor:
    """The input of the module at each step, float32 [T, B, *shape]."""
    steps = file.header.time_steps
    x = check_input(file.input, steps, inputs)
    timed = file.input.is_timed
    if file.is_relay:
        return torch.from_numpy(relay_inputs(x, steps, timed=timed))
    x = x.astype(np.float32)
    return torch.from_numpy(x if timed else np.broadcast_to(x, (steps, *x.shape)).copy())


def step_by_step(start: Start) -> RunReader:
    """Make the `run` of a reader whose module is called once per step, with the previous state.

    Args:
        start: sets the module to the initial potentials.
    """

    def run(module: torch.nn.Module, inputs: Array) -> Recording:
        """Run a batch from the initial potentials; records the logits and all spikes.

        Args:
            module: made by `load`.
            inputs: [B, *shape], or [T, B, *shape] for rate and event input.
        """
        x = stepped_inputs(file_of(module), inputs)
        results = []
        with torch.no_grad(), recorded(module) as spikes:
            state = start(module, x.shape[1])
            for current in x:
                # nirtorch's interpreter returns the terms of a sum that is the output one by one
                *terms, state = module(current, state)
                results.append(torch.stack(terms).sum(dim=0))
        stacked = {name: torch.stack(steps) for name, steps in spikes.items()}
        return recording(module, torch.stack(results), stacked)

    return run


@contextmanager
def recorded(module: torch.nn.Module) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Record the spikes of each population at each call of the module, by name."""
    calls: dict[str, list[torch.Tensor]] = {}

    def make_hook(name: str) -> Callable[[Any, Any, Any], None]:
        def hook(child: Any, inputs: Any, result: Any) -> None:
            spikes = result[0] if isinstance(result, tuple) else result
            if not ((spikes == 0) | (spikes == 1)).all():
                raise SimulationError(
                    f"{name}: the reader gave values other than 0 and 1 as spikes"
                )
            calls[name].append(spikes.detach().to(torch.uint8))

        return hook

    handles = []
    try:
        for name, (_, child) in populations_of(module).items():
            calls[name] = []
            handles.append(child.register_forward_hook(make_hook(name)))
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def recording(
    module: torch.nn.Module, results: torch.Tensor, spikes: Mapping[str, torch.Tensor]
) -> Recording:
    """Build the Recording from the module's outputs and the recorded spikes.

    Args:
        module: made by `load`.
        results: the module's output at each step [T, B, *output shape].
        spikes: by population, uint8 [T, B, *shape].
    """
    file = file_of(module)
    currents = results.detach().numpy().astype(np.float64)
    own = {population.name: population.channels for population in file.populations}
    return Recording(
        backend=f"nir:{file.reader}",
        logits=running_mean(currents, file.header.readout_start)[-1],
        spikes={name: steps.numpy()[:, :, : own[name]] for name, steps in spikes.items()},
    )
