"""The result of a conversion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from icsnn_deploy.backends.prediction import Prediction
from icsnn_deploy.backends.torch.spiking_network import SpikingNetwork
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.conversion.report import ConversionReport
from icsnn_deploy.data import Normalization
from icsnn_deploy.events.binning import EventBins
from icsnn_deploy.graph.encoder import encoded
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.notebook import object_html
from icsnn_deploy.sources.network_samples import network_samples
from icsnn_deploy.sources.options import ImageSize

CALIBRATION_SAMPLES = "calibration"
"""Stands for the samples that a conversion keeps of its calibration data."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Conversion:
    """A converted network.

    Args:
        network: the IF network.
        ann: the traced ANN that it comes from.
        report: the candidates, and the one that was chosen.
        normalization: of the pixels that the network takes; None where it takes floats.
        rate_seed: of the Bernoulli spikes of a rate-encoded input; None: deterministic spikes.
        samples: the first calibration samples as the network takes them, [N, *input shape], spikes
            [T, N, *input shape]; `save` stores them.
        advice: what to try where the outputs are far from the ANN's, a sentence; else None.
    """

    network: Graph
    ann: Graph
    report: ConversionReport
    normalization: Normalization | None = None
    rate_seed: int | None = None
    samples: Array | None = None
    advice: str | None = None

    def __repr__(self) -> str:
        chosen = self.report.chosen
        share = (
            "" if chosen.agreement is None else f", agrees with the ANN on {chosen.agreement:.1%}"
        )
        return (
            f"<Conversion: recipe {self.report.recipe}, chosen {chosen.method!r}{share}, "
            f"divergence {chosen.divergence:.4g}; network {self.network!r}>"
        )

    def _repr_html_(self) -> str:
        """What notebooks show: a row per candidate."""
        chosen = self.report.chosen
        rows = (
            (
                each.method,
                "" if each.agreement is None else f"{each.agreement:.1%}",
                f"{each.divergence:.4g}",
                f"{each.seconds:.1f}",
                "chosen" if each == chosen else "",
            )
            for each in self.report.candidates
        )
        columns = ("method", "as the ANN", "divergence", "seconds", "")
        return object_html(repr(self), columns, rows, count=len(self.report.candidates))

    @cached_property
    def module(self) -> SpikingNetwork:
        """The network as a PyTorch module, for inference."""
        return SpikingNetwork(
            self.network, normalization=self.normalization, rate_seed=self.rate_seed
        )

    def predict(self, samples: Any, *, limit: int | None = None) -> Prediction:
        """Logits and classes of samples; see SpikingNetwork.predict."""
        return self.module.predict(samples, limit=limit)

    def save(
        self,
        path: Path | str,
        samples: Any = CALIBRATION_SAMPLES,
        *,
        event_bins: EventBins | None = None,
        image_size: ImageSize | None = None,
        overwrite: bool = False,
    ) -> Bundle:
        """Write a bundle, whole or not at all.

        Args:
            path: the folder to make.
            samples: a few samples to store with it, in any form that the conversion took them;
                spikes [T, N, *input shape] are stored as they are. Default: the first calibration
                samples (`self.samples`); None stores none.
            event_bins: how event recordings are binned, of a network that takes them.
            image_size: what size images get that the network is run on later.
            overwrite: replace a bundle that exists already.

        Raises:
            BundleError: the path exists, or cannot be written.
            DataError: samples that the encoding of the input does not take.
        """
        return create_bundle(
            Path(path),
            network=self.network,
            ann=self.ann,
            samples=self._stored(samples),
            report=self.report.to_json(),
            normalization=self.normalization,
            rate_seed=self.rate_seed,
            event_bins=event_bins,
            image_size=image_size,
            overwrite=overwrite,
        )

    def _stored(self, samples: Any) -> Array | None:
        if samples is None or (isinstance(samples, str) and samples == CALIBRATION_SAMPLES):
            return None if samples is None else self.samples
        given = network_samples(
            self.network, samples, "samples", normalization=self.normalization
        ).samples
        return encoded(self.network, given, self.rate_seed)
