"""How well a spiking network agrees with the ANN it comes from, on samples kept for that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from icsnn_deploy.backends.recording import Record
from icsnn_deploy.backends.torch.ann import TorchANN
from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.samples import CalibrationSet
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.readout import agreement, kl_divergence


class AgreementScorer:
    """Compares a network with the ANN on held-out samples."""

    def __init__(
        self,
        ann: Graph,
        held_out: CalibrationSet,
        device: str,
        time_steps: Sequence[int] | None = None,
    ) -> None:
        self.held_out = held_out
        self.device = device
        self.time_steps = time_steps  # T to read out at, the mean over them counts
        network = TorchANN(ann, device=device)
        logits = held_out.map(64, lambda start, batch: network.run(batch))
        self.logits = np.concatenate(list(logits))  # [N, *output shape]

    def score(
        self, network: Graph, batch_size: int, logit_unit: float = 1.0
    ) -> tuple[float, float]:
        """(share of equal top-1 classes, mean KL divergence in nats), mean over the wanted T."""
        simulator = TorchSimulator(network, device=self.device)
        record = Record(spikes=False, logits_t=True)
        wanted = [t - 1 for t in self.time_steps or (network.steps,)]

        def read_out(start: int, batch: Array) -> Array:
            logits_t = simulator.run(to_input_units(network, batch), record).logits_t
            assert logits_t is not None  # asked for
            return logits_t[wanted]

        parts = list(self.held_out.map(batch_size, read_out))
        scores = [
            compare_classes(self.logits, logits * logit_unit)
            for logits in np.concatenate(parts, axis=1)
        ]
        agreeing, divergence = np.mean(scores, axis=0)
        return float(agreeing), float(divergence)


def compare_classes(wanted: Array, got: Array) -> tuple[float, float]:
    """(share of equal top-1 classes, mean KL divergence in nats) of logits [N, classes]."""
    return agreement(wanted, got), kl_divergence(wanted, got)
