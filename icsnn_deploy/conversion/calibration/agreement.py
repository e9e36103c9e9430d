"""Agreement of an IF network with the ANN that it comes from, on held-out samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.readout import agreement, kl_divergence

_ANN_BATCH = 64  # fixed, so that the reference logits do not depend on the context


class AgreementScorer:
    """Compares IF networks with the ANN on held-out samples.

    Args:
        ann: the ANN.
        held_out: samples that nothing is fitted to.
        time_steps: readout steps, the T after which networks are read; scores are means over
            them. None: the T of each network.
    """

    def __init__(
        self, ann: Graph, held_out: CalibrationContext, time_steps: Sequence[int] | None = None
    ) -> None:
        self.held_out = held_out
        self.time_steps = time_steps
        network = TorchANN(ann, device=held_out.device)
        logits = held_out.samples.map(_ANN_BATCH, lambda start, batch: network.run(batch))
        self.logits = np.concatenate(list(logits))  # [N, *output shape]

    def score(self, network: Graph, logit_unit: float = 1.0) -> tuple[float, float]:
        """(share of equal top-1 classes, mean KL divergence in nats), mean over readout steps.

        Args:
            network: the IF network.
            logit_unit: what one unit of its output represents, in units of the ANN's logits.
        """
        simulator = TorchSimulator(network, device=self.held_out.device)
        record = Record(spikes=False, logits_t=True)
        wanted = [t - 1 for t in self.time_steps or (network.steps,)]

        def read_out(start: int, batch: Array) -> Array:
            logits_t = simulator.run(to_input_units(network, batch), record).logits_t
            assert logits_t is not None  # asked for
            return logits_t[wanted]

        parts = list(self.held_out.map(read_out))
        scores = [
            compare_classes(self.logits, logits * logit_unit)
            for logits in np.concatenate(parts, axis=1)
        ]
        agreeing, divergence = np.mean(scores, axis=0)
        return float(agreeing), float(divergence)


def compare_classes(wanted: Array, got: Array) -> tuple[float, float]:
    """(share of equal top-1 classes, mean KL divergence in nats) of logits [N, classes]."""
    return agreement(wanted, got), kl_divergence(wanted, got)
