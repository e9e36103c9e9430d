"""From a float IF network to an integer one that certifies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.conversion.calibration.agreement import AgreementScorer, compare_classes
from icsnn_deploy.conversion.calibration.samples import CalibrationSet, CalibrationSource
from icsnn_deploy.graph.certificate import Certificate, certify, require_certificate
from icsnn_deploy.graph.graph import Graph, hard_resets
from icsnn_deploy.graph.inputs import to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import LINEAR_NODES
from icsnn_deploy.lattice.input_moments import input_moments
from icsnn_deploy.lattice.options import WIDTHS, LatticeOptions
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.recalibrate import readout_steps, recalibrated
from icsnn_deploy.lattice.round_network import Lattice, even_widths, round_to_lattice
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.targets.generic import GENERIC
from icsnn_deploy.targets.paths import chip_targets
from icsnn_deploy.targets.profile import TargetProfile
from icsnn_deploy.targets.resources import certificate_of
from icsnn_deploy.targets.widths import check_widths


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantization:
    """An integer network, its certificate, and how it was chosen."""

    graph: Graph
    certificate: Certificate
    bits: Mapping[str, int]  # weight width of each Conv and Linear
    agreement: Mapping[str, float]  # share of held-out samples with the ANN's top-1 class
    divergence: Mapping[str, float]  # mean KL divergence from the ANN's classes, nats
    kept: str  # rounded, corrected or searched: the one whose classes diverge least

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "bits": dict(self.bits),
            "agreement": dict(self.agreement),
            "divergence": dict(self.divergence),
            "kept": self.kept,
            "certificate": self.certificate.to_json(),
        }


def quantize(
    network: Graph,
    calibration_data: CalibrationSource,
    ann: Graph | None,
    options: LatticeOptions = LatticeOptions(),
    *,
    profile: TargetProfile = GENERIC,
    device: str = "cpu",
    progress: Progress = silent,
) -> Quantization:
    """Put a float IF network on the integer lattice.

    Scales and rounding minimize the error of each layer's output on calibration samples; widths are
    narrowed where the network would not certify at its T, or overflow a register of the target;
    then the integer network is calibrated again, and of what comes out (see lattice.recalibrate)
    the one is kept whose classes on held-out samples diverge least from the ANN's.

    Args:
        network: a float IF network.
        calibration_data: samples as the float network takes them.
        ann: the ANN it comes from; None, for a network from elsewhere: it is rounded, nothing is
            calibrated again, and its classes are compared with the float network's.
        options: widths and granularity.
        profile: the target whose registers the network should fit.
        device: torch device.
        progress: told how far each stage is.

    Raises:
        LatticeError: the network can't be put on the lattice, or not so that it certifies.
    """
    if ann is None or hard_resets(network):
        return _rounded(network, calibration_data, options, profile, device, progress)
    calibration = CalibrationSet.of(calibration_data, progress=progress)
    held_out = max(1, round(len(calibration) * options.held_out))
    fit = calibration.part(0, max(1, len(calibration) - held_out))
    judged = calibration.part(len(calibration) - held_out, len(calibration))
    judge = AgreementScorer(ann, judged, device, readout_steps(network))
    prepared = prepare(
        network,
        np.asarray(fit.samples),
        per_layer=options.per_layer,
        input_bits=options.input_bits,
    )
    integer_fit = CalibrationSet(to_input_units(prepared, fit.samples))
    moments = input_moments(
        prepared,
        integer_fit.part(0, options.moment_samples),
        batch_size=options.batch_size,
        device=device,
        progress=progress,
    )
    lattice, bits = _certified(prepared, moments, options, profile)
    unit = _logit_unit(lattice)
    candidates = recalibrated(
        network, prepared, lattice, ann, fit, integer_fit, options, device, progress
    )
    scores = {"float": judge.score(network, options.batch_size)}
    scores |= {
        name: judge.score(graph, options.batch_size, unit) for name, graph in candidates.items()
    }
    misfits = len(_too_wide(lattice.graph, profile))
    fitting = [
        name
        for name, graph in candidates.items()
        if certify(graph).float32 and len(_too_wide(graph, profile)) <= misfits
    ]
    kept = min(fitting, key=lambda name: scores[name][1])
    return _result(network, candidates[kept], unit, bits, scores, kept)


def _rounded(
    network: Graph,
    samples: CalibrationSource,
    options: LatticeOptions,
    profile: TargetProfile,
    device: str,
    progress: Progress,
) -> Quantization:
    """The network rounded, without an ANN to calibrate it for.

    Spike input is [T, N, *shape]: nothing is averaged over it, so the weights are rounded to the
    nearest.
    """
    direct = network.input.encoding == "direct"
    given = CalibrationSet.of(samples, progress=progress).samples if direct else samples
    x = np.asarray(given)
    prepared = prepare(network, x, per_layer=options.per_layer, input_bits=options.input_bits)
    integers = to_input_units(prepared, x)
    moments: Mapping[str, Array] = {}
    if direct:
        moments = input_moments(
            prepared,
            CalibrationSet(integers[: options.moment_samples]),
            batch_size=options.batch_size,
            device=device,
            progress=progress,
        )
    lattice, bits = _certified(prepared, moments, options, profile)
    wanted = TorchSimulator(network, device=device).classify(x)
    got = TorchSimulator(lattice.graph, device=device).classify(integers)
    unit = _logit_unit(lattice)
    scores = {"rounded": compare_classes(wanted, got * unit)}
    return _result(network, lattice.graph, unit, bits, scores, "rounded")


def _logit_unit(lattice: Lattice) -> float:
    """What one unit of the output's current is worth."""
    return float(np.mean(lattice.units[lattice.graph.output.name]))


