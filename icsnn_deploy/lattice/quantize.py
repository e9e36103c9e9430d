"""Quantize a float IF network to an integer network with a certificate."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from icsnn_deploy.backends.torch.simulator import TorchSimulator
from icsnn_deploy.bundle.bundle import Bundle
from icsnn_deploy.bundle.create import SAMPLES_KEPT
from icsnn_deploy.conversion.calibration.agreement import AgreementScorer
from icsnn_deploy.conversion.calibration.context import CalibrationContext
from icsnn_deploy.conversion.calibration.objective import Objective, Score
from icsnn_deploy.conversion.calibration.sampled_activations import sample_activations
from icsnn_deploy.conversion.calibration.samples import CalibrationSet, CalibrationSource
from icsnn_deploy.conversion.conversion import Conversion
from icsnn_deploy.errors import DataError
from icsnn_deploy.graph.arrangement import output_tasks, parts_of_input
from icsnn_deploy.graph.certificate import certify, require_certificate
from icsnn_deploy.graph.encoder import InputEncoder, are_spikes, encoded, encoder_of
from icsnn_deploy.graph.graph import Graph, hard_resets
from icsnn_deploy.graph.inputs import logit_unit, to_input_units
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import LINEAR_NODES, Add, ChannelAffine
from icsnn_deploy.lattice.input_moments import input_moments
from icsnn_deploy.lattice.options import WIDTHS, LatticeOptions
from icsnn_deploy.lattice.output_units import output_unit
from icsnn_deploy.lattice.prepare import prepare
from icsnn_deploy.lattice.quantization import FloatNetwork, Quantization
from icsnn_deploy.lattice.recalibrate import activation_units, readout_steps, recalibrate
from icsnn_deploy.lattice.round_network import Lattice, even_widths, round_to_lattice
from icsnn_deploy.lattice.train import check_trainable, train_on_lattice, training_plan
from icsnn_deploy.progress import Progress
from icsnn_deploy.progress_display import ProgressOption, shown
from icsnn_deploy.sources.network_samples import network_samples
from icsnn_deploy.targets.generic import GENERIC
from icsnn_deploy.targets.paths import chip_targets
from icsnn_deploy.targets.profile import TargetProfile
from icsnn_deploy.targets.resources import certificate_of
from icsnn_deploy.targets.widths import check_widths


def quantize(
    source: Graph | Conversion | Bundle | str | os.PathLike[str],
    calibration_data: CalibrationSource | Mapping[str, Any],
    ann: Graph | None = None,
    options: LatticeOptions = LatticeOptions(),
    *,
    profile: TargetProfile = GENERIC,
    input_key: str | None = None,
    samples: int | None = None,
    channels_last: bool | None = None,
    device: str = "cpu",
    progress: ProgressOption = True,
) -> Quantization:
    """Put a float IF network on the integer lattice.

    Scales and rounding minimize the error of each layer's output on calibration samples. Weight
    widths are reduced where the network would not certify at its T, or would overflow a register of
    the target. Then the integer network is calibrated again (see lattice.recalibrate), and with
    options.effort other than quick the best is trained (see lattice.trainable). Of the candidates
    the one is kept whose outputs on held-out samples diverge least from the ANN's, by the task of
    each output (calibration.objective).

    Args:
        source: a float IF network: a conversion, a bundle or the path of one, or a graph.
        calibration_data: samples as the float network takes them, in any form that `convert` takes;
            of rate encoding, the samples in [0, 1] or an array of their spikes [T, N, *shape].
        ann: for a graph, the ANN that it comes from. Without an ANN the network is rounded but not
            calibrated again, and its outputs are compared with those of the float network.
        options: widths and granularity.
        profile: the target whose registers the network should fit.
        input_key: of dict batches, the entry that holds the samples.
        samples: use at most this many; None: all.
        channels_last: as for `convert`.
        device: torch device.
        progress: True shows how far it is, None or False nothing, a function is called (see
            `convert`).

    Raises:
        DataError: no samples, or samples that can't be those of the network.
        LatticeError: the network cannot be put on the lattice, does not certify there, or is to
            be trained and has no ANN or hard reset.
    """
    with shown(progress, "quantizing") as reporting:
        given = FloatNetwork.of(source, ann)
        return _quantized(
            given,
            calibration_data,
            options,
            profile,
            input_key,
            samples,
            channels_last,
            device,
            reporting,
        )


def _quantized(
    given: FloatNetwork,
    calibration_data: CalibrationSource | Mapping[str, Any],
    options: LatticeOptions,
    profile: TargetProfile,
    input_key: str | None,
    samples: int | None,
    channels_last: bool | None,
    device: str,
    progress: Progress,
) -> Quantization:
    """The work of `quantize`."""
    network = given.network
    check_trainable(given.network, given.ann, options.effort)
    only_rounded = given.ann is None or hard_resets(network)
    if only_rounded or (isinstance(calibration_data, Mapping) and input_key is None):
        calibration_data = network_samples(
            network,
            calibration_data,
            "calibration data",
            normalization=given.normalization,
            channels_last=channels_last,
            limit=samples,
            mixed=True,  # moments are measured on the first samples
            input_key=input_key,
            progress=progress,
        ).samples
        channels_last = None  # packed
    if given.ann is None or only_rounded:
        found = np.asarray(calibration_data)
        return _rounded(given, found, options, profile, device, progress)
    context = (
        CalibrationContext.of(
            calibration_data,
            batch_size=options.batch_size,
            limit=samples,
            input_key=input_key,
            device=device,
            progress=progress,
            encoder=_encoder(given, calibration_data),
        )
        .with_channels_first(
            given.normalization, channels_last, parts_of_input(network.input)[0].shape
        )
        .for_normalization(given.normalization)
        .arranged_for(network)
    )
    fit, held_out = context.split(options.held_out)
    ann = replace(given.ann, tasks=output_tasks(network))
    scorer = AgreementScorer(ann, held_out, readout_steps(network))
    prepared = prepare(
        network,
        np.asarray(fit.samples.samples),
        per_layer=options.per_layer,
        input_bits=options.input_bits,
    )
    integer_fit = fit
    if not network.input.is_timed:
        integers = CalibrationSet(to_input_units(prepared, fit.samples.samples))
        integer_fit = replace(fit, samples=integers)
    moments = input_moments(prepared, integer_fit.part(0, options.moment_samples))
    lattice, bits = _certified(prepared, moments, options, profile)
    unit = _output_unit(lattice)
    candidates = recalibrate(
        lattice,
        sample_activations(given.ann, fit),
        activation_units(network, prepared, lattice),
        integer_fit,
        readout_steps=readout_steps(network),
        keep_thresholds=options.per_layer,
    )
    scores = {"float": scorer.score(network)}
    scale = _scale(lattice.graph, unit)
    scores |= {name: scorer.score(graph, scale) for name, graph in candidates.items()}
    kept = _best(candidates, scores, lattice, profile)
    plan = training_plan(ann, network.steps, options.effort)
    if plan is not None:
        candidates["trained"] = train_on_lattice(
            candidates[kept],
            prepared,
            bits,
            scale,
            ann,
            fit,
            plan,
            objective=scorer.objective,
            readout_steps=readout_steps(network),
            one_threshold=options.per_layer,
            seed=options.seed,
        )
        scores["trained"] = scorer.score(candidates["trained"], scale)
        kept = _best(candidates, scores, lattice, profile)
    kept_samples = np.array(context.inputs(slice(SAMPLES_KEPT)))  # not a view of all
    return _result(given, kept_samples, candidates[kept], unit, bits, scores, kept)


def _best(
    candidates: Mapping[str, Graph],
    scores: Mapping[str, Score],
    lattice: Lattice,
    profile: TargetProfile,
) -> str:
    """The candidate of least divergence, of those that certify and fit the target."""
    misfits = len(_too_wide(lattice.graph, profile))
    fitting = [
        name
        for name, graph in candidates.items()
        if certify(graph).float32 and len(_too_wide(graph, profile)) <= misfits
    ]
    return min(fitting, key=lambda name: scores[name].divergence)


def _encoder(given: FloatNetwork, calibration_data: CalibrationSource) -> InputEncoder:
    """The encoder of the network's input; spikes that are given need no encoding."""
    encoder = encoder_of(given.network, given.rate_seed)
    shape = getattr(calibration_data, "shape", None)  # of an array or a tensor
    if shape is not None and are_spikes(given.network, tuple(shape)):
        return replace(encoder, encoding="events", seed=None)
    return encoder


