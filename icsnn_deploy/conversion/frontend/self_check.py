"""Compare a traced graph with the model that it comes from, output by output."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from icsnn_deploy.backends.reference import run_ann
from icsnn_deploy.conversion.frontend.example_inputs import ExampleInputs
from icsnn_deploy.conversion.frontend.outputs import named_leaves
from icsnn_deploy.errors import ConversionError
from icsnn_deploy.graph.arrangement import input_parts, named_outputs, output_parts, pack_inputs
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import Relu

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tolerance:
    """Allowed difference: `spread` times largest minus least value, `size` times the largest."""

    spread: float
    size: float


DOUBLE = Tolerance(1e-5, 1e-6)  # 1e-6: what derived parameters, rounded to float32, may add up to
_SINGLE = Tolerance(1e-3, 1e-4)
SIXTEEN_BITS = Tolerance(2e-2, 2e-2)
_OWN_ROUNDING = 4.0
_LEVELS = Tolerance(5e-2, 5e-2)
"""Rounding before a floor can move a neuron by one level; a wrong lowering differs far more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceRun:
    """What the model itself gives on a batch.

    Args:
        inputs: the batch.
        outputs: by name, in double precision.
        is_double: the model ran in double precision.
        is_example: the batch is of the user's samples, not a random one.
        rounding: by output, the largest difference of the model's own run in single precision, on
            this batch or on the example.
    """

    inputs: ExampleInputs
    outputs: dict[str, Array]
    is_double: bool
    is_example: bool
    rounding: Mapping[str, float] = field(default_factory=dict)

    def taking(self, count: int) -> ReferenceRun:
        """The first `count` samples of the batch, or all where there are fewer."""
        return replace(
            self,
            inputs=self.inputs.taking(min(count, len(self.inputs))),
            # a reduction over all axes has no axis of samples; its rule refuses it
            outputs={name: one[:count] if one.ndim else one for name, one in self.outputs.items()},
        )


def reference_runs(
    model: nn.Module, inputs: ExampleInputs, *, single: bool = True
) -> list[ReferenceRun]:
    """The outputs of the model on the example, and on a random sample alone.

    The model runs in double precision where it can, and is float32 afterwards.

    Args:
        model: a float32 model that runs on the example.
        inputs: the example.
        single: try another batch size than the example's.
    """
    dtype, first = _first_run(model, inputs)
    runs = [first]
    random = _random_like(inputs)
    for batch in [random.taking(1), random] if single else [random]:
        try:
            runs.append(_run(model, batch, dtype, is_example=False))
            break
        except (
            Exception
        ) as error:  # a model of fixed batch size, or with checks, may raise anything
            logger.info("the model does not run on %s: %s", batch.shapes, error)
    model.float()
    return _with_rounding(model, runs) if first.is_double else runs


def _with_rounding(model: nn.Module, runs: list[ReferenceRun]) -> list[ReferenceRun]:
    """The runs with the differences of the float32 model on the same batch, or on the first one.

    Samples unlike those that a model was made for may let it amplify rounding by far more.
    """
    found = []
    least: dict[str, float] = {}
    for run in runs:
        single = _run(model, run.inputs, torch.float32, is_example=run.is_example)
        own = _differences(single.outputs, run.outputs)
        rounding = {name: max(value, least.get(name, 0.0)) for name, value in own.items()}
        least = least or rounding
        found.append(replace(run, rounding=rounding))
    return found


def _differences(one: dict[str, Array], other: dict[str, Array]) -> dict[str, float]:
    """The largest difference of each output; 0 where it is not finite, or shapes differ."""
    alike = [name for name in other if name in one and one[name].shape == other[name].shape]
    with np.errstate(invalid="ignore"):
        found = {name: float(np.abs(one[name] - other[name]).max(initial=0)) for name in alike}
    return {name: value if np.isfinite(value) else 0.0 for name, value in found.items()}


def check_same(graph: Graph, runs: list[ReferenceRun]) -> None:
    """Check that the graph gives the outputs of the model.

    Raises:
        ConversionError: it does not, or an output of the model is not finite; names the output.
    """
    for run in runs:
        if all(np.isfinite(values).all() for values in run.outputs.values()):
            _check_run(graph, run)
        elif run.is_example:
            raise ConversionError(_not_finite(run.outputs))


def _check_run(graph: Graph, run: ReferenceRun) -> None:
    got = _graph_outputs(graph, run.inputs)
    if len(got) == len(run.outputs) == 1:
        got = dict(zip(run.outputs, got.values(), strict=True))
    if set(got) != set(run.outputs):
        raise ConversionError(
            f"the traced network gives the outputs {', '.join(got)} instead of "
            f"{', '.join(run.outputs)}"
        )
    quantized = any(node.levels is not None for node in graph.nodes_of(Relu))
    problems = differences(got, run, _LEVELS if quantized else DOUBLE if run.is_double else _SINGLE)
    if problems:
        raise ConversionError(
            f"the traced network does not reproduce the model: {'; '.join(problems)}. Check for "
            "values computed from the batch size, hooks that read values, or attributes that a "
            "declared activation does not use the way its declaration says"
        )


def differences(got: Mapping[str, Array], run: ReferenceRun, tolerance: Tolerance) -> list[str]:
    """What is wrong with each output that differs by more than the tolerance."""
    problems = []
    for name, values in run.outputs.items():
        problem = _difference(got[name], values, tolerance, run.rounding.get(name, 0.0))
        if problem is not None:
            problems.append(problem if len(run.outputs) == 1 else f"output {name!r}: {problem}")
    return problems


