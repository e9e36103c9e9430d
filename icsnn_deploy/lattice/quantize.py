"""From a float IF network to an integer one that certifies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from icsnn_deploy.conversion.calibration import CalibrationSet, CalibrationSource
from icsnn_deploy.conversion.judge import Judge
from icsnn_deploy.conversion.statistics import Statistics, collect_statistics
from icsnn_deploy.conversion.sweep import Arrival, Change, correct_bias, sweep
from icsnn_deploy.encoding import to_input_units
from icsnn_deploy.errors import LatticeError, TargetError
from icsnn_deploy.graph import Graph
from icsnn_deploy.lattice.assign import Lattice, even_widths, to_integers
from icsnn_deploy.lattice.certificate import Certificate, certify, require_certificate
from icsnn_deploy.lattice.moments import input_moments
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.neuron import Array
from icsnn_deploy.nodes import IF
from icsnn_deploy.progress import Progress, silent
from icsnn_deploy.targets.check import check
from icsnn_deploy.targets.generic import GENERIC
from icsnn_deploy.targets.profile import Profile

WIDTHS = range(2, 17)  # signed weight bits


@dataclass(frozen=True, kw_only=True)
class LatticeOptions:
    """How to quantize.

    Args:
        bits: signed width of the weights, 2 to 16.
        per_layer: one threshold a layer, for targets and readers that take no other.
        input_bits: 8 or 16, for a float input.
        held_out: share of the calibration samples that only judge the correction.
        batch_size: samples run at once.
        moment_samples: samples that the rounding looks at.
    """

    bits: int = 8
    per_layer: bool = False
    input_bits: int = 8
    held_out: float = 0.25
    batch_size: int = 64
    moment_samples: int = 128

    def __post_init__(self) -> None:
        if self.bits not in WIDTHS:
            raise LatticeError(f"weights of {self.bits} bits: 2 to 16 are allowed")
        if self.input_bits not in (8, 16):
            raise LatticeError(f"input of {self.input_bits} bits: 8 or 16 are allowed")
        if not 0 < self.held_out < 1 or self.batch_size < 1 or self.moment_samples < 1:
            raise LatticeError("0 < held_out < 1, batch_size >= 1, moment_samples >= 1 are needed")

    @classmethod
    def for_target(
        cls, profile: Profile, *, bits: int | None, per_layer: bool, input_bits: int
    ) -> LatticeOptions:
        """Options that keep a target's weight width and threshold granularity.

        Raises:
            TargetError: more bits than the target has.
        """
        most = profile.weight_bits
        if bits is not None and most is not None and bits > most:
            raise TargetError(f"{profile.name}: weights of {bits} bits; it takes {most} at most")
        return cls(
            bits=bits or min(most or 8, 8),
            per_layer=per_layer or profile.threshold_granularity == "layer",
            input_bits=input_bits,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantization:
    """An integer network, its certificate, and how it was chosen."""

    graph: Graph
    certificate: Certificate
    bits: Mapping[str, int]  # weight width of each Conv and Linear
    agreement: Mapping[str, float]  # share of held-out samples with the ANN's top-1 class
    divergence: Mapping[str, float]  # mean KL divergence from the ANN's classes, nats
    corrected: bool  # the bias correction was kept

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "bits": dict(self.bits),
            "agreement": dict(self.agreement),
            "divergence": dict(self.divergence),
            "corrected": self.corrected,
            "certificate": self.certificate.to_json(),
        }


def quantize(
    network: Graph,
    calibration_data: CalibrationSource,
    ann: Graph,
    options: LatticeOptions = LatticeOptions(),
    *,
    profile: Profile = GENERIC,
    device: str = "cpu",
    progress: Progress = silent,
) -> Quantization:
    """Put a float IF network on the integer lattice.

    Scales and rounding minimize the error of each layer's output on calibration samples; widths are
    narrowed where the network would not certify at its T, or overflow a register of the target;
    then the bias correction runs on the integer network and is kept if its classes on held-out
    samples diverge less from the ANN's.

    Args:
        network: a float IF network.
        calibration_data: samples as the float network takes them.
        ann: the ANN it comes from.
        options: widths and granularity.
        profile: the target whose registers the network should fit.
        device: torch device.
        progress: told how far each stage is.

    Raises:
        LatticeError: the network can't be put on the lattice, or not so that it certifies.
    """
    calibration = CalibrationSet.of(calibration_data, progress=progress)
    held_out = max(1, round(len(calibration) * options.held_out))
    fit = calibration.part(0, max(1, len(calibration) - held_out))
    judge = Judge(ann, calibration.part(len(calibration) - held_out, len(calibration)), device)
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
    statistics = collect_statistics(
        ann, fit, batch_size=options.batch_size, device=device, progress=progress
    )
    wanted = _wanted_means(network, prepared, lattice, statistics)
    corrected = _corrected(lattice, integer_fit, wanted, options, device, progress)
    unit = float(np.mean(lattice.units[prepared.output.name]))
    scores = {
        "float": judge.score(network, options.batch_size),
        "rounded": judge.score(lattice.graph, options.batch_size, unit),
        "corrected": judge.score(corrected, options.batch_size, unit),
    }
    fits = certify(corrected).float32 and len(_too_wide(corrected, profile)) <= len(
        _too_wide(lattice.graph, profile)
    )
    keep = fits and scores["corrected"][1] < scores["rounded"][1]
    chosen = corrected if keep else lattice.graph
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
        corrected=keep,
    )


def _certified(
    prepared: Graph, moments: Mapping[str, Array], options: LatticeOptions, profile: Profile
) -> tuple[Lattice, dict[str, int]]:
    """Round with the widest weights, up to the wanted width, that certify and fit the target."""
    bits = even_widths(prepared, options.bits)
    while True:
        lattice = to_integers(prepared, moments, bits, per_layer=options.per_layer)
        excess = {
            bound.layer: max(1, math.ceil(-bound.headroom_bits))
            for bound in certify(lattice.graph).failures()
        }
        if not excess:
            excess = _too_wide(lattice.graph, profile)
        narrower = dict(bits)
        for layer, over in excess.items():
            for name in [layer, *_feeding(prepared, layer)]:
                if name in bits:
                    narrower[name] = max(WIDTHS[0], min(narrower[name], bits[name] - over))
        if narrower == bits:  # nothing to narrow, or as narrow as it gets
            require_certificate(lattice.graph)
            return lattice, bits
        bits = narrower


def _too_wide(graph: Graph, profile: Profile) -> dict[str, int]:
    """Layers that overflow a register of the target, and the bits their weights would have to lose.

    A target without analog input gets the spikes of the first layer from the host.
    """
    host_first = not profile.analog_input and graph.input.encoding == "direct"
    excess: dict[str, int] = {}
    for misfit in check(graph, profile, host_first_layer=host_first).misfits:
        if misfit.bits_over and misfit.node in graph:
            excess[misfit.node] = max(excess.get(misfit.node, 0), misfit.bits_over)
    return excess


def _feeding(graph: Graph, name: str) -> list[str]:
    """The memoryless nodes between a population, or the output, and the populations before it."""
    found: list[str] = []
    waiting = list(graph.node(name).inputs)
    while waiting:
        source = graph.node(waiting.pop())
        if not isinstance(source, IF):
            found.append(source.name)
            waiting += source.inputs
    return found


def _wanted_means(
    network: Graph, prepared: Graph, lattice: Lattice, statistics: Statistics
) -> dict[str, Array]:
    """The ANN's mean activations and mean logits in lattice units, [C] each."""
    wanted = {}
    for node in network.nodes_of(IF):
        ready = prepared.node(node.name)
        if not isinstance(ready, IF):
            raise LatticeError(f"{node.name}: prepared as a {ready.kind}")
        # Preparing may have given the population another unit: one threshold a layer.
        activation = node.v_threshold.astype(np.float64) / ready.v_threshold
        unit = activation * lattice.units[ready.inputs[0]]
        per_channel = unit.mean(axis=tuple(range(1, unit.ndim)))
        mean = statistics.layers[node.name].mean
        wanted[node.name] = mean / np.broadcast_to(per_channel, mean.shape)
    logit_unit = float(np.mean(lattice.units[prepared.output.name]))
    wanted[prepared.output.name] = statistics.logits_mean / logit_unit
    return wanted


def _corrected(
    lattice: Lattice,
    calibration: CalibrationSet,
    wanted: dict[str, Array],
    options: LatticeOptions,
    device: str,
    progress: Progress,
) -> Graph:
    """The integer network after the layer-by-layer bias correction, in whole units."""
    graph = lattice.graph
    exact = correct_bias(wanted, wanted[graph.output.name], graph.readout_start)

    def visit(arrival: Arrival) -> Change:
        change = exact(arrival)
        return Change() if change.shift is None else Change(shift=np.round(change.shift))

    return sweep(
        graph,
        calibration,
        visit,
        batch_size=options.batch_size,
        device=device,
        stage="integer bias correction",
        progress=progress,
    )
