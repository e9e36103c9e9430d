"""Resizing: nearest, bilinear, bicubic and area interpolation by any factor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from icsnn_deploy.conversion.frontend.axis_maps import axis_matrices, map_axes
from icsnn_deploy.conversion.frontend.builder import Result
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.gather import gather
from icsnn_deploy.conversion.frontend.images import lifted
from icsnn_deploy.conversion.frontend.rules.move import move


def resize(context: CallContext, x: Any, *arguments: Any, **options: Any) -> Result:
    """F.interpolate, nn.Upsample and the aten operators behind them, along rows and columns."""
    data = context.traced(x)
    if not 3 <= len(data.shape) <= 4:
        raise context.unsupported(f"{len(data.shape) - 2} spatial axes", "one or two")
    mode = options.get("mode", "nearest" if "nearest" in context.got else context.got)
    if "nearest" in str(mode):
        moved = move(context, x, *arguments, **options)
        return moved[0]  # type: ignore[no-any-return]
    return along_axes(context, x, _applied(context, x))


def _applied(context: CallContext, x: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    def apply(tensor: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = context.run(lambda one: tensor if one is x else one)
        return result.contiguous()

    return apply


def along_axes(
    context: CallContext, x: Any, apply: Callable[[torch.Tensor], torch.Tensor]
) -> Result:
    """A linear map of each channel that treats rows and columns apart.

    Args:
        context: the call.
        x: the operand, [B, C, *G].
        apply: the map on tensors [n, 1, *G].
    """
    data = context.traced(x)
    matrices = axis_matrices(context, apply, data.shape[2:])
    elements = context.elements(data)
    axis = lifted(context.builder, elements)
    if axis is None:
        return map_axes(context, context.source(data), matrices, context.name())
    one = np.ones((1, 1))
    source = gather(context.builder, elements.with_axis(axis), data.origin)
    both = (one, *matrices) if axis == 1 else (*matrices, one)
    result = map_axes(context, source, both, context.name())
    return context.builder.numbering.elements_of(result).without_axis(axis)


_OPERATORS = (
    "interpolate upsample upsample_nearest1d upsample_nearest2d upsample_nearest_exact1d "
    "_upsample_nearest_exact1d _upsample_nearest_exact2d upsample_linear1d upsample_bilinear2d "
    "upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa upsample_bilinear "
    "upsample_nearest"
)

LOWERINGS: dict[str, Lowering] = dict.fromkeys(_OPERATORS.split(), resize)
