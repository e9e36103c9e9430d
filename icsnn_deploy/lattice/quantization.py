"""The result of a quantization, and how it is saved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from icsnn_deploy.backends.prediction import Prediction
from icsnn_deploy.backends.torch.spiking_network import SpikingNetwork
from icsnn_deploy.bundle.bundle import Bundle, as_bundle
from icsnn_deploy.bundle.create import create_bundle
from icsnn_deploy.conversion.conversion import Conversion
from icsnn_deploy.conversion.report import OutputScore
from icsnn_deploy.data import Normalization
from icsnn_deploy.errors import LatticeError
from icsnn_deploy.events.binning import EventBins
from icsnn_deploy.graph.certificate import Certificate
from icsnn_deploy.graph.encoder import encoded
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.notebook import object_html
from icsnn_deploy.parity.golden import golden_bytes
from icsnn_deploy.sources.network_samples import network_samples
from icsnn_deploy.sources.options import ImageSize


@dataclass(frozen=True, kw_only=True, eq=False)
class FloatNetwork:
    """A float IF network, and what belongs to it.

    Args:
        network: the IF network.
        ann: the ANN that it comes from; None for a network from elsewhere.
        report: how it was converted, JSON values.
        normalization: of the pixels that it takes; None where it takes floats.
        rate_seed: of the Bernoulli spikes of a rate-encoded input; None: deterministic spikes.
        event_bins: how event recordings are binned, of a network that takes them.
        image_size: what size images get, of a network that takes pixels.
    """

    network: Graph
    ann: Graph | None
    report: Mapping[str, Any]
    normalization: Normalization | None
    rate_seed: int | None = None
    event_bins: EventBins | None = None
    image_size: ImageSize | None = None

    @classmethod
    def of(
        cls,
        source: Graph | Conversion | Bundle | str | os.PathLike[str],
        ann: Graph | None = None,
    ) -> FloatNetwork:
        """The network of a conversion or a bundle; or a graph, with the ANN that it comes from.

        Raises:
            LatticeError: an ANN beside a conversion or a bundle, which have their own.
        """
        if isinstance(source, Graph):
            return cls(network=source, ann=ann, report={}, normalization=None)
        if ann is not None:
            raise LatticeError(
                f"ann: given beside a {type(source).__name__}, which has its own; leave it out, or "
                "give the network as a graph"
            )
        if isinstance(source, Conversion):
            report = source.report.to_json()
            return cls(
                network=source.network,
                ann=source.ann,
                report=report,
                normalization=source.normalization,
                rate_seed=source.rate_seed,
            )
        source = as_bundle(source)
        return cls(
            network=source.network(),
            ann=None if source.ann_hash is None else source.ann(),
            report=source.report(),
            normalization=source.normalization,
            rate_seed=source.rate_seed,
            event_bins=source.event_bins,
            image_size=source.image_size,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantization:
    """An integer network.

    Args:
        network: the integer network.
        certificate: its bounds.
        bits: weight width of each Conv and Linear, by name.
        agreement: of each candidate, the share of held-out samples with the ANN's class, mean over
            the outputs that are classes; None if there are none.
        divergence: of each candidate, the sum over the outputs of their divergence from the ANN's
            (OutputScore).
        outputs: of each candidate, the score of each output, by name.
        kept: the candidate that `network` is: "rounded", "corrected", "searched" or "trained".
        source: the float network, and what belongs to it.
        samples: a few calibration samples, as the float network takes them ([T, N, *shape] of
            spike input).
    """

    network: Graph
    certificate: Certificate
    bits: Mapping[str, int]
    agreement: Mapping[str, float | None]
    divergence: Mapping[str, float]
    outputs: Mapping[str, Mapping[str, OutputScore]]
    kept: str
    source: FloatNetwork
    samples: Array

    def __repr__(self) -> str:
        widths = sorted(set(self.bits.values()))
        bits = f"{widths[0]} to {widths[-1]}" if len(widths) > 1 else ", ".join(map(str, widths))
        return (
            f"<Quantization: {bits} bits, kept {self.kept!r}, divergence "
            f"{self.divergence[self.kept]:.4g}; network {self.network!r}>"
        )

    def _repr_html_(self) -> str:
        """What notebooks show: a row per candidate, and the certificate."""
        rows: list[tuple[str, str, str, str]] = []
        for name, divergence in self.divergence.items():
            agreement = self.agreement[name]
            share = "" if agreement is None else f"{agreement:.1%}"
            kept = "kept" if name == self.kept else ""
            rows.append((name, share, f"{divergence:.4g}", kept))
        tightest = self.certificate.tightest
        headroom = f"{tightest.headroom_bits:.1f} bits of headroom at {tightest.layer}"
        columns = ("network", "as the ANN", "divergence", "")
        return object_html(f"{self!r}, {headroom}", columns, rows)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "bits": dict(self.bits),
            "agreement": dict(self.agreement),
            "divergence": dict(self.divergence),
            "outputs": {
                candidate: {name: asdict(score) for name, score in scores.items()}
                for candidate, scores in self.outputs.items()
            },
            "kept": self.kept,
            "certificate": self.certificate.to_json(),
        }

    @cached_property
    def module(self) -> SpikingNetwork:
        """The integer network as a PyTorch module, for inference."""
        return SpikingNetwork(
            self.network,
            normalization=self.source.normalization,
            rate_seed=self.source.rate_seed,
        )

    def predict(self, samples: Any, *, limit: int | None = None) -> Prediction:
        """Logits and classes of samples; see SpikingNetwork.predict."""
        return self.module.predict(samples, limit=limit)

    def save(
        self,
        path: Path | str,
        samples: Any = None,
        *,
        event_bins: EventBins | None = None,
        image_size: ImageSize | None = None,
        overwrite: bool = False,
    ) -> Bundle:
        """Write a bundle with golden spikes of its samples, whole or not at all.

        Args:
            path: the folder to make.
            samples: input samples to store with it, in any form that the float network takes;
                None stores a few of the calibration samples.
            event_bins: how event recordings are binned, of a network that takes them; None: as the
                bundle that was quantized says.
            image_size: what size images get that the network is run on later; None: as the bundle
                that was quantized says.
            overwrite: replace a bundle that exists already.

        Raises:
            BundleError: the path exists, or cannot be written.
        """
        given = self.samples
        if samples is not None:
            given = network_samples(
                self.network, samples, "samples", normalization=self.source.normalization
            ).samples
        inputs = to_input_units(self.network, encoded(self.network, given, self.source.rate_seed))
        return create_bundle(
            Path(path),
            network=self.network,
            ann=self.source.ann,
            samples=inputs,
            report={**self.source.report, "lattice": self.to_json()},
            normalization=self.source.normalization,
            rate_seed=self.source.rate_seed,
            event_bins=self.source.event_bins if event_bins is None else event_bins,
            image_size=self.source.image_size if image_size is None else image_size,
            golden=golden_bytes(self.network, inputs),
            overwrite=overwrite,
        )
