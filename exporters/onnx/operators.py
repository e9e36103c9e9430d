"""Write one node of a graph as ONNX operators, and collect the parts of an ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import assert_never

from icsnn_deploy.errors import ExportError
from icsnn_deploy.exporters.onnx.contract import (
    BATCH,
    FOLDED,
    INPUT,
    Step,
    constant_name,
    tensor_name,
)
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array
from icsnn_deploy.graph.nodes import (
    IF,
    Add,
    AnyPopulation,
    AvgPool,
    BaseNode,
    ChannelAffine,
    Conv,
    Flatten,
    Input,
    Linear,
    Node,
    Output,
    Pairs,
    Population,
    Relu,
    Shape,
)

if TYPE_CHECKING:
    import onnx

Attributes = Mapping[str, "int | Sequence[int] | onnx.GraphProto"]


class OnnxWriter:
    """Collects operators, constants, inputs and outputs; each constant is stored once."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.described: dict[str, onnx.ValueInfoProto] = {}
        self._constants: set[str] = set()

    def op(
        self,
        operator: str,
        sources: Sequence[str],
        result: str | Sequence[str],
        attributes: Attributes | None = None,
    ) -> str:
        """Append an operator; returns the name of its first result."""
        from onnx import helper

        results = [result] if isinstance(result, str) else list(result)
        node = helper.make_node(operator, list(sources), results, name=results[0])
        for key, value in (attributes or {}).items():
            node.attribute.append(helper.make_attribute(key, value))
        self.nodes.append(node)
        return results[0]

    def constant(self, name: str, value: Array) -> str:
        """Store a constant unless it is stored already; returns its name."""
        from onnx import numpy_helper

        if name not in self._constants:
            self._constants.add(name)
            self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def integers(self, values: Sequence[int]) -> str:
        """A constant vector of int64, as Reshape and Split take it."""
        name = constant_name("_".join(map(str, values)))
        return self.constant(name, np.array(values, np.int64))

    def scalar(self, value: int) -> str:
        """A constant float32 of rank 0."""
        return self.constant(constant_name(f"scalar_{value}"), np.array(value, np.float32))

    def parameter(self, node: BaseNode, field: str, repeat_count: int = 1) -> str:
        """An array field of a node as float32, times `repeat_count`; returns its name."""
        name = tensor_name(
            node.name, field if repeat_count == 1 else f"{field}_times_{repeat_count}"
        )
        if name not in self._constants:
            value = exact_float32(node.name, field, getattr(node, field))
            if repeat_count != 1:
                value = (value.astype(np.float64) * repeat_count).astype(np.float32)
            self.constant(name, value)
        return name

    def cast(self, source: str, result: str, dtype: str) -> str:
        """Cast to a type, given by its NumPy name."""
        return self.op("Cast", [source], result, {"to": element_type(dtype)})

    def describe(self, name: str, shape: Sequence[int | str], dtype: str = "float32") -> None:
        """State the shape of an inner tensor."""
        self.described[name] = _value_info(name, shape, dtype)

    def network_input(self, node: Input, steps: int | None) -> str:
        """Declare the network's input and cast it to float32; returns the name of the result.

        Args:
            node: the input: [N, *shape] for direct encoding, else [T, N, *shape].
            steps: T; None for the step layout, which has no time axis.
        """
        timed = node.is_timed
        self.add_input(INPUT, batched(node.shape, steps if timed else None), node.dtype)
        if node.dtype == "float32":
            return INPUT
        return self.cast(INPUT, tensor_name(node.name, "float"), "float32")

    def add_input(self, name: str, shape: Sequence[int | str], dtype: str = "float32") -> None:
        self.inputs.append(_value_info(name, shape, dtype))

    def add_output(self, name: str, shape: Sequence[int | str], dtype: str = "float32") -> None:
        self.outputs.append(_value_info(name, shape, dtype))


def _value_info(name: str, shape: Sequence[int | str], dtype: str) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(name, element_type(dtype), list(shape))


