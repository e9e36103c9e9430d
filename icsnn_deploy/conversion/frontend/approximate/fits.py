"""Fit the calls of a model in order, each on what the fitted calls before it give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx

from icsnn_deploy.conversion.frontend.approximate.calls import Fittable
from icsnn_deploy.conversion.frontend.approximate.fitted import PiecewiseLinearFit
from icsnn_deploy.conversion.frontend.approximate.functions import CalledFunction
from icsnn_deploy.conversion.frontend.approximate.knots import fit_knots
from icsnn_deploy.conversion.frontend.approximate.products import (
    ProductFit,
    chosen_values,
    fit_product,
)
from icsnn_deploy.conversion.frontend.approximate.runs import Substitute, Values, run_calls
from icsnn_deploy.conversion.frontend.example_run import CallResult
from icsnn_deploy.conversion.frontend.operators import call_path
from icsnn_deploy.errors import ConversionError


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """A call with its fit.

    Args:
        call: the call.
        parts: the fitted functions: one, or those of the sum and of the difference.
        product: of a product of two tensors.
        error: root mean square difference from the call on held-out samples, over the range of
            what the call gives there.
    """

    call: Fittable
    parts: tuple[PiecewiseLinearFit, ...]
    product: ProductFit | None
    error: float

    def compute(self, *operands: torch.Tensor) -> torch.Tensor:
        """What takes the place of the call's result."""
        if self.product is None:
            (whole,) = self.parts
            result: torch.Tensor = whole(operands[0])
            return result
        x, g = operands
        one = self.product
        scaled_x, scaled_g = x * one.scale_x, g * one.scale_g
        total: torch.Tensor = self.parts[0](scaled_x + scaled_g - one.sum_shift)
        gap: torch.Tensor = self.parts[1](scaled_x - scaled_g - one.difference_shift)
        return total + gap


def fit_calls(
    module: fx.GraphModule,
    results: Mapping[fx.Node, CallResult],
    calls: Mapping[fx.Node, Fittable],
    batches: Sequence[Sequence[torch.Tensor]],
    held_out: int,
    knots: int,
) -> tuple[dict[fx.Node, Fit], list[dict[str, torch.Tensor]]]:
    """Fit every call; also the outputs of the fitted model on all batches.

    Args:
        module: the captured calls.
        results: of each on the example.
        calls: to fit.
        batches: a tensor [B, ...] for each input.
        held_out: how many of the last batches the errors are measured on; the fits see the others.
        knots: K of each function.
    """
    fits: dict[fx.Node, Fit] = {}
    choice = torch.Generator().manual_seed(0)

    def fitting(one: Fittable) -> Substitute:
        def compute(values_of: Callable[[fx.Node], Values]) -> Values:
            operands = [values_of(source) for source in one.sources]
            seen = [torch.cat(values[: len(batches) - held_out]) for values in operands]
            exact = _exact(module, results, one)
            made = _fitted(module, results, one, seen, knots, choice)
            batched = list(zip(*operands, strict=True))
            wanted = [exact(*batch) for batch in batched[-held_out:]]
            given = [made.compute(*batch) for batch in batched]
            error = _relative_error(given[-held_out:], wanted)
            fits[one.node] = Fit(call=one, parts=made.parts, product=made.product, error=error)
            return _written(one, values_of, given)

        return Substitute(one.sources, compute)

    outputs = run_calls(module, batches, {node: fitting(one) for node, one in calls.items()})
    return fits, outputs


def replaced_by(fits: Mapping[fx.Node, Fit]) -> dict[fx.Node, Substitute]:
    """The calls of `run_calls` that are replaced by these fits."""

    def replacing(fit: Fit) -> Substitute:
        def compute(values_of: Callable[[fx.Node], Values]) -> Values:
            operands = [values_of(source) for source in fit.call.sources]
            given = [fit.compute(*batch) for batch in zip(*operands, strict=True)]
            return _written(fit.call, values_of, given)

        return Substitute(fit.call.sources, compute)

    return {node: replacing(fit) for node, fit in fits.items()}


def _fitted(
    module: fx.GraphModule,
    results: Mapping[fx.Node, CallResult],
    one: Fittable,
    seen: list[torch.Tensor],
    knots: int,
    choice: torch.Generator,
) -> Fit:
    try:
        if len(seen) == 2:
            product = fit_product(seen[0], seen[1], knots, choice)
            parts = (PiecewiseLinearFit(product.sum_of), PiecewiseLinearFit(product.difference_of))
            return Fit(call=one, parts=parts, product=product, error=0.0)
        samples = chosen_values(seen[0], choice).numpy()
        found = fit_knots(CalledFunction(module, results, one), samples, knots)
        return Fit(call=one, parts=(PiecewiseLinearFit(found),), product=None, error=0.0)
    except (FloatingPointError, np.linalg.LinAlgError) as error:
        raise ConversionError(
            f"{path_of(one)} ({one.operator}): no approximation is found: {error}. Check the "
            "calibration data, or replace the call by ReLU and retrain"
        ) from error


def path_of(one: Fittable) -> str:
    """The path of a call, as the model's user knows it."""
    if one.node.op == "call_module":
        return str(one.node.target)
    plain = "mul" if one.operator == "product" else one.operator.split()[-1]
    return call_path(one.node, plain).replace("/", "_")


def _exact(
    module: fx.GraphModule, results: Mapping[fx.Node, CallResult], one: Fittable
) -> Callable[..., torch.Tensor]:
    """The call itself."""
    if len(one.sources) == 2:
        return torch.mul
    f = CalledFunction(module, results, one)
    return lambda x: torch.from_numpy(f(x.double().numpy()))


def _written(
    one: Fittable, values_of: Callable[[fx.Node], Values], given: list[torch.Tensor]
) -> Values:
    """The results; written into the operand that the call changes, if it changes one."""
    if one.in_place is None:
        return given
    return [old.copy_(new) for old, new in zip(values_of(one.in_place), given, strict=True)]


def _relative_error(given: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    return root_mean_square(given, wanted) / spread(wanted)


def root_mean_square(given: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    """Of the differences of all batches."""
    squares = sum(
        float((a.double() - b.double()).square().sum()) for a, b in zip(given, wanted, strict=True)
    )
    return float((squares / sum(one.numel() for one in wanted)) ** 0.5)


def spread(values: Sequence[torch.Tensor]) -> float:
    """The largest minus the least value of all batches; 1 if all are the same."""
    low = min(float(one.min()) for one in values)
    high = max(float(one.max()) for one in values)
    return high - low if high > low else 1.0
