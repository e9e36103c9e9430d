"""Drop the calls that no output of the model depends on, before they are lowered."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from icsnn_deploy.conversion.frontend.example_run import CallResult


def drop_dead_calls(module: fx.GraphModule, results: Mapping[fx.Node, CallResult]) -> None:
    """Erase dead calls from the module's graph; inputs stay.

        y = conv(x); z = tanh(y); relu_(y); return linear(y)      before
        y = conv(x); relu_(y); return linear(y)                   after

    A call that changes a tensor in place is live if memory that it changes is used by a live call.

    Args:
        module: the captured calls.
        results: of every call on the example.
    """
    live = _live(module.graph, results)
    for node in reversed(list(module.graph.nodes)):
        if node not in live and node.op != "placeholder":
            module.graph.erase_node(node)
    module.recompile()


def _live(graph: fx.Graph, results: Mapping[fx.Node, CallResult]) -> set[fx.Node]:
    owners: dict[fx.Node, fx.Node] = {}  # node -> the node that first held its memory
    for node in graph.nodes:
        base = results[node].base if node in results else None
        owners[node] = node if base is None else owners[base]
    live = {node for node in graph.nodes if node.op == "output"}
    used = set()
    grown = True
    while grown:
        grown = False
        for node in reversed(graph.nodes):
            changed = results[node].changed if node in results else ()
            if node in live or any(owners[one] in used for one in changed):
                needed = {node, *node.all_input_nodes}
                grown = grown or not needed <= live
                live |= needed
                used |= {owners[one] for one in needed}
    return live
