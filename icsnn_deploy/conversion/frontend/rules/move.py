"""Operators that only move values: reshape, permute, slice, split, join, repeat, pad and the like.

PyTorch itself applies them to arrays of element numbers (see elements.py), so that each spelling
and option has the meaning that it has in the model. No node is added.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils import _pytree as pytree

from icsnn_deploy.conversion.frontend.builder import Result, Traced
from icsnn_deploy.conversion.frontend.call_context import CallContext, Lowering
from icsnn_deploy.conversion.frontend.elements import Elements
from icsnn_deploy.errors import first_line

_SAMPLE = 2**40
"""Difference of the numbers of one element in two samples: more than any network has elements."""


def move(context: CallContext, *operands: Any, **options: Any) -> Any:
    """Apply the traced call to element numbers; one Elements per result, or None for others."""
    try:
        ids = context.run(_numbers(context))
    except (IndexError, RuntimeError, TypeError) as error:  # torch, of numbers in place of indices
        raise context.unsupported(
            f"indices or sizes that depend on the input ({first_line(error)})",
            "constant indices",
            "Return the values that it reads as an output, and let the host choose.",
        ) from error
    leaves, constants = pytree.tree_leaves(ids), [None] * len(pytree.tree_leaves(ids))
    if _has_constants(context, operands, options):
        constants = pytree.tree_leaves(context.run(_constants(context)))
    return tuple(
        _elements(context, leaf, constant) if isinstance(leaf, torch.Tensor) else None
        for leaf, constant in zip(leaves, constants, strict=True)
    )


def moved(context: CallContext, x: Any, change: Any, fill: float = 0) -> Elements:
    """The elements of x under a function of tensors [B, ...] that only moves values.

    Args:
        context: the call.
        x: a traced tensor.
        change: takes a float64 tensor and the value that it may fill in.
        fill: the value that it fills in, in the model.
    """
    numbers = _numbers(context)(context.traced(x))
    elements = _held(context, context.traced(x))
    constants = None
    if elements.constants is not None or fill:
        constants = change(_constants(context)(x), fill)
    return _elements(context, change(numbers, 0.0), constants)


def pad(
    context: CallContext, x: Any, pad: Any, mode: str = "constant", value: float | None = None
) -> Result:
    """F.pad in every mode; a negative padding crops."""
    widths = [int(one) for one in pad]

    def padded(tensor: torch.Tensor, fill: float) -> torch.Tensor:
        filled = {"value": fill} if mode == "constant" else {}
        return functional.pad(tensor, widths, mode=mode, **filled)

    return moved(context, x, padded, float(value or 0))


def identity(context: CallContext, x: Any, *arguments: Any, memory_format: Any = None) -> Result:
    """Calls that change no values."""
    return context.traced(x).value


def dropout(
    context: CallContext, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Result:
    """The identity in eval mode; F.dropout without `training` is active even then."""
    if training and p > 0:
        raise context.unsupported(
            "active in eval mode", "training=False", "Call it with training=self.training."
        )
    return identity(context, x)


def stochastic_depth(
    context: CallContext, x: Any, p: float = 0.5, mode: str = "row", training: bool = True
) -> Result:
    """torchvision's dropout of whole branches."""
    return dropout(context, x, p, training)


def cast(context: CallContext, x: Any, *arguments: Any, **options: Any) -> Result:
    """A conversion that keeps the values."""
    if context.dtype not in (context.traced(x).dtype, torch.float32, torch.float64):
        raise context.unsupported(
            f"{context.traced(x).dtype} to {context.dtype}", "float32", "Remove the conversion."
        )
    return identity(context, x)


def _numbers(context: CallContext) -> Any:
    """Replaces traced tensors by their element numbers, other data by zeros."""

    def substitute(operand: Any) -> Any:
        if isinstance(operand, Traced):
            elements = _held(context, operand)
            ids = torch.from_numpy(elements.ids.astype(np.float64, order="C"))
            samples = torch.arange(context.builder.batch, dtype=torch.float64) * _SAMPLE
            every = ids + samples.reshape(-1, *(1,) * ids.dim()) * (ids != 0)
            return every.movedim(0, elements.batch_axis)
        if isinstance(operand, torch.Tensor) and operand.is_floating_point():
            return torch.zeros_like(operand, dtype=torch.float64)
        return operand

    return substitute


def _constants(context: CallContext) -> Any:
    """Replaces traced tensors by their constants, zero elsewhere."""

    def substitute(operand: Any) -> Any:
        if isinstance(operand, Traced):
            elements = _held(context, operand)
            if elements.constants is None:
                return torch.zeros(operand.shape, dtype=torch.float64)
            constants = torch.from_numpy(np.where(elements.ids == 0, elements.constants, 0))
            every = constants.expand(context.builder.batch, *constants.shape)
            return every.movedim(0, elements.batch_axis)
        if isinstance(operand, torch.Tensor) and operand.is_floating_point():
            return operand.detach().double()
        return operand

    return substitute


def _has_constants(context: CallContext, *operands: Any) -> bool:
    return any(
        _held(context, leaf).constants is not None
        if isinstance(leaf, Traced)
        else isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
        for leaf in pytree.tree_leaves(operands)
    )


def _held(context: CallContext, x: Traced) -> Elements:
    """The elements of a tensor, with the batch along any axis."""
    return x.value if isinstance(x.value, Elements) else context.elements(x)


def _elements(context: CallContext, numbers: torch.Tensor, constants: Any) -> Elements:
    """The elements of one sample; raises Unsupported where samples are mixed."""
    every = numbers.round().to(torch.int64).numpy()
    batch = context.builder.batch
    for axis in range(every.ndim):
        ids = np.moveaxis(every, axis, 0)
        samples = np.arange(batch).reshape(-1, *(1,) * (ids.ndim - 1)) * _SAMPLE
        if len(ids) == batch and np.array_equal(ids, np.where(ids[:1], ids[:1] + samples, 0)):
            break
    else:
        raise context.unsupported(
            f"a result of shape {list(every.shape)} that mixes or moves the samples",
            "operators that keep the samples apart, along one axis",
            "Use flatten(1), which keeps the batch of one sample, too."
            if context.got == "squeeze"
            else "Keep x.size(0) as the first axis: flatten with start_dim=1, or reshape to "
            "[x.size(0), ...].",
        )
    if constants is None:
        return Elements(ids[0], batch_axis=axis)
    values = np.moveaxis(constants.numpy(), axis, 0)
    if (values != values[:1]).any():
        raise context.unsupported(
            "a constant that differs between samples", "the same constant for every sample"
        )
    return Elements(ids[0], values[0] if values[0].any() else None, axis)


_MOVES = (
    "reshape permute transpose t swapaxes swapdims movedim moveaxis chunk split split_with_sizes "
    "unsafe_chunk unsafe_split tensor_split hsplit vsplit dsplit unbind stack hstack vstack dstack "
    "column_stack row_stack cat getitem slice select narrow index_select index gather "
    "take_along_dim flip fliplr flipud roll rot90 expand expand_as repeat tile repeat_interleave "
    "broadcast_to pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle unfold "
    "im2col diagonal view_as reshape_as as_strided attribute.T attribute.mT"
)

LOWERINGS: dict[str, Lowering] = {
    "identity": identity,
    "dropout": dropout,
    "torchvision.ops.stochastic_depth.stochastic_depth": stochastic_depth,
    "to": cast,
    "pad": pad,
    **dict.fromkeys(_MOVES.split(), move),
}