def _result(
    network: Graph,
    chosen: Graph,
    unit: float,
    bits: Mapping[str, int],
    scores: Mapping[str, tuple[float, float]],
    kept: str,
) -> Quantization:
    certificate = require_certificate(chosen)
    provenance = {
        **network.provenance,
        "float_hash": network.hash(),
        "logit_unit": unit,
        "weight_bits": bits,
        "certificate": certificate.to_json(),
    }
    return Quantization(
        graph=replace(chosen, provenance=provenance),
        certificate=certificate,
        bits=bits,
        agreement={name: score[0] for name, score in scores.items()},
        divergence={name: score[1] for name, score in scores.items()},
        kept=kept,
    )


def _certified(
    prepared: Graph, moments: Mapping[str, Array], options: LatticeOptions, profile: TargetProfile
) -> tuple[Lattice, dict[str, int]]:
    """Round with the widest weights, up to the wanted width, that certify and fit the target."""
    bits = even_widths(prepared, options.bits)
    while True:
        lattice = round_to_lattice(prepared, moments, bits, per_layer=options.per_layer)
        excess = {
            bound.layer: max(1, math.ceil(-bound.headroom_bits))
            for bound in certify(lattice.graph).failures()
        }
        if not excess:
            excess = _too_wide(lattice.graph, profile)
        narrower = dict(bits)
        for layer, over in excess.items():
            before = prepared.ancestors(layer, lambda node: isinstance(node, LINEAR_NODES))
            for name in [layer, *(node.name for node in before)]:
                if name in bits:
                    narrower[name] = max(WIDTHS[0], min(narrower[name], bits[name] - over))
        if narrower == bits:  # nothing to narrow, or as narrow as it gets
            require_certificate(lattice.graph)
            return lattice, bits
        bits = narrower


def _too_wide(graph: Graph, profile: TargetProfile) -> dict[str, int]:
    """Layers that overflow a register of the target, and the bits their weights would have to lose.

    A target without analog input gets the spikes of the first layer from the host.
    """
    widths = (profile.weight_bits, profile.potential_bits, profile.threshold_bits)
    if all(bits is None for bits in widths):
        return {}
    targets, _ = chip_targets(
        graph,
        host_first_layer=not profile.analog_input and graph.input.encoding == "direct",
        host_readout=profile.readout == "host",
    )
    excess: dict[str, int] = {}
    for misfit in check_widths(graph, profile, certificate_of(graph), targets):
        if misfit.bits_over and misfit.node in graph:
            excess[misfit.node] = max(excess.get(misfit.node, 0), misfit.bits_over)
    return excess
