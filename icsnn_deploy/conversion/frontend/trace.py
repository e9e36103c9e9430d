"""Trace a PyTorch model to an ANN graph: capture the calls, run once for shapes, lower, check.

nn.Module --torch.fx--> calls --lower--> Graph of Relu and linear nodes
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.frontend.capture import capture
from icsnn_deploy.conversion.frontend.declared import DeclaredActivation, check_declared
from icsnn_deploy.conversion.frontend.example_run import CallResult, record
from icsnn_deploy.conversion.frontend.lowering import Lowered, lower
from icsnn_deploy.conversion.frontend.max_pool_cost import REPLACED
from icsnn_deploy.conversion.frontend.operators import lowered_whole
from icsnn_deploy.conversion.frontend.replace_max_pool import (
    REPLACEMENTS,
    Replaced,
    Replacement,
    replace_max_pools,
)
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Relu

__all__ = ["DeclaredActivation", "trace", "trace_exported"]

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-5
_TOLERANCE_QUANTIZED = 5e-2
"""Rounding before a floor can move a neuron by one level; a wrong lowering differs far more."""


@torch.inference_mode(False)  # inference tensors do not count in-place changes
def trace(
    model: nn.Module,
    example: torch.Tensor,
    *,
    activations: Sequence[DeclaredActivation] = (),
    replace_max_pool: Replacement | None = None,
) -> Graph:
    """The ANN graph that a trained model computes; the model is not changed.

    Args:
        model: in eval mode, on any device, of any real floating type (float32 is used).
        example: a batch [B, ...] as the model takes it.
        activations: clip and QCFS classes of the user.
        replace_max_pool: "average" replaces max pooling by average pooling: another network.

    Returns:
        A graph with nodes named after the paths of the modules, "input" and "output". Its max_pools
        list what max poolings became; its provenance lists those that were replaced.

    Raises:
        UnsupportedOperatorError: lists every operator without an equivalent.
        ConversionError: training mode, several inputs or outputs, a model that fails on the
            example, or a graph that does not reproduce the model.
    """
    _check_eval(model)
    check_declared(model, activations)
    work = _working_copy(model)
    declared = list(activations)
    module, failed = capture(
        work, lambda m: lowered_whole(m) or any(one.names(m) for one in declared)
    )
    replaced = _replaced(module, replace_max_pool)
    samples, results = _recorded(module, _batches(example))
    lowered = lower(module, results, activations=activations, failed=failed, replaced=replaced)
    graph = _graph(lowered, replaced)
    del results
    _check_same(graph, module if replaced.names else work, samples)
    return graph


@torch.inference_mode(False)  # inference tensors do not count in-place changes
def trace_exported(
    program: ExportedProgram,
    example: torch.Tensor,
    *,
    activations: Sequence[DeclaredActivation] = (),
    replace_max_pool: Replacement | None = None,
) -> Graph:
    """The ANN graph of an exported program (see `trace`).

    Args:
        program: exported in eval mode, in any dialect that keeps aten operators.
        example: a batch [B, ...]; repeated or cut to the batch size of a program of fixed size.
        activations: must be empty: a program holds operators, not the user's classes.
        replace_max_pool: as `trace`.

    Raises:
        UnsupportedOperatorError, ConversionError: as `trace`.
    """
    if activations:
        raise ConversionError(
            "an exported program has no activation classes to declare: its modules are taken apart "
            "into operators. Convert the nn.Module instead"
        )
    module = program.module()
    if not isinstance(module, fx.GraphModule):
        raise ConversionError(f"an exported program of {type(module).__name__}: no fx graph")
    module = copy.deepcopy(module)
    replaced = _replaced(module, replace_max_pool)
    samples, results = _recorded(module, _batches(example, _fixed_batch(module)))
    lowered = lower(module, results, replaced=replaced)
    graph = _graph(lowered, replaced)
    del results
    _check_same(graph, module, samples)
    return graph


def _replaced(module: fx.GraphModule, replacement: Replacement | None) -> Replaced:
    """Replace max poolings if a replacement is given."""
    if replacement is None:
        return Replaced()
    if replacement not in REPLACEMENTS:
        raise ConversionError(
            f"replace_max_pool {replacement!r} (--replace-maxpool): {', '.join(REPLACEMENTS)}, or "
            "leaving it out, is allowed"
        )
    return replace_max_pools(module)


def _graph(lowered: Lowered, replaced: Replaced) -> Graph:
    """The graph of the nodes, with a record of what max poolings became."""
    names = list(replaced.names.values())
    return Graph(
        nodes=lowered.nodes,
        max_pools=lowered.max_pools,
        provenance={REPLACED: names} if names else {},
    )


def _check_eval(model: nn.Module) -> None:
    active = [
        f"{path or 'the model'} ({type(module).__name__})"
        for path, module in model.named_modules()
        if module.training and isinstance(module, (_NormBase, _DropoutNd))
    ]
    if active:
        raise ConversionError(
            f"in training mode: {', '.join(active)}. Call model.eval() before conversion"
        )


def _working_copy(model: nn.Module) -> nn.Module:
    """The model in eval mode and float32 on the CPU."""
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_complex():
            raise ConversionError(f"{name}: type {value.dtype}; real numbers are needed")
    try:
        work = copy.deepcopy(model)
    except Exception as error:  # deepcopy runs the attributes' own code
        raise ConversionError(
            f"{type(model).__name__} can't be copied ({error}); conversion works on a copy. Load "
            "the state dict into a fresh model"
        ) from error
    return work.eval().to("cpu", torch.float32)


def _batches(example: torch.Tensor, fixed: int | None = None) -> list[torch.Tensor]:
    """Batches to try in turn: two samples, then the example as it is."""
    if example.dim() < 2 or not len(example):
        raise ConversionError(
            f"an example of shape {tuple(example.shape)}: a batch [B, ...] is needed"
        )
    plain = example.detach().cpu()
    plain = plain.float() if plain.is_floating_point() else plain
    sizes = [2, len(plain)] if fixed is None else [fixed]
    return [plain[torch.arange(size) % len(plain)] for size in dict.fromkeys(sizes)]


def _fixed_batch(module: fx.GraphModule) -> int | None:
    """Batch size that an exported program is bound to."""
    for node in module.graph.nodes:
        if node.op == "placeholder" and "val" in node.meta:
            size = node.meta["val"].shape[0]
            return size if isinstance(size, int) else None
    return None


def _recorded(
    module: fx.GraphModule, batches: list[torch.Tensor]
) -> tuple[torch.Tensor, dict[fx.Node, CallResult]]:
    """The first batch that the model runs on, and the results of its calls."""
    for batch in batches[:-1]:
        try:
            return batch, record(module, batch)
        except ConversionError as error:
            logger.info("a batch of %d does not run, trying the whole one: %s", len(batch), error)
    return batches[-1], record(module, batches[-1])


def _check_same(graph: Graph, model: nn.Module, samples: torch.Tensor) -> None:
    """Check that the graph reproduces the output of the model.

    Raises:
        ConversionError: it does not; or the output of the model is not finite.
    """
    outputs = _in_double(model, samples)
    from icsnn_deploy.graph.arrangement import named_outputs

    packed = samples[:2].numpy()
    if graph.input.index is not None:
        packed = packed.reshape(len(packed), -1)[:, graph.input.index]
    named = named_outputs(graph, run_ann(graph, packed))
    hosted = [part.host_op for part in graph.output.parts]
    logits = np.concatenate([v.reshape(len(v), -1) for v in named.values()], axis=1)
    if any(hosted):
        return
    compared = [outputs(samples)[:2]]
    if len(samples) > 1:
        try:
            compared.append(outputs(samples[:1]))
        except Exception as error:  # a model of fixed batch size may raise anything
            logger.info("the model does not run on a single sample: %s", error)
    quantized = any(node.levels is not None for node in graph.nodes_of(Relu))
    for expected in compared:
        if not np.isfinite(expected).all():
            raise ConversionError(
                f"the model gives {expected[~np.isfinite(expected)][0]} on the example: finite "
                "outputs are needed. Check for max pooling with windows of padding alone"
            )
        got = logits[: len(expected)]
        size = float(np.abs(expected).max()) or 1.0
        limit = (_TOLERANCE_QUANTIZED if quantized else _TOLERANCE) * size
        if got.shape != expected.shape or not np.abs(got - expected).max() <= limit:
            figure = (
                f"largest difference {np.abs(got - expected).max():.3g}, allowed {limit:.3g}"
                if got.shape == expected.shape
                else f"output of shape {got.shape} instead of {expected.shape}"
            )
            raise ConversionError(
                f"the traced network does not reproduce the model: {figure}. Check for forward "
                "hooks, values computed from the batch size, or attributes that a declared "
                "activation does not use the way its declaration says"
            )


def _in_double(model: nn.Module, samples: torch.Tensor) -> Callable[[torch.Tensor], Array]:
    """The model as a function that returns NumPy arrays, in double precision where possible."""

    def run(batch: torch.Tensor) -> Array:
        batch = batch.to(dtype) if batch.is_floating_point() else batch.clone()
        with torch.no_grad():
            result = model(batch.clone())
        from icsnn_deploy.conversion.frontend.outputs import named_leaves

        leaves = named_leaves(result, lambda one: isinstance(one, torch.Tensor)).values()
        array: Array = torch.cat(
            [t.double().reshape(len(t), -1) for t in leaves if t is not None], 1
        ).numpy()
        return array

    dtype = torch.float64
    model.double()
    try:
        run(samples[:1] if len(samples) == 2 else samples)
    except Exception as error:  # a model with float32 constants may raise anything
        logger.info("the model does not run in double precision: %s", error)
        dtype = torch.float32
        model.float()
    return run
