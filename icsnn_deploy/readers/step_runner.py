"""Runs a reader's module step after step and records what its populations do."""

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
from icsnn_deploy.readers.nir_file import NirFile, Population

_ATTRIBUTE = "icsnn_file"

Start = Callable[[torch.nn.Module, int], Any]
"""Puts the populations of a module at their initial potentials for so many samples side by side;
returns the state to call it with.
"""

RunReader = Callable[[torch.nn.Module, Array], Recording]
"""Runs a batch in a module made by `load`."""


def attach(module: torch.nn.Module, file: NirFile) -> torch.nn.Module:
    """The module, knowing the file that it was loaded from."""
    setattr(module, _ATTRIBUTE, file)
    return module.eval()


def file_of(module: torch.nn.Module) -> NirFile:
    """The file that a module was loaded from; raises ExportError where `load` did not make it."""
    file = getattr(module, _ATTRIBUTE, None)
    if not isinstance(file, NirFile):
        raise ExportError("this module was not made by load(); make it with load(path)")
    return file


def populations_of(module: torch.nn.Module) -> dict[str, tuple[Population, Any]]:
    """Each population by its name in the network, with the module that runs it.

    Raises:
        ExportError: the reader lost one.
    """
    modules = {name: child for name, child in module.named_children() if name != ""}
    found = {}
    for population in file_of(module).populations:
        # nirtorch can't name a module after a word of Python, and puts this before it
        child = modules.get(population.key) or modules.get(f"nir_node_{population.key}")
        if child is None:
            raise ExportError(f"{population.name}: the reader dropped this population")
        found[population.name] = (population, child)
    return found


def initial(population: Population, batch: int) -> torch.Tensor:
    """Initial potentials of a population, [B, *shape]."""
    v_init = torch.from_numpy(population.v_init)
    return v_init.expand(batch, *v_init.shape).clone()


def stepped_inputs(file: NirFile, inputs: Array) -> torch.Tensor:
    """What enters the module at each step, float32 [T, B, *shape]."""
    steps = file.header.time_steps
    x = check_input(file.input, steps, inputs)
    timed = file.input.is_timed
    if file.is_relay:
        return torch.from_numpy(relay_inputs(x, steps, timed=timed))
    x = x.astype(np.float32)
    return torch.from_numpy(x if timed else np.broadcast_to(x, (steps, *x.shape)).copy())


def step_by_step(start: Start) -> RunReader:
    """The `run` of a reader whose module is called once a step, with the state it gave back.

    Args:
        start: sets the module to the initial potentials.
    """

    def run(module: torch.nn.Module, inputs: Array) -> Recording:
        """Run a batch from the initial potentials: logits, and the spikes of every population.

        Args:
            module: made by `load`.
            inputs: [B, *shape], or [T, B, *shape] for rate and event input.
        """
        x = stepped_inputs(file_of(module), inputs)
        results = []
        with torch.no_grad(), recorded(module) as spikes:
            state = start(module, x.shape[1])
            for current in x:
                result, state = module(current, state)
                results.append(result)
        stacked = {name: torch.stack(steps) for name, steps in spikes.items()}
        return recording(module, torch.stack(results), stacked)

    return run


@contextmanager
def recorded(module: torch.nn.Module) -> Iterator[dict[str, list[torch.Tensor]]]:
    """What each population gave back at each call, by its name."""
    calls: dict[str, list[torch.Tensor]] = {}

    def tap(kept: list[torch.Tensor]) -> Callable[[Any, Any, Any], None]:
        def keep(child: Any, given: Any, result: Any) -> None:
            spikes = result[0] if isinstance(result, tuple) else result
            if not ((spikes == 0) | (spikes == 1)).all():
                raise SimulationError("a population sent something else than one spike or none")
            kept.append(spikes.detach().to(torch.uint8))

        return keep

    handles = []
    try:
        for name, (_, child) in populations_of(module).items():
            calls[name] = []
            handles.append(child.register_forward_hook(tap(calls[name])))
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def recording(
    module: torch.nn.Module, results: torch.Tensor, spikes: Mapping[str, torch.Tensor]
) -> Recording:
    """Logits and spikes as every backend hands them out.

    Args:
        module: made by a `load`.
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
