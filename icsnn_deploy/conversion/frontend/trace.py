"""Trace a PyTorch model to an ANN graph: capture the calls, run once for shapes, lower, check.

nn.Module --torch.fx or torch.export--> calls --lower--> Graph of Relu and linear nodes
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from icsnn_deploy.conversion.frontend.approximate.approximate import fit_smooth_calls
from icsnn_deploy.conversion.frontend.approximate.in_parts import write_in_parts
from icsnn_deploy.conversion.frontend.approximate.judged import judged
from icsnn_deploy.conversion.frontend.approximate.loss import APPROXIMATED
from icsnn_deploy.conversion.frontend.approximate.measures import Fitted
from icsnn_deploy.conversion.frontend.approximate.options import Approximation
from icsnn_deploy.conversion.frontend.capture import capture, from_program, without_rules
from icsnn_deploy.conversion.frontend.declared import DeclaredActivation, check_declared
from icsnn_deploy.conversion.frontend.example_inputs import (
    Example,
    ExampleInputs,
    bind_example,
)
from icsnn_deploy.conversion.frontend.example_run import CallResult, record
from icsnn_deploy.conversion.frontend.guard import tracing
from icsnn_deploy.conversion.frontend.live_calls import drop_dead_calls
from icsnn_deploy.conversion.frontend.lowering import Lowered, lower
from icsnn_deploy.conversion.frontend.max_pool_cost import REPLACED
from icsnn_deploy.conversion.frontend.onnx_model.module import OnnxModule
from icsnn_deploy.conversion.frontend.onnx_model.runtime_check import check_with_runtime
from icsnn_deploy.conversion.frontend.remedies import without_approximation
from icsnn_deploy.conversion.frontend.replace_max_pool import (
    REPLACEMENTS,
    Replaced,
    Replacement,
    replace_max_pools,
)
from icsnn_deploy.conversion.frontend.self_check import check_same, reference_runs
from icsnn_deploy.conversion.frontend.tracer import reason_of
from icsnn_deploy.conversion.frontend.working_copy import compute_weights, working_copy
from icsnn_deploy.errors import ConversionError, UnsupportedOperatorError, text_of
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.progress import report_inner

__all__ = ["DeclaredActivation", "trace", "trace_exported"]

logger = logging.getLogger(__name__)

_STAGE, _PARTS = "tracing", 4  # run, capture, lower, compare


@tracing()
@torch.inference_mode(False)  # inference tensors do not count in-place changes
def trace(
    model: nn.Module,
    example: Example,
    *,
    activations: Sequence[DeclaredActivation] = (),
    replace_max_pool: Replacement | None = None,
    approximate: Approximation | None = None,
) -> Graph:
    """The ANN graph that a trained model computes; the model is not changed.

    Args:
        model: in eval mode, on any device, of any real floating type (float32 is used).
        example: a batch [B, ...] as the model takes it; of a model of several inputs one for each,
            in the order of forward's arguments or by their names.
        activations: clip and QCFS classes of the user.
        replace_max_pool: "average" replaces max pooling by average pooling: another network.
        approximate: fits smooth activations and products of tensors: another network.

    Returns:
        A graph with nodes named after the paths of the modules, "input" and "output". Its max_pools
        list what max poolings became; its provenance lists those that were replaced, and the fits.

    Raises:
        UnsupportedOperatorError: lists every operator without an equivalent.
        ConversionError: a model in training mode, scripted or without values; an example that it
            does not take or fails on; or a graph that does not reproduce the model.
    """
    Approximation.check(approximate)
    report_inner(_STAGE, 0, _PARTS)
    work = working_copy(model)
    check_declared(work, activations)
    inputs = bind_example(work, example)
    declared = list(activations)

    def is_declared(module: nn.Module) -> bool:
        return any(one.names(module) for one in declared)

    fixed = work.content.fixed_batch if isinstance(work, OnnxModule) else None
    given = inputs
    inputs, failure = _first_that_runs(
        work, inputs, (2, len(inputs)) if fixed is None else (fixed,)
    )
    if isinstance(failure, ConversionError):  # of an ONNX model, which names the node
        raise failure
    if failure is not None:
        raise _failing(work, inputs, is_declared, failure) from failure
    expected = None
    if isinstance(work, OnnxModule):
        runs = check_with_runtime(work, given if fixed is None else inputs)
        expected = [run.taking(len(inputs)) for run in runs]
    if replace_max_pool is not None or approximate is not None:
        expected = None  # of the changed calls
    elif expected is None:
        expected = reference_runs(work, inputs)
    report_inner(_STAGE, 1, _PARTS)
    compute_weights(work)
    module, failed = capture(work, inputs, is_declared)
    replaced = _replaced(module, replace_max_pool)
    results = record(module, *inputs.tensors.values())
    report_inner(_STAGE, 2, _PARTS)
    drop_dead_calls(module, results)
    fits = Fitted(record={})
    if approximate is not None:
        samples = approximate.samples
        fitted_on = inputs if samples is None else bind_example(work, samples)
        fits, results = _approximated(module, results, inputs, fitted_on, approximate)
    try:
        lowered = lower(module, results, activations=activations, failed=failed, replaced=replaced)
    except UnsupportedOperatorError as error:
        opaque = [str(node.target) for node in module.graph.nodes if node.target in failed]
        inside = without_rules(work, inputs, is_declared, opaque)
        found = [*error.rejections, *inside]
        if approximate is not None:
            found = [without_approximation(one) for one in found]
        raise UnsupportedOperatorError(found) from error
    graph = _graph(lowered, replaced, fits)
    report_inner(_STAGE, 3, _PARTS)
    del results
    if expected is None:
        expected = reference_runs(module, _of_captured(inputs))
    check_same(graph, expected)
    report_inner(_STAGE, _PARTS, _PARTS)
    return graph


@tracing()
@torch.inference_mode(False)  # inference tensors do not count in-place changes
def trace_exported(
    program: ExportedProgram,
    example: Example,
    *,
    activations: Sequence[DeclaredActivation] = (),
    replace_max_pool: Replacement | None = None,
    approximate: Approximation | None = None,
) -> Graph:
    """The ANN graph of an exported program (see `trace`).

    Args:
        program: exported in eval mode, in any dialect that keeps aten operators.
        example: as `trace`; repeated or cut to the batch size of a program of fixed size.
        activations: must be empty: a program holds operators, not the user's classes.
        replace_max_pool, approximate: as `trace`.

    Raises:
        UnsupportedOperatorError, ConversionError: as `trace`.
    """
    if activations:
        raise ConversionError(
            "an exported program has no activation classes to declare: its modules are taken apart "
            "into operators. Convert the nn.Module instead"
        )
    Approximation.check(approximate)
    try:
        exported = program.module()
    except Exception as error:  # a damaged program raises nearly any type
        raise ConversionError(
            f"the exported program can't be run ({type(error).__name__}: {text_of(error):.300}): "
            "its description does not fit its graph. Export the model again"
        ) from error
    if not isinstance(exported, fx.GraphModule):
        raise ConversionError(f"an exported program of {type(exported).__name__}: no fx graph")
    module = from_program(copy.deepcopy(exported))
    inputs = bind_example(module, example)
    fixed = _fixed_batch(module)
    if fixed is not None:
        inputs = inputs.taking(fixed)
    else:
        inputs, _ = _first_that_runs(module, inputs, (2, len(inputs)))
    replaced = _replaced(module, replace_max_pool)
    results = record(module, *inputs.tensors.values())
    drop_dead_calls(module, results)
    fits = Fitted(record={})
    if approximate is not None:
        samples = approximate.samples
        given = inputs if samples is None else bind_example(module, samples)
        fits, results = _approximated(module, results, inputs, given, approximate)
    try:
        lowered = lower(module, results, replaced=replaced)
    except UnsupportedOperatorError as error:
        if approximate is None:
            raise
        found = [without_approximation(one) for one in error.rejections]
        raise UnsupportedOperatorError(found) from error
    graph = _graph(lowered, replaced, fits)
    del results
    check_same(graph, reference_runs(module, inputs, single=fixed is None))
    return graph


def _first_that_runs(
    model: nn.Module, inputs: ExampleInputs, counts: Sequence[int]
) -> tuple[ExampleInputs, Exception | None]:
    """The first number of samples that the model runs on; or the example, and why it fails."""
    failure: Exception | None = None
    for count in dict.fromkeys(counts):
        batch = inputs.taking(count)
        try:
            batch.call(model)
        except Exception as error:  # running the user's model may raise anything
            logger.info("the model does not run on %s: %s", batch.shapes, error)
            failure = error
        else:
            return batch, None
    return inputs, failure


def _failing(
    model: nn.Module,
    inputs: ExampleInputs,
    is_declared: Callable[[nn.Module], bool],
    failure: Exception,
) -> ConversionError:
    """The error for a model that fails on the example: with the call that fails if possible."""
    try:
        module, _ = capture(model, inputs, is_declared, runs=False)
        record(module, *inputs.tensors.values())
    except UnsupportedOperatorError:
        pass
    except ConversionError as error:
        return error
    return ConversionError(
        f"the model fails on {inputs.shapes}: {reason_of(failure)}. Check that the calibration "
        "data has the shape and type that the model takes"
    )


def _of_captured(inputs: ExampleInputs) -> ExampleInputs:
    """The inputs as a captured module takes them: all by position."""
    return ExampleInputs(tensors=inputs.tensors, positional=tuple(inputs.tensors), keywords={})


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


def _approximated(
    module: fx.GraphModule,
    results: dict[fx.Node, CallResult],
    inputs: ExampleInputs,
    samples: ExampleInputs,
    asked: Approximation,
) -> tuple[Fitted, dict[fx.Node, CallResult]]:
    """Replace what is not linear in pieces; the fits, and the results of the new calls."""
    if write_in_parts(module, results):
        results = record(module, *inputs.tensors.values())
    fits = fit_smooth_calls(module, results, inputs, samples, asked)
    if not fits.record:
        return fits, results
    results = record(module, *inputs.tensors.values())
    drop_dead_calls(module, results)
    return fits, results


def _graph(lowered: Lowered, replaced: Replaced, fits: Fitted) -> Graph:
    """The graph of the nodes, with a record of what was replaced."""
    names = list(replaced.names.values())
    graph = Graph(nodes=lowered.nodes, max_pools=lowered.max_pools)
    record = judged(fits, graph)
    found = {**({REPLACED: names} if names else {}), **({APPROXIMATED: record} if record else {})}
    return replace(graph, provenance=found)


def _fixed_batch(module: fx.GraphModule) -> int | None:
    """Batch size that an exported program is bound to."""
    for node in module.graph.nodes:
        if node.op == "placeholder" and "val" in node.meta:
            size = node.meta["val"].shape[0]
            return size if isinstance(size, int) else None
    return None
