"""Lower the calls of a model to the nodes of a graph, in program order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import fx
from torch.utils import _pytree as pytree

from icsnn_deploy.conversion.frontend.builder import Builder, Result, Storage, Traced, Unsupported
from icsnn_deploy.conversion.frontend.call_context import CallContext
from icsnn_deploy.conversion.frontend.declared import DeclaredActivation
from icsnn_deploy.conversion.frontend.example_run import CallResult, TensorMeta
from icsnn_deploy.conversion.frontend.host_ops import VALUE_BY_VALUE, host_op, only_returned
from icsnn_deploy.conversion.frontend.inputs import InputLayout, input_node, input_values
from icsnn_deploy.conversion.frontend.operators import METADATA, Call, normalize
from icsnn_deploy.conversion.frontend.outputs import named_leaves
from icsnn_deploy.conversion.frontend.readout import output_node
from icsnn_deploy.conversion.frontend.remedies import unsupported, untraceable
from icsnn_deploy.conversion.frontend.repeat_call import (
    FILLED,
    FREES,
    example_of,
    run_call,
    takes_one,
)
from icsnn_deploy.conversion.frontend.replace_max_pool import Replaced
from icsnn_deploy.conversion.frontend.rules.table import apply_rule
from icsnn_deploy.errors import ConversionError, Rejection, UnsupportedOperatorError
from icsnn_deploy.graph.nodes import Node, Output, Shape


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """The nodes of a graph, and the rectifiers that each max pooling became."""

    nodes: tuple[Node, ...]
    max_pools: Mapping[str, tuple[str, ...]]


def lower(
    module: fx.GraphModule,
    results: Mapping[fx.Node, CallResult],
    *,
    activations: Sequence[DeclaredActivation] = (),
    failed: Mapping[str, str] | None = None,
    replaced: Replaced = Replaced(),
) -> Lowered:
    """The nodes of the graph that the module computes, without dead branches.

    Args:
        module: the model's calls.
        results: the result of each call on the example.
        activations: classes that are bounded rectifiers.
        failed: paths of modules that could not be traced, with the reason.
        replaced: max poolings that were replaced by average pooling, or could not be.

    Raises:
        UnsupportedOperatorError: lists every operator without an equivalent in the graph.
        ConversionError: an output that is not a tensor.
    """
    layout, tried = InputLayout(), set[InputLayout]()
    while True:
        tried.add(layout)
        lowering = _Lowering(module, results, activations, failed or {}, replaced, layout)
        try:
            return lowering.run()
        except UnsupportedOperatorError:
            other = lowering.builder.better_layout
            if other is None or other in tried:
                raise
            layout = other


class _Lowering:
    def __init__(
        self,
        module: fx.GraphModule,
        results: Mapping[fx.Node, CallResult],
        activations: Sequence[DeclaredActivation],
        failed: Mapping[str, str],
        replaced: Replaced,
        layout: InputLayout,
    ) -> None:
        self.graph = module.graph
        self.modules = dict(module.named_modules())
        self.results = results
        self.activations = activations
        self.failed = failed
        self.replaced = replaced
        self.not_computed: set[str] = set()  # placeholders for second and further results
        self.values: dict[fx.Node, Any] = {}
        self.rejections: list[Rejection] = []
        placeholders = [node for node in self.graph.nodes if node.op == "placeholder"]
        metas = {str(node.target): results[node].value for node in placeholders}
        tensors = {name: meta for name, meta in metas.items() if isinstance(meta, TensorMeta)}
        node = input_node({name: meta.shape[1:] for name, meta in tensors.items()}, layout)
        batch = next(iter(tensors.values())).shape[0]
        self.builder = Builder(node, layout, batch)
        values = input_values(self.builder.numbering, node)
        for placeholder in placeholders:
            meta = metas[str(placeholder.target)]
            self.values[placeholder] = (
                Traced(
                    values.get(str(placeholder.target), "input"),
                    meta.shape,
                    meta.dtype,
                    str(placeholder.target),
                    Storage(),
                )
                if isinstance(meta, TensorMeta)
                else meta
            )

    def run(self) -> Lowered:
        try:
            return self._run()
        except UnsupportedOperatorError:
            raise
        except Exception as error:  # what follows a rejected call may have any shape
            if not self.rejections:
                raise
            raise UnsupportedOperatorError(list(dict.fromkeys(self.rejections))) from error

    def _run(self) -> Lowered:
        for node in self.graph.nodes:
            if node.op == "get_attr":
                self.values[node] = self.results[node].value
            elif node.op.startswith("call"):
                self._call(node)
            elif node.op == "output":
                result = self._operands(node.args[0])
        end = self._output(result)
        if self.rejections or end is None:
            raise UnsupportedOperatorError(list(dict.fromkeys(self.rejections)))
        kept = self.builder.leading_to(end.inputs[0])
        names = {node.name for node in kept}
        pools = {
            pool: rectifiers for pool, rectifiers in self.builder.max_pools.items() if pool in names
        }
        return Lowered(nodes=(*kept, end), max_pools=pools)

    def _operands(self, arguments: Any) -> Any:
        return fx.node.map_arg(arguments, lambda node: self.values[node])

    def _call(self, node: fx.Node) -> None:
        args, kwargs = self._operands(node.args), self._operands(node.kwargs)
        result = self.results[node]
        traced = _traced((args, kwargs))
        if not traced or (result.value is None and not result.changed):
            # Arithmetic on sizes and parameters, and checks: take the result of the example run.
            made = any(isinstance(one, TensorMeta) for one in pytree.tree_leaves(result.value))
            self.values[node] = (
                run_call(node, self.modules, args, kwargs, lambda x: x) if made else result.value
            )
            return
        call = normalize(node, args, kwargs, self.modules)
        if call.operator in METADATA:
            self.values[node] = result.value
        elif call.operator in FREES and not node.users:
            self.values[node] = None
        elif call.operator in FILLED:
            self.values[node] = run_call(node, self.modules, args, kwargs, example_of)
        elif takes_one(call):
            self.values[node] = self._taken(node, call)
        else:
            self.values[node] = self._result(node, call, traced)

    def _result(self, node: fx.Node, call: Call, traced: list[Traced]) -> Any:
        """Lower one call, and track the memory that it shares or changes."""
        result = self.results[node]
        metas, tree = pytree.tree_flatten(result.value)
        found: list[Result | None] = [None] * len(metas)
        rejected = False
        host = ""
        inherited = traced[0].host_op  # of a result that was only moved since
        try:
            self._check_memory(call, traced, result)
            host = self._host_op(node, call, traced)
            if host:
                found = [traced[0].value]
                metas = [TensorMeta(traced[0].shape, traced[0].dtype)]
                tree = pytree.tree_structure(0)
            else:
                found = self._lower(node, call, metas)
        except Unsupported as error:
            rejected = True
            if node in self.replaced.names and error.node is None:
                error = _in_place_of_max(error)
            called = node.op == "call_module"
            self._reject(call.path if called else self.builder.name(call.path), error)
        values = [
            self._value(call, meta, one, result) if isinstance(meta, TensorMeta) else meta
            for meta, one in zip(metas, found, strict=True)
        ]
        for value, one in zip(values, found, strict=True):
            if isinstance(value, Traced):
                value.host_op = host or inherited
                if one is None and not rejected:  # no indices, no statistics
                    self.not_computed.add(str(value.value))
        return pytree.tree_unflatten(values, tree)

    def _host_op(self, node: fx.Node, call: Call, traced: list[Traced]) -> str:
        """The name of a last operation that the host does; empty for any other."""
        name = host_op(call, len(traced[0].shape))
        through_moves = name in VALUE_BY_VALUE
        return name if name and only_returned(node, through_moves, self.modules) else ""

    def _taken(self, node: fx.Node, call: Call) -> Any:
        """One of the results of a call that has several, by position or name (max(x, 1).values)."""
        _, _, name = call.operator.partition("attribute.")
        value = getattr(call.args[0], name) if name else call.args[0][call.args[1]]
        if isinstance(value, Traced) and value.value in self.not_computed and node.users:
            self._reject(
                value.origin,
                Unsupported(
                    got=f"result {name or call.args[1]} used, such as the indices of a pooling",
                    allowed="its first result",
                    remedy="Use the values alone.",
                ),
            )
        return value

    def _lower(self, node: fx.Node, call: Call, metas: list[Any]) -> list[Result | None]:
        """What the call computes, for each of its results."""
        if node in self.replaced.refused:
            raise self.replaced.refused[node]
        if node.op == "call_module":
            if call.path in self.failed:
                raise untraceable(self.failed[call.path])
            call = self._declared(call)
        if not metas or not isinstance(metas[0], TensorMeta):
            raise unsupported(call.operator, call.got)
        args, kwargs = self._operands(node.args), self._operands(node.kwargs)
        context = CallContext(
            self.builder,
            call.path,
            call.got,
            metas[0].shape,
            metas[0].dtype,
            rectified=self._rectified(node),
            run=lambda substitute: run_call(node, self.modules, args, kwargs, substitute),
        )
        return apply_rule(context, call, len(metas))

    def _rectified(self, node: fx.Node) -> bool:
        """Whether the result goes only to rectifiers."""
        return all(user.op.startswith("call") and self._leads_on(user) for user in node.users)

    def _leads_on(self, user: fx.Node) -> bool:
        call = normalize(user, user.args, user.kwargs, self.modules)
        passed_on = call.operator in ("identity", "dropout", "getitem") and self._rectified(user)
        return passed_on or self._rectifies(call)

    def _rectifies(self, call: Call) -> bool:
        declared = call.path in self.modules and any(
            one.names(self.modules[call.path]) for one in self.activations
        )
        clipped = call.operator == "hardtanh" and call.kwargs.get("min_val") == 0
        return declared or clipped or call.operator in ("relu", "relu6")

    def _declared(self, call: Call) -> Call:
        """The call, as a bounded rectifier if the class of its module is declared to be one."""
        module = self.modules[call.path]
        for declared in self.activations:
            if declared.names(module):
                return replace(call, operator="clip", kwargs=declared.parameters_of(module))
        return call

    def _check_memory(self, call: Call, traced: list[Traced], result: CallResult) -> None:
        stale = [value for value in traced if value.stale is not None]
        if stale:
            raise Unsupported(
                got=f"{call.got} of {stale[0].origin}, whose memory {stale[0].stale} overwrote",
                allowed="in-place operators on tensors of which no other view is used later",
                remedy="Use the operator that is not in place.",
            )
        whole = all(source is result.base and result.same for source in result.changed)
        if not whole or not all(isinstance(self.values[n], Traced) for n in result.changed):
            raise Unsupported(
                got=f"{call.got}, which changes a tensor in place",
                allowed="in-place operators that replace their first operand and return it",
                remedy="Use the operator that is not in place, or torch.cat of slices.",
            )

    def _value(
        self, call: Call, meta: TensorMeta, found: Result | None, result: CallResult
    ) -> Traced:
        """The traced tensor of a call's result; that of a rejected call gets a placeholder node."""
        if found is None:
            found = self.builder.stand_in(call.path, meta.shape[1:])
        found = self._plain(found, meta.shape[1:])
        for changed in result.changed:
            value = self.values[changed]
            if isinstance(value, Traced):
                value.overwrite(found, call.path)
        base = self.values[result.base] if result.base is not None else None
        if not isinstance(base, Traced):
            return Traced(found, meta.shape, meta.dtype, call.path, Storage())
        if result.same and _same(base.value, found):
            return base
        return Traced(found, meta.shape, meta.dtype, call.path, base.storage)

    def _plain(self, found: Result, shape: Shape) -> Result:
        """The result as a node where one has that shape, otherwise as elements."""
        if isinstance(found, str):
            same = self.builder.shapes[found] == shape
            return found if same else self.builder.numbering.elements(found, shape)
        whole = self.builder.numbering.whole(found)
        return whole if whole is not None and self.builder.shapes[whole] == shape else found

    def _output(self, result: Any) -> Output | None:
        leaves = named_leaves(result, (Traced,))
        others = [name for name, leaf in leaves.items() if not isinstance(leaf, Traced)]
        if others or not leaves:
            raise ConversionError(
                f"the model returns {type(result).__name__} with {', '.join(others) or 'nothing'}: "
                "tensors that depend on the input are allowed, one or several. Wrap the model in a "
                "module that returns only these"
            )
        empty = [name for name, leaf in leaves.items() if 0 in leaf.shape]
        if empty:
            raise ConversionError(
                f"output {empty[0]!r} has the shape {list(leaves[empty[0]].shape)}: it holds no "
                "values. Return outputs that hold some"
            )
        try:
            self._check_memory(_OUTPUT, list(leaves.values()), CallResult(value=None))
            return output_node(self.builder, leaves)
        except Unsupported as error:
            self._reject("output", error)
            return None

    def _reject(self, path: str, error: Unsupported) -> None:
        node = path if error.node is None else error.node
        self.rejections.append(
            Rejection(node=node, got=error.got, allowed=error.allowed, remedy=error.remedy)
        )


def _same(one: Result, other: Result) -> bool:
    """Whether two results are the same values."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return one is other or (one.constants is other.constants and np.array_equal(one.ids, other.ids))


_OUTPUT = Call(operator="output", args=(), kwargs={}, path="output", got="output")


def _in_place_of_max(error: Unsupported) -> Unsupported:
    return Unsupported(
        got=f"{error.got}, in the place of max pooling",
        allowed=error.allowed,
        remedy=f"{error.remedy} Or convert max pooling itself, without --replace-maxpool.",
    )


def _traced(arguments: Any) -> list[Traced]:
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, Traced)]
