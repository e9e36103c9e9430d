"""Lower the calls of a model to the nodes of a graph, in program order."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from icsnn_deploy.conversion.frontend.builder import (
    Builder,
    CallContext,
    Lowering,
    Storage,
    Traced,
    Unsupported,
)
from icsnn_deploy.conversion.frontend.concatenation import as_sums
from icsnn_deploy.conversion.frontend.declared import DeclaredActivation
from icsnn_deploy.conversion.frontend.example_run import CallResult, TensorMeta
from icsnn_deploy.conversion.frontend.operators import METADATA, Call, normalize
from icsnn_deploy.conversion.frontend.remedies import unsupported, untraceable
from icsnn_deploy.conversion.frontend.replace_max_pool import Replaced
from icsnn_deploy.conversion.frontend.rules import (
    activation,
    affine,
    average_pool,
    comparison,
    concatenate,
    extremum,
    max_pool,
    shape,
)
from icsnn_deploy.errors import ConversionError, Rejection, UnsupportedOperatorError
from icsnn_deploy.graph.nodes import Node, Output

_LOWERINGS: dict[str, Lowering] = {
    **activation.LOWERINGS,
    **affine.LOWERINGS,
    **comparison.LOWERINGS,
    **extremum.LOWERINGS,
    **concatenate.LOWERINGS,
    **max_pool.LOWERINGS,
    **average_pool.LOWERINGS,
    **shape.LOWERINGS,
}
_PARAMETERS = {"input": "x", "min": "low", "max": "high", "min_val": "low", "max_val": "high"}
"""Argument names of torch that would hide builtins in a lowering rule."""


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
        ConversionError: several inputs or outputs, or an output that is not a tensor.
    """
    lowering = _Lowering(module, results, activations, failed or {}, replaced)
    return lowering.run()