def _difference(got: Array, expected: Array, tolerance: Tolerance, rounding: float) -> str | None:
    """What is wrong with an output; None if it is within the tolerance.

    The graph holds derived parameters in single precision, so that it may differ from the model as
    much as the model itself does in single precision.
    """
    if got.shape != expected.shape:
        where = f"output of shape {got.shape} instead of {expected.shape}"
        if got.shape == (1, *expected.shape):
            where += " (.squeeze() drops the batch axis of a single sample: use flatten(1))"
        return where
    spread = float(expected.max() - expected.min())
    limit = tolerance.spread * spread + tolerance.size * float(np.abs(expected).max())
    limit = max(limit, _OWN_ROUNDING * rounding)
    difference = float(np.abs(got - expected).max())
    if difference <= limit:
        return None
    return f"largest difference {difference:.3g}, allowed {limit:.3g}"


def _graph_outputs(graph: Graph, inputs: ExampleInputs) -> dict[str, Array]:
    """The outputs of the graph, with what is left to the host applied."""
    arrays = {name: one.numpy() for name, one in inputs.tensors.items()}
    if len(arrays) == 1:
        arrays = {input_parts(graph)[0].name: next(iter(arrays.values()))}
    outputs = named_outputs(graph, run_ann(graph, pack_inputs(graph, arrays)))
    for part in output_parts(graph):
        if part.host_op:
            outputs[part.name] = apply_host_op(part.host_op, outputs[part.name])
    return outputs


def apply_host_op(host_op: str, values: Array) -> Array:
    """The operation that a model ends with and the host does, on [B, C, ...]."""
    tensor = torch.from_numpy(np.asarray(values, np.float64))
    name, _, axis = host_op.removesuffix(")").partition("(dim=")
    operation = _HOST_OPS.get(name)
    if operation is None:
        raise ConversionError(
            f"host operation {host_op!r}: there are {', '.join(sorted(_HOST_OPS))}"
        )
    result: Array = operation(tensor, int(axis or 1)).numpy()
    return result


_HOST_OPS: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "argmax": lambda x, axis: x.argmax(axis),
    "log_softmax": lambda x, axis: x.log_softmax(axis),
    "logsigmoid": lambda x, axis: torch.nn.functional.logsigmoid(x),
    "sigmoid": lambda x, axis: torch.sigmoid(x),
    "softmax": lambda x, axis: x.softmax(axis),
    "softmin": lambda x, axis: (-x).softmax(axis),
    "tanh": lambda x, axis: torch.tanh(x),
}


def _not_finite(outputs: dict[str, Array]) -> str:
    name, values = next((n, v) for n, v in outputs.items() if not np.isfinite(v).all())
    where = "" if len(outputs) == 1 else f" in output {name!r}"
    return (
        f"the model gives {values[~np.isfinite(values)][0]}{where} on the example: finite outputs "
        "are needed. Check for max pooling with windows of padding alone"
    )


def _random_like(inputs: ExampleInputs) -> ExampleInputs:
    """Random batches with the mean and the deviation of the example's; integers in other order."""
    generator = torch.Generator().manual_seed(0)

    def like(one: torch.Tensor) -> torch.Tensor:
        if not one.is_floating_point():
            order = torch.randperm(one.numel(), generator=generator)
            return one.flatten()[order].reshape(one.shape)
        deviation = float(one.std()) if one.numel() > 1 else 0.0
        noise = torch.randn(one.shape, generator=generator)
        return noise * (deviation or 1.0) + one.mean()

    return inputs.of({name: like(one) for name, one in inputs.tensors.items()})


def _first_run(model: nn.Module, inputs: ExampleInputs) -> tuple[torch.dtype, ReferenceRun]:
    """The run on the example, and the precision of it: double if the model runs so."""
    model.double()
    try:
        return torch.float64, _run(model, inputs, torch.float64, is_example=True)
    except Exception as error:  # a model with float32 constants may raise anything
        logger.info("the model does not run in double precision: %s", error)
    model.float()
    return torch.float32, _run(model, inputs, torch.float32, is_example=True)


def _run(
    model: nn.Module, inputs: ExampleInputs, dtype: torch.dtype, *, is_example: bool
) -> ReferenceRun:
    cast = {
        name: one.to(dtype) if one.is_floating_point() else one
        for name, one in inputs.tensors.items()
    }
    outputs = {
        name: _values(name, value)
        for name, value in named_leaves(inputs.of(cast).call(model)).items()
        if isinstance(value, torch.Tensor)
    }
    is_double = dtype == torch.float64
    return ReferenceRun(inputs=inputs, outputs=outputs, is_double=is_double, is_example=is_example)


def _values(name: str, value: torch.Tensor) -> Array:
    """The values of an output of the model, in double precision."""
    try:
        return value.detach().double().numpy()
    except (RuntimeError, TypeError) as error:  # on another device, sparse, nested, quantized
        kinds = {"nested": value.is_nested, "quantized": value.is_quantized}
        layout = str(value.layout).removeprefix("torch.")
        kind = next((name for name, is_it in kinds.items() if is_it), layout)
        raise ConversionError(
            f"output {name!r} of the model: {kind} tensor on device {value.device}, whose values "
            "can't be read; only dense tensors on the CPU can. Let forward return one"
        ) from error
