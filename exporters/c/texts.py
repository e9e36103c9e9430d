"""Functions of the program as text: templates with types filled in."""

from __future__ import annotations

import re

from icsnn_deploy.exporters.c import functions
from icsnn_deploy.exporters.c.connections import ConnectionCall
from icsnn_deploy.exporters.c.plan import Accumulator
from icsnn_deploy.exporters.c.widths import Width

_HOLE = re.compile(r"@(\w+)@")

_LIST = "const icsnn_count *counts, const icsnn_channel *event"
_MARK = re.compile(r"^( *)@begin@\n(.*?)^ *@end@\n", re.MULTILINE | re.DOTALL)


class FunctionTexts:
    """The functions that a program needs, each once, in the order of their first use."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def __str__(self) -> str:
        return "".join(self._texts.values())

    def connection(self, call: ConnectionCall, total: Width, values: Width | None) -> str:
        """Add the function of a connection; returns its name.

        Args:
            call: the connection.
            total: type of the sum that it adds into.
            values: type of the values that it reads; None: spikes.
        """
        weight = None if call.weight is None else call.weight_width
        types = {
            "a": total.c_type,
            "w": ("icsnn_weight8" if weight.bits == 8 else weight.c_type) if weight else "",
        }
        suffix = ("" if weight is None else f"_w{weight.bits}") + f"_a{total.bits}"
        if values is not None:
            suffix += f"_{_short(values)}"
            types["x"] = values.c_type
        add = self._add(types, suffix, values) if "@add@" in call.template else ""
        name = f"{call.kind}{suffix}"
        if values is None:
            template = _MARK.sub(_spikes_loop, call.template)
        else:
            types["gather"] = self._gather(values)
            template = _MARK.sub(_values_loop, call.template)
        filled = {
            **types,
            "name": name,
            "add": add,
            "source": _LIST if values is None else f"const {values.c_type} *values",
            "in_c": "" if values is None else " int32_t in_c,",
            "list": "event" if values is None else "event, value",
            "times": "" if values is None else "value[k] * ",
            "one": "1" if values is None else "value[k]",
            "reads": "reads spikes." if values is None else "reads values.",
        }
        return self._put(name, template, filled)

    def fire(self, target: Accumulator) -> str:
        """Add the function of a population; returns its name."""
        potential, sums, parameter = target.potential, target.sum_width, target.parameter
        assert potential is not None, f"{target.name} is no population"
        hard = target.population.v_reset is not None
        name, arguments, current, clear = f"fire_v{potential.bits}", [], "", ""
        advance = ""
        if target.connections and not target.in_place:
            name += f"_a{sums.bits}"
            arguments.append(f"{sums.c_type} *restrict sum")
            current += "sum[c] + "
            clear = "\n                sum[c] = 0;"
            advance += "\n        sum += channels;"
        if target.constant_connections:
            name += f"_c{sums.bits}"
            arguments.append(f"const {sums.c_type} *constant")
            current += "constant[c] + "
            advance += "\n        constant += channels;"
        name += f"_p{parameter.bits}{'_hard' if hard else ''}"
        reset_arguments = ""
        if hard:
            p = parameter.c_type
            reset_arguments = f"\n{' ' * 25}const {p} *reset, int32_t reset_step,"
            advance += "\n        reset += reset_step;"
        wide = max(potential.bits, parameter.bits)
        template = functions.FIRE.replace(
            "@arguments@,", f"{', '.join(arguments)}," if arguments else ""
        )
        filled = {
            "name": name,
            "v": potential.c_type,
            "u": f"int{wide}_t",
            "p": parameter.c_type,
            "current": current,
            "clear": clear,
            "advance": advance,
            "reset": "reset[c]" if hard else "u - high",
            "reset_text": "reset after a spike, otherwise u" if hard else "u - threshold * spike",
            "reset_arguments": reset_arguments,
        }
        self._put("list_fired", functions.LIST_FIRED, {})
        return self._put(name, template, filled)

    def bias(self, target: Accumulator, *, keep: bool = False) -> str:
        """Add the function that puts biases into a sum, or adds them; returns its name.

        Args:
            target: a sum or the readout.
            keep: add to what is there.
        """
        a, p = target.sum_width, target.parameter
        fixed = bool(target.constant_connections)
        name = f"{'add' if keep else 'set'}_bias_a{a.bits}{'_c' if fixed else ''}_p{p.bits}"
        filled = {
            "name": name,
            "a": a.c_type,
            "p": p.c_type,
            "what": "Add the biases to a sum." if keep else "Start a sum with the biases.",
            "arguments": f" const {a.c_type} *constant," if fixed else "",
            "current": ("sum[c] + " if keep else "") + ("constant[c] + " if fixed else ""),
            "advance": "\n        constant += channels;" if fixed else "",
        }
        return self._put(name, functions.BIAS, filled)

    def fill(self, width: Width, parameter: Width) -> str:
        """Add the function that sets potentials; returns its name."""
        name = f"fill_v{width.bits}_p{parameter.bits}"
        filled = {"name": name, "v": width.c_type, "p": parameter.c_type}
        return self._put(name, functions.FILL, filled)

    def spikes_of_marks(self) -> str:
        """Add the function that lists marked input spikes; returns its name."""
        return self._put("list_input", functions.LIST_INPUT, {"name": "list_input"})

    def _add(self, types: dict[str, str], suffix: str, values: Width | None) -> str:
        template = functions.ADD_SPIKES if values is None else functions.ADD_VALUES
        name = f"add_{'spikes' if values is None else 'values'}{suffix}"
        return self._put(name, template, {**types, "name": name})

    def _gather(self, values: Width) -> str:
        name = f"gather_{_short(values)}"
        return self._put(name, functions.GATHER, {"name": name, "x": values.c_type})

    def _put(self, name: str, template: str, filled: dict[str, str]) -> str:
        if name not in self._texts:
            text = _HOLE.sub(lambda hole: filled[hole[1]], template)
            text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
            self._texts[name] = text
        return name


def _short(values: Width) -> str:
    return f"x{values.bits}" if values.signed else f"x{values.bits}u"


def _spikes_loop(match: re.Match[str]) -> str:
    indent, body = match[1], match[2]
    return f"{indent}const int32_t count = *counts++;\n{body}{indent}event += count;\n"


def _values_loop(match: re.Match[str]) -> str:
    indent = match[1]
    body = re.sub(r"^(?=.)", "    ", match[2], flags=re.MULTILINE)
    return (
        f"{indent}for (int32_t first = 0; first < in_c; first += ICSNN_GATHERED) {{\n"
        f"{indent}    icsnn_channel event[ICSNN_GATHERED];\n"
        f"{indent}    @x@ value[ICSNN_GATHERED];\n"
        f"{indent}    const int32_t count = @gather@(event, value, values, first, in_c);\n"
        f"{body}{indent}}}\n"
        f"{indent}values += in_c;\n"
    )
