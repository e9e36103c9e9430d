"""Replace fitted calls by modules and calls that have exact rules.

silu(x)    ->    PiecewiseLinearFit(x)
x * g      ->    PiecewiseLinearFit(a x + b g - c) + PiecewiseLinearFit(a x - b g - d)
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from icsnn_deploy.conversion.frontend.approximate.fits import Fit, path_of
from icsnn_deploy.conversion.frontend.approximate.fitted import Overwritten
from icsnn_deploy.conversion.frontend.approximate.products import ProductFit
from icsnn_deploy.conversion.frontend.example_run import CallResult
from icsnn_deploy.passes.edit import unique_name


def replace_fitted(
    module: fx.GraphModule,
    results: Mapping[fx.Node, CallResult],
    fits: Mapping[fx.Node, Fit],
) -> dict[str, Fit]:
    """Replace the calls in the module.

    Args:
        module: the captured calls, which are changed.
        results: of each on the example, for shapes.
        fits: by call.

    Returns:
        The fits by the path of the call that they replace, in order.
    """
    paths: dict[str, Fit] = {}
    taken = {name for name, _ in module.named_modules()}
    targets = Counter(node.target for node in module.graph.nodes if node.op == "call_module")
    taken -= {str(one.target) for one in fits if targets[one.target] == 1}
    shapes = {node: tuple(results[node].value.shape) for node in _read_or_made(fits)}
    replaced: dict[fx.Node, fx.Node] = {}
    for node, fit in fits.items():
        path = unique_name(path_of(fit.call), taken)
        taken.add(path)
        paths[path] = fit
        sources = [replaced.get(one, one) for one in fit.call.sources]
        changed = fit.call.in_place
        place = _Place(
            module, node, path, None if changed is None else replaced.get(changed, changed)
        )
        with module.graph.inserting_before(node):
            if fit.product is None:
                result = place.fitted(path, fit, sources[0])
            else:
                wide = [
                    place.wide(new, shapes[old], shapes[node])
                    for new, old in zip(sources, fit.call.sources, strict=True)
                ]
                result = place.product(fit, fit.product, *wide)
        node.replace_all_uses_with(result)
        replaced[node] = result
        module.graph.erase_node(node)
    module.recompile()
    return paths


def _read_or_made(fits: Mapping[fx.Node, Fit]) -> list[fx.Node]:
    return [one for node, fit in fits.items() for one in (node, *fit.call.sources)]


class _Place:
    """New calls before one that is replaced.

    Args:
        module: the captured calls.
        like: the call.
        path: of it.
        changed: the operand that the call changes in place.
    """

    def __init__(
        self, module: fx.GraphModule, like: fx.Node, path: str, changed: fx.Node | None
    ) -> None:
        self.module, self.path, self.changed = module, path, changed
        self.stack: Any = like.meta.get("nn_module_stack")
        self.number = 0

    def fitted(self, path: str, fit: Fit, source: fx.Node) -> fx.Node:
        """The call of a fit."""
        (part,) = fit.parts
        part.inplace = self.changed is not None
        return self._call(path, part, source)

    def product(self, fit: Fit, product: ProductFit, x: fx.Node, g: fx.Node) -> fx.Node:
        """The calls of the fit of a product."""
        scaled_x, scaled_g = self._times(x, product.scale_x), self._times(g, product.scale_g)
        u = self._minus(self._apply(operator.add, scaled_x, scaled_g), product.sum_shift)
        v = self._minus(self._apply(operator.sub, scaled_x, scaled_g), product.difference_shift)
        result = self._apply(
            operator.add,
            self._call(f"{self.path}.of_sum", fit.parts[0], u),
            self._call(f"{self.path}.of_difference", fit.parts[1], v),
        )
        if self.changed is None:
            return result
        return self._call(f"{self.path}.written", Overwritten(), self.changed, result)

    def wide(self, node: fx.Node, own: tuple[int, ...], shape: tuple[int, ...]) -> fx.Node:
        """A factor in the shape of the product."""
        if own == shape:
            return node
        made = self.module.graph.call_method("expand", (node, -1, *shape[1:]))
        return self._placed(made)

    def _times(self, node: fx.Node, factor: torch.Tensor) -> fx.Node:
        return self._apply(operator.mul, node, factor)

    def _minus(self, node: fx.Node, shift: torch.Tensor) -> fx.Node:
        return self._apply(operator.sub, node, shift)

    def _apply(
        self, function: Callable[..., Any], x: fx.Node, other: fx.Node | torch.Tensor
    ) -> fx.Node:
        if isinstance(other, torch.Tensor):
            name = f"{self.path}.constant_{self.number}"
            self.number += 1
            holder = nn.Module()
            holder.register_buffer("values", other)
            self.module.add_submodule(name, holder)
            other = self.module.graph.get_attr(f"{name}.values")
        return self._placed(self.module.graph.call_function(function, (x, other)))

    def _call(self, path: str, part: nn.Module, *sources: fx.Node) -> fx.Node:
        self.module.add_submodule(path, part)
        return self._placed(self.module.graph.call_module(path, sources))

    def _placed(self, node: fx.Node) -> fx.Node:
        if self.stack is not None:
            node.meta["nn_module_stack"] = self.stack
        return node
