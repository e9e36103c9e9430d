"""What SystemVerilog can't hold of a network: every misfit in one error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from icsnn_deploy.errors import ExportError, lines
from icsnn_deploy.exporters.c.widths import ranges_of
from icsnn_deploy.graph.certificate import certify
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.nodes import IF, Add, ChannelAffine, Conv, Flatten, Input, Linear, Output

MAX_BITS = 32
MAX_WORDS = 2**22
"""Words of one memory: more than an FPGA has in block RAM, and what yosys maps in minutes."""

_KINDS = (Input, Conv, Linear, ChannelAffine, Flatten, Add, IF, Output)


def check_network(graph: Graph) -> None:
    """Raise ExportError where the format can't hold a network; lists every misfit."""
    if not graph.is_integer:
        raise ExportError(
            "systemverilog holds integer networks only, whose sums are exact; make one with "
            "icsnn quantize"
        )
    found = list(_misfits(graph))
    if found:
        raise ExportError(lines("systemverilog can't hold this network:", found))


def _misfits(graph: Graph) -> Iterator[str]:
    unknown = [node for node in graph.nodes if not isinstance(node, _KINDS)]
    yield from (f"{node.name}: there is no module for {node.kind!r}" for node in unknown)
    for node in graph.nodes:
        sizes = {field: values.size for field, values in node.parameters().items()}
        sizes["a map"] = int(np.prod(graph.shape(node.name)))
        for what, words in sizes.items():
            if words > MAX_WORDS:
                yield (
                    f"{node.name}: {what} of {words:,} words, {MAX_WORDS:,} are allowed in one "
                    "memory; make the layer smaller"
                )
    if unknown:
        return
    for name, bits in _register_bits(graph).items():
        if bits > MAX_BITS:
            yield (
                f"{name}: needs registers of {bits} bits, {MAX_BITS} are allowed; quantize to "
                "fewer bits or take fewer time steps"
            )


def _register_bits(graph: Graph) -> dict[str, int]:
    """Bits of the widest sum and parameter of each node, as a signed number."""
    found = {}
    ranges = ranges_of(graph)
    potentials = {bound.layer: bound.potential for bound in certify(graph).bounds}
    for node in graph.nodes:
        values = [np.abs(each).max(initial=0) for each in node.parameters().values()]
        reach = max(0, *(int(value) for value in values)) if values else 0
        reach = max(reach, ranges[node.name].partial)
        if node.name in potentials:  # a sum on the way to a potential
            reach = max(reach, potentials[node.name] + ranges[node.inputs[0]].partial)
        found[node.name] = int(reach).bit_length() + 1
    return found
