"""Find the calls to fit: smooth functions of one tensor, however written, and products of two.

    silu(x)      x * sigmoid(x)      x * tanh(log(1 + exp(x)))      0.5 * x * (1 + erf(x / 1.41))

are functions of x, computed value by value with numbers as constants. x * sigmoid(fc(mean(x))) is
none, so that it is a product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from icsnn_deploy.conversion.frontend.example_run import CallResult, TensorMeta
from icsnn_deploy.conversion.frontend.host_ops import VALUE_BY_VALUE, host_op, only_returned
from icsnn_deploy.conversion.frontend.operators import Call, normalize

_NAMES = (
    "silu gelu hardswish elu selu celu mish softplus softsign sigmoid tanh logsigmoid log_sigmoid "
    "tanhshrink erf atan square"
)
SMOOTH = frozenset(_NAMES.split())
"""Operators of one tensor that are fitted wherever they stand."""
_PARTS = "exp expm1 log log1p sqrt rsqrt reciprocal pow sin cos div"
_WITHIN = frozenset(_PARTS.split())
"""Fitted as parts of a function of one tensor, not alone: they are parts of normalizations."""
_COMPARING = (
    "gt ge lt le greater greater_equal less less_equal sign logical_not logical_and logical_or "
    "eq ne where masked_fill"
)
_STEPS = frozenset(_COMPARING.split())
_EXACT = (
    "add sub rsub mul neg abs relu relu6 clamp clamp_min clamp_max hardtanh hardsigmoid "
    "leaky_relu threshold softshrink identity dropout to maximum minimum"
)
_PLAIN = frozenset(_EXACT.split())
_ELEMENTWISE = SMOOTH | _WITHIN | _STEPS | _PLAIN


@dataclass(frozen=True, kw_only=True, eq=False)
class Fittable:
    """A call that is not linear in pieces.

    Args:
        node: the last call of it.
        operator: of that call.
        sources: what it is computed from: one tensor, or the two factors of a product.
        calls: between the source and the node, in order, with the node.
        in_place: the operand that the node changes.
    """

    node: fx.Node
    operator: str
    sources: tuple[fx.Node, ...]
    calls: tuple[fx.Node, ...]
    in_place: fx.Node | None


def fittable_calls(
    module: fx.GraphModule, results: Mapping[fx.Node, CallResult]
) -> dict[fx.Node, Fittable]:
    """The calls to fit, by node, in order.

    Args:
        module: the captured calls, without dead ones.
        results: of each on the example.
    """
    search = _Search(module, results)
    found: dict[fx.Node, Fittable] = {}
    wanted = {node for node in module.graph.nodes if node.op == "output"}
    for node in reversed(module.graph.nodes):
        changes = node in results and bool(results[node].changed)
        if node not in wanted and not changes:
            continue
        one = search.fittable(node) if node.op.startswith("call") else None
        if one is not None:
            found[node] = one
        wanted.update(node.all_input_nodes if one is None else one.sources)
    return dict(reversed(found.items()))


def _plainly(call: Call) -> Call:
    """The call, with the name of the function for a module: nn.SiLU is silu."""
    if not call.operator.startswith("nn."):
        return call
    return replace(call, operator=call.operator.removeprefix("nn.").lower())


class _Search:
    def __init__(self, module: fx.GraphModule, results: Mapping[fx.Node, CallResult]) -> None:
        self.results = results
        self.modules: dict[str, nn.Module] = dict(module.named_modules())
        self.order = {node: number for number, node in enumerate(module.graph.nodes)}
        self.calls: dict[fx.Node, Call] = {}
        self.origins: dict[fx.Node, frozenset[fx.Node]] = {}
        for node in module.graph.nodes:
            if node.op.startswith("call"):
                self.calls[node] = _plainly(normalize(node, node.args, node.kwargs, self.modules))
            self.origins[node] = self._origins_of(node)

    def fittable(self, node: fx.Node) -> Fittable | None:
        call = self.calls[node]
        meta = self.meta(node)
        if meta is None or not meta.dtype.is_floating_point:
            return None
        if self._left_to_host(node, call):
            return None
        operands = self.traced(node)
        if call.operator in SMOOTH and len(operands) == 1:
            return self._made(node, call, operands[0])
        if call.operator == "pow" and len(operands) == 1 and self._exponent(node) in (2, 3, 4):
            return self._made(node, call, operands[0])
        if call.operator in _WITHIN or (call.operator == "mul" and self._products(node)):
            one = self._function(node, call)
            if one is not None or call.operator != "mul":
                return one
        if call.operator == "mul" and len(operands) == 2 and not self._has_steps(node):
            return self._product(node, call)
        return None

    def meta(self, node: fx.Node) -> TensorMeta | None:
        """Shape and type of a tensor that depends on the input."""
        value = self.results[node].value if node in self.results else None
        return value if isinstance(value, TensorMeta) else None

    def traced(self, node: fx.Node) -> list[fx.Node]:
        """The different operands that depend on the input."""
        return [one for one in node.all_input_nodes if self.meta(one) is not None]

    def _left_to_host(self, node: fx.Node, call: Call) -> bool:
        first = next(iter(self.traced(node)), None)
        meta = None if first is None else self.meta(first)
        name = "" if meta is None else host_op(call, len(meta.shape))
        return bool(name) and only_returned(node, name in VALUE_BY_VALUE, self.modules)

    def _products(self, node: fx.Node) -> bool:
        """Whether both factors depend on the input (x * x, too)."""
        leaves = list(pytree.tree_leaves((node.args, dict(node.kwargs))))
        traced = [one for one in leaves if isinstance(one, fx.Node) and self.meta(one) is not None]
        return len(traced) == 2

    def _exponent(self, node: fx.Node) -> Any:
        """The exponent of a power, a number; None where it is another one for each value."""
        call = self.calls[node]
        given = call.kwargs.get("exponent", call.args[1] if len(call.args) > 1 else None)
        value = self.results[given].value if isinstance(given, fx.Node) else given
        if isinstance(value, torch.Tensor):
            return value.item() if value.numel() == 1 else None
        return value

    def _origins_of(self, node: fx.Node) -> frozenset[fx.Node]:
        """The tensors that a call is a function of, value by value; itself among them."""
        meta = self.meta(node)
        itself = frozenset([node])
        call = self.calls.get(node)
        if call is None or meta is None or call.operator not in _ELEMENTWISE:
            return itself
        operands = self.traced(node)
        for one in operands:
            its = self.meta(one)
            if its is None or its.shape != meta.shape:
                return itself
        parameters = list(call.kwargs.values()) if node.op == "call_module" else []
        others = [one for one in node.all_input_nodes if one not in operands]
        constants = [self.results[one].value for one in others] + parameters
        if any(isinstance(one, torch.Tensor) and one.numel() != 1 for one in constants):
            return itself
        common = frozenset.intersection(*(self.origins[one] for one in operands))
        return common | itself

    def _function(self, node: fx.Node, call: Call) -> Fittable | None:
        """The call as a function of the nearest tensor that all it is computed from is one of."""
        places = self.origins[node] - {node}
        if call.operator == "mul" and len(self.traced(node)) == 1:
            places = frozenset(self.traced(node))
        for source in sorted(places, key=lambda one: -self.order[one]):
            calls = self._between(source, node)
            if any(self._is_step(one) for one in calls):
                return None
            operators = [self.calls[one].operator for one in calls]
            several = sum(one in SMOOTH | _WITHIN for one in operators) > 1
            if call.operator == "mul" or several:
                return self._made(node, call, source, calls)
        return None

    def _product(self, node: fx.Node, call: Call) -> Fittable | None:
        sources = tuple(self.traced(node))
        metas = [self.meta(one) for one in sources]
        shapes = [one.shape for one in metas if one is not None and one.dtype.is_floating_point]
        if len(shapes) != 2 or len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 2:
            return None
        changed = self.results[node].changed
        return Fittable(
            node=node,
            operator="product",
            sources=sources,
            calls=(node,),
            in_place=changed[0] if changed else None,
        )

    def _has_steps(self, node: fx.Node) -> bool:
        """Whether a factor is a mask, or made of one by operators of single values."""
        seen, left = set[fx.Node](), self.traced(node)
        while left:
            one = left.pop()
            if self._is_step(one):
                return True
            operator = self.calls[one].operator if one in self.calls else ""
            if one not in seen and operator in _PLAIN:
                left += self.traced(one)
            seen.add(one)
        return False

    def _is_step(self, node: fx.Node) -> bool:
        """Whether the result of a call jumps: of a comparison, or converted to integers."""
        if node not in self.calls:
            return False
        meta = self.meta(node)
        whole = meta is not None and not meta.dtype.is_floating_point
        return whole or self.calls[node].operator in _STEPS

    def _between(self, source: fx.Node, node: fx.Node) -> tuple[fx.Node, ...]:
        found, left = {node}, [node]
        while left:
            for one in self.traced(left.pop()):
                if one is not source and one not in found:
                    found.add(one)
                    left.append(one)
        return tuple(sorted(found, key=lambda one: self.order[one]))

    def _made(
        self, node: fx.Node, call: Call, source: fx.Node, calls: tuple[fx.Node, ...] = ()
    ) -> Fittable | None:
        """None where calls change tensors in place that others read."""
        calls = calls or (node,)
        changed = self.results[node].changed
        in_place = changed[0] if changed else None
        for one in calls[:-1]:
            if any(base not in calls for base in self.results[one].changed):
                return None
        if in_place is not None and in_place is not source:
            last = self.order[node]
            if in_place not in calls or any(self.order[u] > last for u in in_place.users):
                return None
            in_place = None
        operators = [self.calls[one].operator for one in calls]
        return Fittable(
            node=node,
            operator=operators[0] if len(calls) == 1 else " ".join(operators),
            sources=(source,),
            calls=calls,
            in_place=in_place,
        )
