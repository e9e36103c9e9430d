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
        agreement, divergence = np.mean(scores, axis=0)
        return float(agreement), float(divergence)


def compare_classes(wanted: Array, got: Array) -> tuple[float, float]:
    """(share of equal top-1 classes, mean KL divergence in nats) of logits [N, classes]."""
    ours, theirs = _classes(wanted), _classes(got)
    agreement = theirs.argmax(axis=1) == ours.argmax(axis=1)
    expected, found = _log_softmax(ours), _log_softmax(theirs)
    divergence = (np.exp(expected) * (expected - found)).sum(axis=1)
    return float(agreement.mean()), float(divergence.mean())


def _classes(logits: Array) -> Array:
    """A single logit is that of one class against another, whose logit is 0 (a sigmoid)."""
    return np.concatenate([logits, 0 * logits], axis=1) if logits.shape[1] == 1 else logits


def _log_softmax(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
