"""Replace what is not linear in pieces in captured calls: fit, measure, rewrite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx

from icsnn_deploy.conversion.frontend.approximate.calls import fittable_calls
from icsnn_deploy.conversion.frontend.approximate.fits import fit_calls
from icsnn_deploy.conversion.frontend.approximate.measures import (
    Fitted,
    costs_alone,
    output_errors,
    record_of,
)
from icsnn_deploy.conversion.frontend.approximate.options import (
    Approximation,
    evenly,
    sample_count,
)
from icsnn_deploy.conversion.frontend.approximate.rewriting import replace_fitted
from icsnn_deploy.conversion.frontend.approximate.runs import run_calls
from icsnn_deploy.conversion.frontend.example_inputs import ExampleInputs
from icsnn_deploy.conversion.frontend.example_run import CallResult

_HELD_OUT = 4  # every so many samples one is held out
_BATCH = 32
_SAME = 1e-3  # of the range: outputs that differ more depend on the batch size


def fit_smooth_calls(
    module: fx.GraphModule,
    results: Mapping[fx.Node, CallResult],
    inputs: ExampleInputs,
    samples: ExampleInputs,
    asked: Approximation,
) -> Fitted:
    """Fit and replace smooth activations and products in the module.

    Args:
        module: the captured calls, without dead ones; changed.
        results: of each on the example.
        inputs: the example, of a batch size that the calls run on.
        samples: to fit and measure on.
        asked: what the user asks for.

    Returns:
        The record for a graph's provenance and the outputs that it is of.
    """
    calls = fittable_calls(module, results)
    if not calls:
        return Fitted(record={})
    batches = _batches(module, inputs, samples)
    held_out = max(1, len(batches) // _HELD_OUT)
    seen = batches[:-held_out] or batches  # one batch alone is fitted to, and measured on
    all_seen = len(seen) == len(batches)
    batches = [*seen, *batches[-held_out:]]
    fits, outputs = fit_calls(module, results, calls, batches, held_out, asked.knots)
    kept = batches[-held_out:]
    model = run_calls(module, kept, {})
    given = outputs[-held_out:]
    errors = output_errors(given, model)
    costs = costs_alone(module, fits, kept, model)
    counts = sum(len(one[0]) for one in seen), sum(len(one[0]) for one in kept)
    if all_seen:
        counts = min(counts[0], len(samples)), 0
    paths = replace_fitted(module, results, fits)
    record = record_of(paths, costs, errors, knots=asked.knots, samples=counts)
    return Fitted(record=record, given=given, wanted=model)


def _batches(
    module: fx.GraphModule, inputs: ExampleInputs, samples: ExampleInputs
) -> list[list[torch.Tensor]]:
    """The samples in batches that the calls run on: large ones if sizes are not built in."""
    tensors = list(samples.tensors.values())
    values = sum(one[0].numel() for one in tensors)
    count = sample_count(len(samples), values)
    rows = evenly(len(samples), count)
    size = min(_BATCH, max(count // _HELD_OUT, 1))
    if not _any_size(module, inputs, samples, rows[:size]):
        size = len(inputs)
    parts = [rows[start : start + size] for start in range(0, count, size)]
    if len(parts[-1]) < size:
        if len(parts) > 1:
            parts.pop()
        else:  # fewer samples than the calls take: repeat them
            parts = [parts[0][torch.arange(size) % len(parts[0])]]
    return [[one[part] for one in tensors] for part in parts]


def _any_size(
    module: fx.GraphModule, inputs: ExampleInputs, samples: ExampleInputs, rows: torch.Tensor
) -> bool:
    """Whether the calls give for these samples together what they give in the example's size."""
    size = len(inputs)
    if len(rows) <= size:
        return False
    tensors = list(samples.tensors.values())
    try:
        (together,) = run_calls(module, [[one[rows] for one in tensors]], {})
        (few,) = run_calls(module, [[one[rows[:size]] for one in tensors]], {})
    except Exception:  # a shape of the example that is built in may fail anywhere
        return False
    return all(_agrees(together[name][:size], few[name]) for name in few)


def _agrees(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != other.shape or not one.is_floating_point():
        return one.shape == other.shape
    room = float(other.max() - other.min()) or 1.0
    return bool(((one - other).abs() <= _SAME * room).all())
