"""Functions of the program as text: templates with types filled in."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from icsnn_deploy.exporters.c import block_functions, functions
from icsnn_deploy.exporters.c.connections import ConnectionCall
from icsnn_deploy.exporters.c.plan import Accumulator, Source
from icsnn_deploy.exporters.c.widths import Width

_HOLE = re.compile(r"@(\w+)@")

_LIST = "const icsnn_count *counts, const icsnn_channel *event"
_MARK = re.compile(r"^( *)@begin@\n(.*?)^ *@end@\n", re.MULTILINE | re.DOTALL)


class FunctionTexts:
    """The functions that a program needs, each once, in the order of their first use."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self.tap_weights = 0  # of one tap of a connection in blocks, at most

    def __str__(self) -> str:
        return "".join(self._texts.values())

    def connection(self, call: ConnectionCall, total: Width, source: Source) -> str:
        """Add the function of a connection; returns its name.

        Args:
            call: the connection.
            total: type of the sum that it adds into.
            source: what it reads.
        """
        values = source.values
        weight = None if call.weight is None else call.weight_width
        types = {
            "a": total.c_type,
            "w": ("icsnn_weight8" if weight.bits == 8 else weight.c_type) if weight else "",
        }
        suffix = ("" if weight is None else f"_w{weight.bits}") + f"_a{total.bits}"
        if values is not None:
            suffix += f"_{_short(values)}"
            types["x"] = values.c_type
        lists = math.prod(source.window)
        shape = "x".join(map(str, source.window))
        windows = f"_windows{shape}" if lists > 1 else ""
        filled = {
            **types,
            "name": f"{call.kind}{windows}{suffix}",
            "source": _LIST if values is None else f"const {values.c_type} *values",
            "in_c": "" if values is None else " int32_t in_c,",
            "list": "event" if values is None else "event, value",
            "times": "" if values is None else "value[k] * ",
            "one": "1" if values is None else "value[k]",
            "reads": "reads spikes." if values is None else "reads values.",
            "lanes": str(call.lanes),
            "lists": f" * {lists}" if lists > 1 else "",
        }
        if windows:
            self._put("window_count", functions.WINDOW_COUNT, {})
            filled["reads"] = f"reads spikes,\n   and takes {shape} pixels as one, their sum."
        if call.lanes:
            filled["add"] = self._add_block(call, types, total)
            filled["tap"] = f"add_tap{call.lanes}{windows}{suffix}"
            narrow = call.weight_width.bits == 8
            filled["stored"] = "int8_t" if narrow else types["w"]
            filled["parameter"] = "stored" if narrow else "weight"
            tap = block_functions.TAP.replace("@wide@", block_functions.WIDE if narrow else "")
            tap = _with_spikes(tap, lists)
            self.tap_weights = max(self.tap_weights, call.sizes["in_c"] * call.lanes)
            self._put(filled["tap"], tap, {**filled, "name": filled["tap"]})
        elif "@add@" in call.template:
            filled["add"] = self._add(types, suffix, values)
        if values is not None:
            filled["gather"] = self._gather(values)
            return self._put(filled["name"], _MARK.sub(_values_loop, call.template), filled)
        return self._put(filled["name"], _with_spikes(call.template, lists), filled)

    def fire(self, target: Accumulator, *, beside: bool) -> str:
        """Add the function of a population; returns its name.

        Args:
            target: the population.
            beside: whether its spikes were summed beside the potentials.
        """
        potential, sums, parameter = target.potential, target.sum_width, target.parameter
        assert potential is not None, f"{target.name} is no population"
        hard = target.population.v_reset is not None
        name, arguments, current, clear = f"fire_v{potential.bits}", [], "", ""
        advance = ""
        if beside:
            name += f"_a{sums.bits}"
            arguments.append(f"{sums.c_type} *restrict sum")
            current += "sum[c] + "
            clear = "\n                sum[c] = 0;"
            advance += "\n        sum += @pixels@channels;"
        if target.constant_connections:
            name += f"_c{sums.bits}"
            arguments.append(f"const {sums.c_type} *constant")
            current += "constant[c] + "
            advance += "\n        constant += @pixels@channels;"
        name += f"_p{parameter.bits}{'_hard' if hard else ''}"
        reset_arguments = ""
        if hard:
            p = parameter.c_type
            reset_arguments = f"\n{' ' * 25}const {p} *reset, int32_t reset_step,"
            advance += "\n        reset += @pixels@reset_step;"
        wide = max(potential.bits, parameter.bits)
        height, width = target.window
        windows = target.window != (1, 1)
        name += f"_windows{height}x{width}" if windows else ""
        template = functions.FIRE.replace(
            "@arguments@,", f"{', '.join(arguments)}," if arguments else ""
        ).replace("@advance@", advance)
        place = f"width, {height}, {width})"
        ahead = f"pixel_of(p + 1, {place} - pixel_of(p, {place};"
        filled = {
            "name": name,
            "v": potential.c_type,
            "u": f"int{wide}_t",
            "p": parameter.c_type,
            "current": current,
            "clear": clear,
            "pixels": "ahead * " if windows else "",
            "ahead": f"\n        const int32_t ahead = {ahead}" if windows else "",
            "width": ", int32_t width" if windows else "",
            "order": f",\n   window by window of {height} x {width} pixels" if windows else "",
            "reset": "reset[c]" if hard else "u - high",
            "reset_text": "reset after a spike, otherwise u" if hard else "u - threshold * spike",
            "reset_arguments": reset_arguments,
        }
        self._put("list_fired", functions.LIST_FIRED, {})
        if windows:
            self._put("pixel_of", functions.WINDOWS, {})
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

    def _add_block(self, call: ConnectionCall, types: dict[str, str], total: Width) -> str:
        """Add the function that adds spikes into a block of sums; returns its name."""
        narrow = total.bits == 32 and call.weight_width.bits == 8
        into = replace(total, bits=16) if narrow else total
        suffix = f"_w{call.weight_width.bits}_a{into.bits}"
        add_spikes = self._add({**types, "a": into.c_type}, suffix, None)
        template = block_functions.ADD_BLOCK_WIDENED if narrow else block_functions.ADD_BLOCK
        name = f"add_block{call.lanes}_w{call.weight_width.bits}_a{total.bits}"
        self._put("target_of", block_functions.TARGET, {})
        filled = {**types, "name": name, "add_spikes": add_spikes, "lanes": str(call.lanes)}
        return self._put(name, template, filled)

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


def _with_spikes(template: str, lists: int) -> str:
    """A template with the lists of spikes of a pixel between @begin@ and @end@."""

    def loop(match: re.Match[str]) -> str:
        indent, body = match[1], match[2]
        count = f"{indent}const int32_t count = *counts++;\n"
        if lists > 1:
            count = (
                f"{indent}const int32_t count = window_count(counts, {lists});\n"
                f"{indent}counts += {lists};\n"
            )
        return f"{count}{body}{indent}event += count;\n"

    return _MARK.sub(loop, template)


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