class _Lowering:
    def __init__(
        self,
        module: fx.GraphModule,
        results: Mapping[fx.Node, CallResult],
        activations: Sequence[DeclaredActivation],
        failed: Mapping[str, str],
        replaced: Replaced,
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
        if len(placeholders) != 1:
            names = ", ".join(node.name for node in placeholders)
            raise ConversionError(
                f"the model takes the inputs {names or 'none'}: exactly one input tensor is "
                "allowed. Wrap the model in a module that takes one"
            )
        meta = results[placeholders[0]].value
        self.builder = Builder(meta.shape[1:])
        self.values[placeholders[0]] = Traced("input", meta.shape, meta.dtype, "input", Storage())

    def run(self) -> Lowered:
        for node in self.graph.nodes:
            if node.op == "get_attr":
                self.values[node] = self.results[node].value
            elif node.op.startswith("call"):
                self._call(node)
            elif node.op == "output":
                result = self._operands(node.args[0])
        output = self._output(result)
        if self.rejections:
            raise UnsupportedOperatorError(list(dict.fromkeys(self.rejections)))
        end = Output(name="output", inputs=(output,))
        kept = list(as_sums(self.builder, self.builder.leading_to(output)))
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
            self.values[node] = result.value
            return
        call = normalize(node, args, kwargs, self.modules)
        if call.operator in METADATA:
            self.values[node] = result.value
        elif call.operator == "getitem" and not isinstance(call.args[0], Traced):
            self.values[node] = self._taken(node, call)
        else:
            self.values[node] = self._result(node, call, traced)

    def _result(self, node: fx.Node, call: Call, traced: list[Traced]) -> Any:
        """Lower one call, and track the memory that it shares or changes."""
        result = self.results[node]
        metas, tree = pytree.tree_flatten(result.value)
        name: str | None = None
        try:
            self._check_memory(call, traced, result)
            name = self._lower(node, call, metas)
        except Unsupported as error:
            if node in self.replaced.names and error.node is None:
                error = _in_place_of_max(error)
            called = node.op == "call_module"
            self._reject(call.path if called else self.builder.name(call.path), error)
        names = (
            name,
            *(None for _ in metas[1:]),
        )  # only the first result has a node: no indices, no statistics
        values = [
            self._value(call, meta, one, result) if isinstance(meta, TensorMeta) else meta
            for meta, one in zip(metas, names, strict=False)
        ]
        if name is not None:
            self.not_computed.update(
                value.node for value in values[1:] if isinstance(value, Traced)
            )
        return pytree.tree_unflatten(values, tree)

    def _taken(self, node: fx.Node, call: Call) -> Any:
        """One of the results of a call that has several."""
        value = call.args[0][call.args[1]]
        if isinstance(value, Traced) and value.node in self.not_computed and node.users:
            self._reject(
                value.origin,
                Unsupported(
                    got=f"result {call.args[1]} used, such as the indices of a pooling",
                    allowed="its first result",
                    remedy="Use the values alone.",
                ),
            )
        return value

    def _lower(self, node: fx.Node, call: Call, metas: list[Any]) -> str:
        if node in self.replaced.refused:
            raise self.replaced.refused[node]
        if node.op == "call_module":
            if call.path in self.failed:
                raise untraceable(self.failed[call.path])
            call = self._declared(call)
        rule = _LOWERINGS.get(call.operator)
        if rule is None or not metas or not isinstance(metas[0], TensorMeta):
            raise unsupported(call.operator, call.got)
        context = CallContext(
            self.builder,
            call.path,
            call.got,
            metas[0].shape,
            metas[0].dtype,
            rectified=self._rectified(node),
        )
        options = {_PARAMETERS.get(key, key): value for key, value in call.kwargs.items()}
        try:
            bound = inspect.signature(rule).bind(context, *call.args, **options)
        except TypeError as error:
            raise context.unsupported(str(error), "its usual arguments") from None
        return self._by_parts(context, call, rule, bound) or rule(*bound.args, **bound.kwargs)

    def _by_parts(
        self, context: CallContext, call: Call, rule: Lowering, bound: inspect.BoundArguments
    ) -> str | None:
        variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
        named = {
            name: value
            for name, value in bound.arguments.items()
            if bound.signature.parameters[name].kind not in variable and value is not context
        }
        return concatenate.by_parts(context, call.operator, rule, named)

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
                remedy="Use the operator that is not in place.",
            )

    def _value(self, call: Call, meta: TensorMeta, name: str | None, result: CallResult) -> Traced:
        """The traced tensor of a call's result; that of a rejected call gets a placeholder node."""
        if name is None:
            name = self.builder.stand_in(call.path, meta.shape[1:])
        for changed in result.changed:
            value = self.values[changed]
            if isinstance(value, Traced):
                value.overwrite(name, call.path)
        base = self.values[result.base] if result.base is not None else None
        if not isinstance(base, Traced):
            return Traced(name, meta.shape, meta.dtype, call.path, Storage())
        if result.same and base.node == name:
            return base
        return Traced(name, meta.shape, meta.dtype, call.path, base.storage)

    def _output(self, result: Any) -> str:
        leaves = pytree.tree_leaves(result)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Traced)]
        if len(leaves) != 1 or not tensors:
            kinds = ", ".join("tensor" if leaf in tensors else repr(leaf) for leaf in leaves)
            raise ConversionError(
                f"the model returns {type(result).__name__} of {kinds or 'nothing'}: exactly one "
                "tensor that depends on the input is allowed. Wrap the model in a module that "
                "returns only its logits"
            )
        (output,) = tensors
        context = CallContext(self.builder, "output", "output", output.shape, output.dtype)
        try:
            self._check_memory(_OUTPUT, tensors, CallResult(value=None))
            return context.source(output)
        except Unsupported as error:
            self._reject("output", error)
            return output.node

    def _reject(self, path: str, error: Unsupported) -> None:
        node = path if error.node is None else error.node
        self.rejections.append(
            Rejection(node=node, got=error.got, allowed=error.allowed, remedy=error.remedy)
        )


_OUTPUT = Call(operator="output", args=(), kwargs={}, path="output", got="output")


def _in_place_of_max(error: Unsupported) -> Unsupported:
    return Unsupported(
        got=f"{error.got}, in the place of max pooling",
        allowed=error.allowed,
        remedy=f"{error.remedy} Or convert max pooling itself, without --replace-maxpool.",
    )


def _traced(arguments: Any) -> list[Traced]:
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, Traced)]
