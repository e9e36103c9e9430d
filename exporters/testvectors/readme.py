"""README.md: what every file of the test vectors holds, and what the network computes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from icsnn_deploy.exporters.testvectors.hex_words import digits_of
from icsnn_deploy.exporters.testvectors.index import registers
from icsnn_deploy.exporters.testvectors.memories import Memory, VectorPlan
from icsnn_deploy.graph.graph import Graph, hard_resets
from icsnn_deploy.graph.nodes import IF, Add, ChannelAffine, Conv, Flatten, Linear, Node, Output
from icsnn_deploy.version import __version__

_PAGE = """# Test vectors of a spiking network

Written by icsnn-deploy {version}: T = {steps} time steps, {samples}{recorded}, {files} files of
{bytes:,} bytes. `network.json` holds the tables of this page for programs. Network:

    {hash}

## What the network computes

All values are integers. At each step t = 1..T every node of the first table is computed once, in
the order of the table; a population sees the spikes of its sources of the same step.

Population, one neuron per value of its source, v[0] = v_init:

    u    = v[t-1] + I[t]                I: the value of its source, the current
    s[t] = 1 if u >= v_threshold else 0
    v[t] = {after} if s[t] else u

The model's potentials are integers plus one half, so that none equals a threshold. The files hold
{halves} rounded down: with u >= v_threshold (or u > v_threshold - 1) on integers the
spikes are the same.

{equations}
Output: {output}, its current at every step, and the sum over the steps t > {start}, which the
logits are proportional to.{host}

| node | kind | takes | result | details |
|---|---|---|---|---|
{nodes}

"Current" and "potential" are the bits of signed registers that hold I and, before and after the
reset, v, for every input that the network can get. Where an accumulator wraps around, sums on the
way to I may exceed its range. A threshold that no potential reaches may need more bits than they
do.

## Files

`$readmemh` reads each: one word in hexadecimal per line, the word of address a in line a + 1. Words
are two's complement where the column says signed, and have 4 bits per digit (a spike has 1 bit).
The address counts the last axis fastest: of axes [A, B, C], (a, b, c) is at (a * B + b) * C + c.

    logic {sign}[{top}:0] {name} [0:{last}];
    initial $readmemh("{file}", {name});

Parameters:

{parameters}

Samples: what the network takes, then `spikes` s[t]{internals}
of every step, the first one at 0; of the output its `current` and the `sum`{of_them}.

{records}
"""

_EQUATIONS: dict[type[Node], str] = {
    Conv: """Convolution (conv), cross-correlation padded with zeros, per axis:

    y[o, p] = bias[o] + sum over i, k of weight[o, i, k] * x[g + i, q]
    q       = stride * p + dilation * k - before

where `before` is the first number of the padding and g the first input channel of the group of o:
with G groups the output channels, and the input channels, are G blocks of equal size.
""",
    Linear: """Fully connected (linear):

    y[o] = bias[o] + sum over i of weight[o, i] * x[i]
""",
    ChannelAffine: """Diagonal (scale):

    y = scale * x + shift
""",
    Flatten: "flatten changes no address.\n",
    Add: "add is the sum of its sources, value by value.\n",
}


def readme_text(plan: VectorPlan) -> str:
    """The text of README.md."""
    graph, first = plan.graph, plan.memories[0]
    hard = bool(hard_resets(graph))
    kinds = {type(node) for node in graph.nodes}
    is_whole = plan.steps == graph.steps
    host = ""
    if graph.input.parts or graph.output.parts:
        host = (
            " The host packs the inputs and unpacks the outputs of the model: the files hold the "
            "network's."
        )
    return _PAGE.format(
        version=__version__,
        hash=graph.hash(),
        steps=graph.steps,
        samples=_count(plan.samples, "sample"),
        recorded="" if is_whole else f" of the first {plan.steps:,} steps",
        of_them="" if is_whole else " over those steps",
        files=len(plan.memories),
        bytes=plan.bytes,
        after=" or ".join(_resets(graph)),
        halves="v_init and v_reset" if hard else "v_init",
        equations="\n".join(text for kind, text in _EQUATIONS.items() if kind in kinds),
        output=_quoted(graph.output.name),
        start=graph.readout_start,
        host=host,
        nodes="\n".join(_node_row(plan, node) for node in graph.nodes),
        sign="signed " if first.signed else "",
        top=first.bits - 1,
        last=first.words - 1,
        file=first.file,
        name=first.role,
        internals="" if plan.spikes_only else ", `current` I[t] and `v` v[t]",
        parameters=_table(plan.parameters),
        records=_table(plan.records),
    )


def _resets(graph: Graph) -> list[str]:
    """What v becomes at a spike, for each kind of reset in the network."""
    hard = hard_resets(graph)
    soft = ["u - v_threshold"] if len(hard) < len(graph.nodes_of(IF)) or not hard else []
    return [*soft, *(["v_reset (of a population with hard reset)"] if hard else [])]


def _node_row(plan: VectorPlan, node: Node) -> str:
    """A row of the first table."""
    takes = ", ".join(map(_quoted, node.inputs))
    shape = _times(plan.graph.shape(node.name))
    return f"| {_quoted(node.name)} | {node.kind} | {takes} | {shape} | {_details(plan, node)} |"


def _quoted(name: str) -> str:
    """A node's name as code, without what would end the cell of a table."""
    return f"`{re.sub(r'[`|]|[^ -~]', '_', name)}`"


def _details(plan: VectorPlan, node: Node) -> str:
    """Geometry of a convolution, or registers and reset of a population."""
    entry, graph = registers(plan, node), plan.graph
    if isinstance(node, Conv):
        padding = ", ".join(f"({before}, {after})" for before, after in node.padding)
        return (
            f"kernel {_times(node.kernel)}, stride {_times(node.stride)}, padding {padding}, "
            f"dilation {_times(node.dilation)}, groups {node.groups}"
        )
    if isinstance(node, IF):
        reset = "soft" if node.v_reset is None else "hard"
        current, potential = entry["current_bits"], entry["potential_bits"]
        return f"{reset} reset; current {current} bits, potential {potential} bits"
    if isinstance(node, Output):
        return f"current {entry['current_bits']} bits, sum {entry['sum_bits']} bits"
    if node is graph.input:
        return "spikes of every step" if graph.input.is_timed else "the same at every step"
    return ""


def _table(memories: Iterable[Memory]) -> str:
    """The table of files."""
    rows = ["| file | word | axes of the address |", "|---|---|---|"]
    for memory in memories:
        sign = "signed" if memory.signed else "unsigned"
        word = f"{_count(memory.bits, 'bit')}, {sign}, {_count(digits_of(memory.bits), 'digit')}"
        axes = zip(memory.axes, memory.shape, strict=True)
        order = ", ".join(f"{axis} {length}" for axis, length in axes)
        rows.append(f"| `{memory.file}` | {word} | {order} |")
    return "\n".join(rows)


def _times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
