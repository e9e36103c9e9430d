"""What the fits cost: errors of the outputs, of all fits together and of each alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from icsnn_deploy.conversion.frontend.approximate.fits import (
    Fit,
    replaced_by,
    root_mean_square,
    spread,
)
from icsnn_deploy.conversion.frontend.approximate.runs import run_calls
from icsnn_deploy.graph.neuron import Array

_ALONE = 2**26
"""Values of input, over all samples and fits, that the costs of single fits are measured on."""

Outputs = Sequence[Mapping[str, torch.Tensor]]
"""The outputs of each batch, by name."""


@dataclass(frozen=True, kw_only=True)
class OutputError:
    """How far an output of the fitted model is from the model's.

    Args:
        rms: root mean square difference, over the range (largest - least) of the model's output.
        largest: the largest difference, over that range.
    """

    rms: float
    largest: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """What was fitted.

    Args:
        record: of the fits, without figures by task (judged.judged); empty without fits.
        given: the outputs of the fitted model on held-out samples.
        wanted: the model's.
    """

    record: dict[str, Any]
    given: Outputs = ()
    wanted: Outputs = ()

    def values(self, name: str) -> tuple[Array, Array]:
        """An output of the fitted model and of the model, [N, *shape]."""
        given, wanted = (
            torch.cat([one[name] for one in batches]).double().numpy()
            for batches in (self.given, self.wanted)
        )
        return given, wanted


def output_errors(fitted: Outputs, model: Outputs) -> dict[str, OutputError]:
    """The errors of each output, over all batches."""
    found = {}
    for name in model[0]:
        given, wanted = [one[name] for one in fitted], [one[name] for one in model]
        if not wanted[0].is_floating_point():
            continue
        room = spread(wanted)
        pairs = list(zip(given, wanted, strict=True))
        found[name] = OutputError(
            rms=root_mean_square(given, wanted) / room,
            largest=max(float((a - b).abs().max()) for a, b in pairs) / room,
        )
    return found


def costs_alone(
    module: fx.GraphModule,
    fits: Mapping[fx.Node, Fit],
    batches: Sequence[Sequence[torch.Tensor]],
    model: Outputs,
) -> dict[fx.Node, float]:
    """The rms error of the outputs with one fit alone, all else as in the model; mean of outputs.

    Args:
        module: the captured calls.
        fits: of its calls.
        batches: held-out samples; as many are used as are affordable, at least one batch.
        model: the model's outputs on them.
    """
    values = sum(one.numel() for one in batches[0])
    affordable = max(1, _ALONE // max(values * len(fits), 1))
    used = list(batches)[:affordable]
    costs = {}
    for node, fit in fits.items():
        outputs = run_calls(module, used, replaced_by({node: fit}))
        errors = output_errors(outputs, model[: len(used)])
        costs[node] = sum(one.rms for one in errors.values()) / max(len(errors), 1)
    return costs


def as_record(value: float) -> float:
    """A figure with four digits."""
    return float(f"{value:.4g}")


def record_of(
    paths: Mapping[str, Fit],
    costs: Mapping[fx.Node, float],
    errors: Mapping[str, OutputError],
    *,
    knots: int,
    samples: tuple[int, int],
) -> dict[str, Any]:
    """The approximation as JSON values, as a graph's provenance keeps it.

    Args:
        paths: the fits.
        costs: of each alone.
        errors: of the outputs.
        knots: K.
        samples: how many the fits saw, and on how many others the errors were measured; 0 where
            there was one batch only, on which they are measured, too.
    """
    return {
        "knots": knots,
        "fit_samples": samples[0],
        "held_out_samples": samples[1],
        "outputs": {
            name: {
                "rms": as_record(one.rms),
                "largest": as_record(one.largest),
                "agreement": None,
            }
            for name, one in errors.items()
        },
        "fits": [
            {
                "name": path,
                "operator": fit.call.operator,
                "knots": [[as_record(float(b)) for b in part.places] for part in fit.parts],
                "error": as_record(fit.error),
                "alone": as_record(costs[fit.call.node]),
            }
            for path, fit in paths.items()
        ],
    }