def element_type(dtype: str) -> int:
    """ONNX's number for a NumPy type."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def batched(shape: Shape, time_steps: int | None = None) -> list[int | str]:
    """A shape of the graph after the batch axis N and, if there is one, the time axis."""
    return [*([] if time_steps is None else [time_steps]), BATCH, *shape]


def folded(shape: Shape) -> list[int | str]:
    """A shape of the graph after one axis with all steps of all samples."""
    return [FOLDED, *shape]


def exact_float32(name: str, field: str, value: Array) -> Array:
    """The array as float32.

    Raises:
        ExportError: an integer that float32 can't hold.
    """
    single = value.astype(np.float32, copy=False)
    if value.dtype.kind == "f":
        return single
    # beyond 2^62, the cast back to int64 is undefined
    held = (np.abs(single) < 2.0**62) & (single.astype(np.int64) == value)
    if not held.all():
        worst = value.flat[int(np.argmin(held))]
        raise ExportError(
            f"{name}.{field}: the integer {worst} is not a float32 (exact to 2^24); use fewer bits"
        )
    return single


def emit(
    writer: OnnxWriter,
    graph: Graph,
    node: Node,
    sources: Sequence[str],
    step: int | None,
    repeat_count: int = 1,
) -> str:
    """Write a node without memory; returns the name of its result.

    With `repeat_count` n it maps the sum of its sources over n steps to the sum of its results
    over n steps: biases and shifts, which are added at each step, count n times.
    """
    result = tensor_name(node.name, "y", step)
    match node:
        case Conv():
            bias = writer.parameter(node, "bias", repeat_count)
            wired = [sources[0], writer.parameter(node, "weight"), bias]
            return writer.op("Conv", wired, result, _conv_attributes(node))
        case Linear():
            bias = writer.parameter(node, "bias", repeat_count)
            wired = [sources[0], writer.parameter(node, "weight"), bias]
            return writer.op("Gemm", wired, result, {"transB": 1})
        case ChannelAffine():
            return _scale(writer, node, sources[0], step, repeat_count)
        case AvgPool():
            return writer.op("AveragePool", sources, result, _pool_attributes(node))
        case Flatten():
            # 0 keeps the batch axis, also that of an empty batch.
            shape = writer.integers([0, *graph.shape(node.name)])
            return writer.op("Reshape", [sources[0], shape], result)
        case Add():
            return _sum(writer, node, sources, step)
        case Output():
            return sources[0]
        case Input() | Relu() | Population():
            raise ExportError(
                f"{node.name} ({node.kind}): no ONNX form; export the converted IF network"
            )
        case _:
            assert_never(node)


def emit_population(
    writer: OnnxWriter, node: AnyPopulation, current: str, v: str, step: Step, v_after: str | None
) -> str:
    """Write one step of a population; returns the name of its spikes, 0 or 1 as float32.

    Args:
        writer: of the model.
        node: the population.
        current: name of I[t].
        v: name of v[t-1].
        step: t, for the names of the results.
        v_after: the name that v[t] gets; None where nothing needs it.
    """
    match node:
        case IF():
            return emit_if(writer, node, current, v, step, v_after)
        case _:
            assert_never(node)


def emit_if(
    writer: OnnxWriter, node: IF, current: str, v: str, step: Step, v_after: str | None
) -> str:
    """Write one IF step; returns the name of its spikes, 0 or 1 as float32.

    u[t] = v[t-1] + I[t];  s[t] = u[t] >= v_threshold;  v[t] = u[t] - v_threshold * s[t]
    with hard reset v[t] = v_reset where s[t] else u[t]

    Args:
        v: name of v[t-1].
        v_after: name for v[t]; None where it is not needed.
    """
    name = node.name
    threshold = writer.parameter(node, "v_threshold")
    u = writer.op("Add", [v, current], tensor_name(name, "u", step))
    fired = writer.op("GreaterOrEqual", [u, threshold], tensor_name(name, "fired", step))
    spikes = writer.cast(fired, tensor_name(name, "s", step), "float32")
    if v_after is not None and node.v_reset is not None:
        writer.op("Where", [fired, writer.parameter(node, "v_reset"), u], v_after)
    elif v_after is not None:
        reset = writer.op("Mul", [spikes, threshold], tensor_name(name, "reset", step))
        writer.op("Sub", [u, reset], v_after)
    return spikes


def _scale(
    writer: OnnxWriter, node: ChannelAffine, source: str, step: int | None, repeat_count: int
) -> str:
    """Mul and Add, each omitted where it would change nothing."""
    result = source
    if (node.scale != 1).any():
        factor = writer.parameter(node, "scale")
        result = writer.op("Mul", [result, factor], tensor_name(node.name, "scaled", step))
    if (node.shift != 0).any():
        shift = writer.parameter(node, "shift", repeat_count)
        result = writer.op("Add", [result, shift], tensor_name(node.name, "y", step))
    return result


def _sum(writer: OnnxWriter, node: Add, sources: Sequence[str], step: int | None) -> str:
    """Pairwise additions: Sum of several is not among the operators of the contract."""
    total = sources[0]
    for index, source in enumerate(sources[1:], start=1):
        role = "y" if index == len(sources) - 1 else f"sum{index}"
        total = writer.op("Add", [total, source], tensor_name(node.name, role, step))
    return total


def _conv_attributes(node: Conv) -> Attributes:
    return {
        "kernel_shape": node.kernel,
        "strides": node.stride,
        "pads": _pads(node.padding),
        "dilations": node.dilation,
        "group": node.groups,
    }


def _pool_attributes(node: AvgPool) -> Attributes:
    if any(max(pair) >= size for pair, size in zip(node.padding, node.kernel, strict=True)):
        raise ExportError(
            f"{node.name}: padding {node.padding} of a pooling window {node.kernel}; runtimes "
            "take only padding smaller than the window"
        )
    return {
        "kernel_shape": node.kernel,
        "strides": node.stride,
        "pads": _pads(node.padding),
        "count_include_pad": 1,
    }


def _pads(padding: Pairs) -> list[int]:
    """All paddings before, then all after, as ONNX orders them."""
    return [pair[0] for pair in padding] + [pair[1] for pair in padding]