def _rounded(
    given: FloatNetwork,
    samples: Array,
    options: LatticeOptions,
    profile: TargetProfile,
    device: str,
    progress: Progress,
) -> Quantization:
    """The network rounded, without an ANN to calibrate it for.

    Samples are as network_samples gives them. Spike input is [T, N, *shape]: nothing is averaged
    over it, so the weights are rounded to the nearest integer.
    """
    network = given.network
    direct = not network.input.is_timed
    x = encoded(network, samples, given.rate_seed)
    axis = network.input.batch_axis
    if x.ndim < axis + 2 or not x.shape[axis]:
        raise DataError(f"calibration data of shape {samples.shape}: [N, *shape] with N >= 1")
    prepared = prepare(network, x, per_layer=options.per_layer, input_bits=options.input_bits)
    integers = to_input_units(prepared, x)
    moments: Mapping[str, Array] = {}
    if direct:
        context = CalibrationContext(
            samples=CalibrationSet(integers[: options.moment_samples]),
            batch_size=options.batch_size,
            device=device,
            progress=progress,
        )
        moments = input_moments(prepared, context)
    lattice, bits = _certified(prepared, moments, options, profile)
    wanted = TorchSimulator(network, device=device).classify(x)
    got = TorchSimulator(lattice.graph, device=device).classify(integers)
    unit = _output_unit(lattice)
    found = Objective(network, wanted).score(got * _scale(lattice.graph, unit))
    scores = {"rounded": found}
    kept = x.take(range(min(SAMPLES_KEPT, x.shape[axis])), axis=axis)
    return _result(given, kept, lattice.graph, unit, bits, scores, "rounded")


