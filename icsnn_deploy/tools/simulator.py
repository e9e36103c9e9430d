"""The tools as backends: a network as neurons and synapses, in a worker of the tool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from icsnn_deploy.backends import Backend
from icsnn_deploy.backends.recording import Record, Recording, Simulator
from icsnn_deploy.backends.reference import ReferenceSimulator, running_mean
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.errors import BackendUnavailableError, DataError, GraphError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import check_inputs
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.progress import Progress, report_inner
from icsnn_deploy.tools.circuit import make_circuit
from icsnn_deploy.tools.environment import Tool, find_environment, find_tool
from icsnn_deploy.tools.launch import ToolResult, run_tool

OPTIONS: dict[str, dict[str | None, dict[str, Any]]] = {
    "nengo-loihi": {None: {"decay_u": -1}, "decay-0": {"decay_u": 0}},
    "brian2": {None: {}},
    "sanafe": {None: {"neurons_per_core": 512}},
}
"""For each tool, the settings of its worker for each option of the backend."""

_SOFT_RESET_ONLY = ("nengo-loihi", "sanafe")


def open_tool(bundle: Bundle, backend: Backend, option: str | None) -> Simulator:
    """Open the bundle's network in the tool that the variant names; see backends.Opener."""
    tool = find_tool(backend.variant)
    known = OPTIONS[tool.name]
    if option not in known:
        names = ", ".join(name for name in known if name is not None) or "none"
        raise BackendUnavailableError(f"{tool.name}: option {option!r}; there are: {names}")
    return ToolSimulator(bundle.network(), tool, settings=known[option])


class ToolSimulator:
    """Runs an integer network in a tool.

    Where the input is analog, the host (the reference simulator) runs the populations that it
    drives and sends their spikes; these populations are not part of the recording. The host also
    reads out.

    Args:
        graph: the network.
        tool: the tool.
        settings: of its worker; default: those of the backend without an option.
        python: of the tool's environment; default: that of `find_environment`.
        progress: called with the number of images that are done.

    Raises:
        BackendUnavailableError: the tool's environment is missing; names the command to run.
        GraphError: the tool can't run the network.
    """

    gives_logits_t = True
    cuts_batches = True

    def __init__(
        self,
        graph: Graph,
        tool: Tool,
        *,
        settings: dict[str, Any] | None = None,
        python: Path | None = None,
        progress: Progress = report_inner,
    ) -> None:
        self.name = tool.name
        self.graph = graph
        self._tool, self._progress = tool, progress
        self._settings = OPTIONS[tool.name][None] if settings is None else settings
        self._python = python or find_environment(tool).python
        self._host = ReferenceSimulator(graph)
        self.circuit = make_circuit(graph, most_synapses=tool.most_synapses, tool=tool.title)
        hard = [each.name for each in self.circuit.neurons if each.v_reset is not None]
        if hard and tool.name in _SOFT_RESET_ONLY:
            raise GraphError(
                f"{', '.join(hard)}: hard reset; {tool.title} is run with soft reset only. Run "
                "backend brian2, or convert the model with soft reset"
            )

    def run(self, inputs: Array, record: Record = Record()) -> Recording:
        """Run a batch; tools record logits and spikes, no potentials.

        Args:
            inputs: [B, *shape], or [T, B, *shape] for rate and event input.
            record: what to record.
        """
        return self.run_with_costs(inputs)[0].only(record)

    def run_with_costs(self, inputs: Array) -> tuple[Recording, ToolResult]:
        """Run a batch; returns the recording, and what else the tool reported."""
        x = check_inputs(self.graph, inputs)
        if x.shape[self.graph.input.batch_axis] == 0:
            raise DataError(f"no images: {self._tool.title} needs at least one")
        hosted = self._hosted(x)
        result = run_tool(
            self._python, self._tool, self.circuit, x, hosted, self._settings, self._progress
        )
        currents = self.circuit.readout({**result.spikes, **hosted}, x)
        logits_t = running_mean(currents, self.graph.readout_start)
        recording = Recording(
            backend=self.name, logits=logits_t[-1], spikes=result.spikes, logits_t=logits_t
        )
        return recording, result

    def _hosted(self, x: Array) -> dict[str, Array]:
        """Spikes of the populations that the host runs, uint8 [T, B, *shape]."""
        names = [each.name for each in self.circuit.neurons if each.on_host]
        if not names:
            return {}
        spikes = self._host.run(x).spikes
        return {name: np.asarray(spikes[name]) for name in names}
