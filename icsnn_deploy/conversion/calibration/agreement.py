"""Agreement of an IF network with the ANN that it comes from, on held-out samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.objective import Objective, Score, mean_score
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array

_ANN_BATCH = 64  # fixed, so that the reference logits do not depend on the context


class AgreementScorer:
    """Compares IF networks with the ANN on held-out samples.

    Args:
        ann: the ANN; the tasks of its outputs say how they are compared.
        held_out: samples that nothing is fitted to.
        time_steps: readout steps, the T after which networks are read; scores are means over
            them. None: the T of each network.
        objective: makes the objective of the ANN and its logits on the held-out samples.

    Attributes:
        objective: how far logits are from those of the ANN.
    """

    def __init__(
        self,
        ann: Graph,
        held_out: CalibrationContext,
        time_steps: Sequence[int] | None = None,
        objective: Callable[[Graph, Array], Objective] = Objective,
    ) -> None:
        self.held_out = held_out
        self.time_steps = time_steps
        network = TorchANN(ann, device=held_out.device)
        frames = held_out.encoder.frames
        logits = held_out.samples.map(_ANN_BATCH, lambda start, batch: network.run(frames(batch)))
        self.objective = objective(ann, np.concatenate(list(logits)))

    def score(self, network: Graph, logit_unit: float | Array = 1.0) -> Score:
        """The mean score over the readout steps.

        Args:
            network: the IF network.
            logit_unit: what one unit of its output represents, in units of the ANN's logits; one
                number, or [*output shape].
        """
        simulator = TorchSimulator(network, device=self.held_out.device)
        record = Record(spikes=False, logits_t=True)
        wanted = [t - 1 for t in self.time_steps or (network.steps,)]

        def read_out(start: int, batch: Array) -> Array:
            logits_t = simulator.run(to_input_units(network, batch), record).logits_t
            assert logits_t is not None  # asked for
            return logits_t[wanted]

        parts = list(self.held_out.map_inputs(read_out, stage="comparing"))
        return mean_score(
            [self.objective.score(logits * logit_unit) for logits in np.concatenate(parts, axis=1)]
        )