def _output_unit(lattice: Lattice) -> float | tuple[float, ...]:
    """What one unit of the output's current represents, in units of the ANN's logits."""
    return output_unit(lattice.graph, lattice.units[lattice.graph.output.name])


def _scale(graph: Graph, unit: float | tuple[float, ...]) -> float | Array:
    """The factor that turns the network's logits into those of the ANN."""
    found = logit_unit(replace(graph, output_unit=unit))
    return 1.0 if found is None else found


def _result(
    source: FloatNetwork,
    samples: Array,
    chosen: Graph,
    unit: float | tuple[float, ...],
    bits: Mapping[str, int],
    scores: Mapping[str, Score],
    kept: str,
) -> Quantization:
    certificate = require_certificate(chosen)
    provenance = {
        **source.network.provenance,
        "float_hash": source.network.hash(),
        "weight_bits": bits,
        "certificate": certificate.to_json(),
    }
    return Quantization(
        network=replace(
            chosen,
            output_unit=unit,
            calibrated_steps=source.network.calibrated_steps,
            max_pools=source.network.max_pools,
            tasks=source.network.tasks,
            provenance=provenance,
        ),
        certificate=certificate,
        bits=bits,
        agreement={name: score.agreement for name, score in scores.items()},
        divergence={name: score.divergence for name, score in scores.items()},
        outputs={name: score.outputs for name, score in scores.items()},
        kept=kept,
        source=source,
        samples=samples,
    )


def _certified(
    prepared: Graph, moments: Mapping[str, Array], options: LatticeOptions, profile: TargetProfile
) -> tuple[Lattice, dict[str, int]]:
    """Round with the widest weights, up to options.bits, that certify and fit the target."""
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
            for name in [layer, *(node.name for node in before), *_joined(prepared, layer)]:
                if name in bits:
                    narrower[name] = max(WIDTHS[0], min(narrower[name], bits[name] - over))
        if narrower == bits:  # nothing to narrow, or no narrower width left
            require_certificate(lattice.graph, narrowest=True)
            return lattice, bits
        bits = narrower


def _joined(prepared: Graph, layer: str) -> list[str]:
    """The connections that a shortcut is summed with: its weight is in their units."""
    if not isinstance(prepared.node(layer), ChannelAffine):
        return []
    sums = [node for node in prepared.consumers(layer) if isinstance(node, Add)]
    return [name for node in sums for name in node.inputs if name != layer]


def _too_wide(graph: Graph, profile: TargetProfile) -> dict[str, int]:
    """Bits by which the weights of each layer must shrink to fit the registers of the target.

    A target without analog input gets the spikes of the first layer from the host.
    """
    widths = (profile.weight_bits, profile.potential_bits, profile.threshold_bits)
    if all(bits is None for bits in widths):
        return {}
    targets, _ = chip_targets(
        graph,
        host_first_layer=not profile.analog_input and not graph.input.is_timed,
        host_readout=profile.readout == "host",
    )
    excess: dict[str, int] = {}
    for misfit in check_widths(graph, profile, certificate_of(graph), targets):
        if misfit.bits_over and misfit.node in graph:
            excess[misfit.node] = max(excess.get(misfit.node, 0), misfit.bits_over)
    return excess
