"""weights.h and weights.c: every parameter as a constant array, in the order that is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from icsnn_deploy.exporters.c.arrange import per_channel_or_neuron
from icsnn_deploy.exporters.c.connections import call_of
from icsnn_deploy.exporters.c.plan import Accumulator, Plan
from icsnn_deploy.exporters.c.widths import Width
from icsnn_deploy.graph.neuron import Array

_LINE = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class Parameter:
    """One constant array of the program."""

    name: str
    layer: str  # of the accumulator that it belongs to
    width: Width
    values: Array
    about: str
    is_wide_on_host: bool = False

    @property
    def c_type(self) -> str:
        """The type of the array's values."""
        if self.is_wide_on_host and self.width.bits == 8:
            return "icsnn_weight8"
        return self.width.c_type

    @property
    def host_values(self) -> Array:
        """The values in the type that they have with ICSNN_HOST."""
        bits = 16 if self.c_type == "icsnn_weight8" else self.width.bits
        return self.values.astype(f"int{bits}")

    @property
    def bytes(self) -> int:
        """Size in flash."""
        return self.values.size * self.width.bytes


def parameters_of(plan: Plan) -> Iterator[Parameter]:
    """Every array of the program, layer by layer."""
    for target in plan.accumulators:
        for part in (*target.constant_connections, *target.connections):
            call = call_of(part, target)
            if call.weight is not None:
                shape = "][".join(map(str, call.weight.shape))
                yield Parameter(
                    name=f"{part.name}_weight",
                    layer=target.name,
                    width=call.weight_width,
                    values=call.weight,
                    about=f"{part.name}: {call.about}; weights [{shape}]",
                    is_wide_on_host=not call.lanes,
                )
        for name, values in vectors_of(target).items():
            layout = "neuron" if values.ndim == 2 else "channel"
            yield Parameter(
                name=f"{target.name}_{name}",
                layer=target.name,
                width=target.parameter,
                values=values,
                about=f"{target.name}: {name} per {layout}",
            )


def vectors_of(target: Accumulator) -> dict[str, Array]:
    """The parameters of an accumulator by name, each [C] or [P, C]; halves are rounded down."""
    found = {"bias": target.bias}
    if target.role == "population":
        node, shape = target.population, target.shape
        found["threshold"] = per_channel_or_neuron(node.v_threshold, shape)
        found["v_init"] = per_channel_or_neuron(np.floor(node.v_init), shape)
        if node.v_reset is not None:
            found["v_reset"] = per_channel_or_neuron(np.floor(node.v_reset), shape)
    return {name: values.astype(np.int64) for name, values in found.items()}


def header(parameters: list[Parameter]) -> str:
    """The text of weights.h."""
    lines = [
        "/* Parameters of the network: constants that can stay in flash. */",
        "#ifndef ICSNN_WEIGHTS_H",
        "#define ICSNN_WEIGHTS_H",
        "",
        "#include <stdint.h>",
        "",
        "/* Weights of 8 bits; with ICSNN_HOST 16, for computers with vector units. */",
        "#ifdef ICSNN_HOST",
        "typedef int16_t icsnn_weight8;",
        "#else",
        "typedef int8_t icsnn_weight8;",
        "#endif",
        "",
    ]
    for each in parameters:
        lines += [f"extern const {each.c_type} {each.name}[{each.values.size}];"]
    return "\n".join([*lines, "", "#endif", ""])


def source(parameters: list[Parameter]) -> str:
    """The text of weights.c."""
    parts = ['/* Parameters of the network; network.c reads them. */\n#include "weights.h"\n']
    for each in parameters:
        parts.append(f"\n/* {each.about}; within +-{each.width.reach} */\n")
        parts.append(f"const {each.c_type} {each.name}[{each.values.size}] = {{\n")
        parts += [f"{line}\n" for line in number_lines(each.values)]
        parts.append("};\n")
    return "".join(parts)


def number_lines(values: Array) -> Iterator[str]:
    """Integers separated by commas, in lines of about 100 characters."""
    flat = values.reshape(-1)
    widest = max(len(str(flat.min())), len(str(flat.max()))) + 1
    step = max(1, _LINE // widest)
    literal = str if flat.min() > -(2**31) else _literal
    for start in range(0, flat.size, step):
        yield "    " + ",".join(map(literal, flat[start : start + step].tolist())) + ","


def _literal(value: int) -> str:
    """A C constant: the lowest of int32_t has no literal of its own."""
    return "(-2147483647 - 1)" if value == -(2**31) else str(value)
