"""Run captured calls on many samples, call by call, some of them replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from icsnn_deploy.conversion.frontend.outputs import named_leaves

Values = list[Any]
"""The results of one call, one for each batch."""
Compute = Callable[[Callable[[fx.Node], Values]], Values]
"""Computes the results of a call; takes a function that gives those of calls before it."""


@dataclass(frozen=True, eq=False)
class Substitute:
    """Another computation of a call, and the calls whose results it reads."""

    reads: tuple[fx.Node, ...]
    compute: Compute


def run_calls(
    module: fx.GraphModule,
    batches: Sequence[Sequence[torch.Tensor]],
    replaced: Mapping[fx.Node, Substitute],
) -> list[dict[str, torch.Tensor]]:
    """The outputs of each batch, by name.

    Every call is computed for all batches before the next one, since a fit needs the values of all.

    Args:
        module: the captured calls.
        batches: a tensor [B, ...] for each input.
        replaced: calls that are computed in another way.
    """
    last_use: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        reads = replaced[node].reads if node in replaced else ()
        for one in (*node.all_input_nodes, *reads):
            last_use[one] = node
    needed_until: dict[fx.Node, list[fx.Node]] = {}
    for one, node in last_use.items():
        needed_until.setdefault(node, []).append(one)
    runs = [fx.Interpreter(module, garbage_collect_values=False) for _ in batches]
    for run, batch in zip(runs, batches, strict=True):
        run.args_iter = iter([one.clone() for one in batch])
    with torch.no_grad():
        for node in module.graph.nodes:
            if node.op == "output":
                return [named_leaves(run.run_node(node)) for run in runs]
            if node in replaced:
                values = replaced[node].compute(lambda one: [run.env[one] for run in runs])
            else:
                values = [run.run_node(node) for run in runs]
            for run, value in zip(runs, values, strict=True):
                run.env[node] = value
                for one in needed_until.get(node, ()):
                    del run.env[one]
    return []
