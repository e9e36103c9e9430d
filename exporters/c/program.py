"""network.c: the layers and the steps."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from icsnn_deploy.exporters.c.connections import call_of, runs_in_blocks
from icsnn_deploy.exporters.c.interface import run_arguments, step_arguments
from icsnn_deploy.exporters.c.parameters import vectors_of
from icsnn_deploy.exporters.c.plan import Accumulator, Connection, Plan
from icsnn_deploy.exporters.c.state import SHARED, StateField, state_fields
from icsnn_deploy.exporters.c.texts import FunctionTexts

_WRAP = 96

_SOURCE = """/* The network of network.h. A layer reads the spikes of its sources as lists, adds the
   weights of those neurons alone, and lists its own spikes. */
#include "network.h"
#include "weights.h"

#include <string.h>

#if defined(ICSNN_HOST) && defined(__BYTE_ORDER__)
#define ICSNN_HOST_LISTS (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
#else
#define ICSNN_HOST_LISTS 0
#endif

#define ICSNN_BLOCK 64 /* neurons that are compared with their thresholds at once */
#define ICSNN_GATHERED 32 /* values that are listed at once */

/* Sizes are constants in every call: with speed in mind each call gets a function of its own.
   Some functions are for one of the two schedules only, so that they may be unused. */
#if defined(__GNUC__) && defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__)
#define ICSNN_INLINE static inline __attribute__((always_inline, unused))
#elif defined(__GNUC__)
#define ICSNN_INLINE static inline __attribute__((unused))
#else
#define ICSNN_INLINE static inline
#endif

#if ICSNN_HOST_LISTS
/* For each byte the numbers of its bits that are 1, in rising order. */
static const uint8_t icsnn_lists[256][8] = {
@lists@
};
#endif
"""


def source_text(plan: Plan) -> str:
    """The text of network.c."""
    writer = _ProgramWriter(plan)
    layers = "".join(map(writer.layer, plan.steps))
    start = writer.start()
    ends = writer.init() + writer.step() + writer.run()
    head = _SOURCE.replace("@lists@", "\n".join(_list_table()))
    if writer.functions.tap_weights:
        head += f"\n#define ICSNN_TAP_WEIGHTS {writer.functions.tap_weights} /* at most */\n"
    return f"{head}{writer.functions}{layers}{start}{ends}"


def _list_table() -> Iterator[str]:
    """The lines of the table of bits: row m lists the bits that are set in m, then zeros."""
    rows = []
    for entry in range(256):
        bits = [bit for bit in range(8) if entry >> bit & 1]
        rows.append(", ".join(map(str, [*bits, *[0] * (8 - len(bits))])))
    for start in range(0, 256, 4):
        yield "    " + ", ".join(f"{{{row}}}" for row in rows[start : start + 4]) + ","


class _ProgramWriter:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.functions = FunctionTexts()
        self.has_start = plan.input.values is not None

    def layer(self, target: Accumulator) -> str:
        """The function of one accumulator for some steps."""
        name, size = target.name, target.size
        lines = [
            f"\n/* {name}: {size}. {_reasons(target)} */",
            f"static void layer_{name}(icsnn_state *s, int32_t steps)\n{{",
        ]
        if target.role != "population":
            lines += self._each_step(self._sum(target))
        elif not runs_in_blocks(target):
            to = f"s->{name}_v" if target.in_place else f"s->sum{target.sum_width.bits}"
            lines += self._each_step(self._population(target, target.connections, to))
        elif target.in_place:
            lines += ["#if ICSNN_TOGETHER > 1", *self._in_blocks(target)]
            lines += ["#else /* spikes are added to the potentials themselves */"]
            in_place = self._population(target, target.connections, f"s->{name}_v")
            lines += [*self._each_step(in_place), "#endif"]
        else:
            lines += self._in_blocks(target)
        return "\n".join([*lines, "}", ""])

    def _each_step(self, lines: list[str]) -> list[str]:
        return ["    for (int32_t t = 0; t < steps; t++) {", *map(_indented, lines), "    }"]

    def _sum(self, target: Accumulator) -> list[str]:
        """One step of a sum or of the readout."""
        if target.role == "values":
            to = f"s->{target.name}_sum + t * {target.size.neurons}"
            parts = [self._connection(target, part, to) for part in target.connections]
            return [self._bias(target, to), *parts]
        lines = [self._bias(target, "s->logits", keep=True)]
        lines += [self._connection(target, part, "s->logits") for part in target.connections]
        if self.plan.graph.readout_start > 0:
            first = "    if (s->step + t >= ICSNN_READOUT_START) {"
            lines = [first, *map(_indented, lines), "    }"]
        keep = "    memcpy(s->logits_after + t * ICSNN_OUTPUTS, s->logits, sizeof s->logits);"
        return [*lines, "#if ICSNN_TOGETHER > 1", keep, "#endif"]

    def _population(self, target: Accumulator, parts: tuple[Connection, ...], to: str) -> list[str]:
        """One step of a population: connections that add into `to`, and its neurons."""
        lines = [self._connection(target, part, to) for part in parts]
        return [*lines, self._fire(target, to)]

    def _in_blocks(self, target: Accumulator) -> list[str]:
        """A population of which some connections are run for all steps at once."""
        to = f"s->sum{target.sum_width.bits}"
        blocks = tuple(part for part in target.connections if call_of(part, target).lanes)
        rest = tuple(part for part in target.connections if part not in blocks)
        lines = [self._connection(target, part, to, steps="steps") for part in blocks]
        step = self._population(target, rest, f"{to} + t * {target.size.neurons}")
        return [*lines, *self._each_step(step)]

    def start(self) -> str:
        """The function that computes what is the same at every step."""
        if not self.has_start:
            return ""
        plan = self.plan
        lines = [
            "\n/* What the sample gives to every step alike. */",
            f"static void start(icsnn_state *s, {step_arguments(plan)})\n{{",
        ]
        for target in plan.accumulators:
            to = f"s->{target.name}_constant"
            if target.constant:
                to = f"s->{target.name}_sum"
                lines.append(self._bias(target, to))
                lines += [self._connection(target, part, to) for part in target.connections]
            elif target.constant_connections:
                lines.append(f"    memset({to}, 0, sizeof {to});")
                lines += [
                    self._connection(target, part, to) for part in target.constant_connections
                ]
        return "\n".join([*lines, "}", ""])

    def init(self) -> str:
        """The text of icsnn_init."""
        lines = ["\nvoid icsnn_init(icsnn_state *s)\n{", "    s->step = 0;"]
        lines += [line for field in state_fields(self.plan) for line in _zeroed(field)]
        for target in self.plan.populations:
            assert target.potential is not None
            fill = self.functions.fill(target.potential, target.parameter)
            name, size = target.name, target.size
            step = _steps_of(target)["v_init"]
            lines.append(
                f"    {fill}(s->{name}_v, {name}_v_init, {step}, {size.pixels}, {size.channels});"
            )
        return "\n".join([*lines, "}", ""])

    def step(self) -> str:
        """The text of icsnn_steps and icsnn_step."""
        plan = self.plan
        lines = [
            f"\nvoid icsnn_steps(icsnn_state *s, {run_arguments(plan)}, int32_t steps)\n{{",
            "    const int32_t left = ICSNN_STEPS - s->step;",
            "    steps = steps < left ? steps : left;",
            "    steps = steps < ICSNN_TOGETHER ? steps : ICSNN_TOGETHER;",
        ]
        if self.has_start:
            lines.append("    if (s->step == 0 && steps > 0) {\n        start(s, input);\n    }")
        else:
            lines += self._list_input()
        lines += [f"    layer_{target.name}(s, steps);" for target in plan.steps]
        lines += ["    s->step += steps;", "}"]
        lines.append(f"\nvoid icsnn_step(icsnn_state *s, {step_arguments(plan)})\n{{")
        arguments = "input" if self.has_start else "events, &count"
        lines.append(f"    icsnn_steps(s, {arguments}, 1);")
        return "\n".join([*lines, "}", ""])

    def _list_input(self) -> list[str]:
        name, size = self.plan.input.name, self.plan.input.size
        lists = self.functions.spikes_of_marks()
        sizes = (size.pixels, size.channels)
        reads = _lists(name, *sizes, "t")
        return [
            "    for (int32_t t = 0; t < steps; t++) {",
            "        for (uint32_t i = 0; i < counts[t]; i++) {",
            "            if (events[i] < ICSNN_INPUTS) {",
            f"                s->{name}_marks[events[i]] = 1;",
            "            }\n        }",
            _indented(_call(lists, [f"s->{name}_marks", *reads, *map(str, sizes)])),
            "        events += counts[t];\n    }",
        ]

    def run(self) -> str:
        """The text of icsnn_run."""
        lines = [
            f"\nvoid icsnn_run(icsnn_state *s, {run_arguments(self.plan)})\n{{",
            "    icsnn_init(s);",
        ]
        if self.has_start:
            lines.append("    while (s->step < ICSNN_STEPS) {")
            lines.append("        icsnn_steps(s, input, ICSNN_TOGETHER);")
        else:
            lines += [
                "    while (s->step < ICSNN_STEPS) {",
                "        const int32_t first = s->step;",
                "        icsnn_steps(s, events, counts + first, ICSNN_TOGETHER);",
                "        for (int32_t t = first; t < s->step; t++) {",
                "            events += counts[t];",
                "        }",
            ]
        return "\n".join([*lines, "    }", "}", ""])

    def _connection(
        self, target: Accumulator, part: Connection, to: str, *, steps: str = ""
    ) -> str:
        """The call of one connection.

        Args:
            target: what it adds into.
            part: the connection.
            to: the sums of the step t, or of the first where all steps are run at once.
            steps: of a connection in blocks, the number of steps; empty: 1, the step t.
        """
        call = call_of(part, target)
        source = part.source
        name = self.functions.connection(call, target.sum_width, source)
        if source.values is None:
            reads = _lists(source.name, source.lists, source.size.channels, "" if steps else "t")
        else:
            is_input = source.name == self.plan.input.name
            reads = ["input" if is_input else f"s->{source.name}_sum"]
            if not (is_input or source.constant):
                reads = [f"s->{source.name}_sum + t * {source.size.neurons}"]
        weight = [] if call.weight is None else [f"{part.name}_weight"]
        count = [steps or "1"] if call.lanes else []
        left_out = (
            {"in_c"}
            if source.values is None and call.kind != "linear" and not call.lanes
            else set()
        )
        sizes = [str(n) for key, n in call.sizes.items() if key not in left_out]
        comment = f"    /* {part.name}: {call.about} */\n"
        return comment + _call(name, [to, *weight, *reads, *count, *sizes])

    def _fire(self, target: Accumulator, current: str) -> str:
        """The call of the neurons at step t; current: of their spikes, or the potentials."""
        name, size, steps = target.name, target.size, _steps_of(target)
        potentials = f"s->{name}_v"
        beside = bool(target.connections) and current != potentials
        arguments = [potentials, current] if beside else [potentials]
        if target.constant_connections:
            arguments.append(f"s->{name}_constant")
        for field in ("bias", "threshold", *(["v_reset"] if "v_reset" in steps else [])):
            arguments += [f"{name}_{field}", str(steps[field])]
        arguments += _lists(name, size.pixels, size.channels, "t")
        arguments += [str(size.pixels), str(size.channels)]
        arguments += [] if target.window == (1, 1) else [str(size.width)]
        return _call(self.functions.fire(target, beside=beside), arguments)

    def _bias(self, target: Accumulator, to: str, *, keep: bool = False) -> str:
        name, size = target.name, target.size
        constant = [f"s->{name}_constant"] if target.constant_connections else []
        step = str(_steps_of(target)["bias"])
        arguments = [to, *constant, f"{name}_bias", step, str(size.pixels), str(size.channels)]
        return _call(self.functions.bias(target, keep=keep), arguments)


def _steps_of(target: Accumulator) -> dict[str, int]:
    """From one pixel to the next, how far each parameter moves: channels, or 0."""
    channels = target.size.channels
    return {
        name: channels if values.ndim == 2 else 0 for name, values in vectors_of(target).items()
    }


def _zeroed(field: StateField) -> list[str]:
    """The lines that set a field to zero which has to be zero at the start."""
    if field.name != "logits" and field.layer != SHARED and not field.name.endswith("_marks"):
        return []
    line = f"    memset(s->{field.name}, 0, sizeof s->{field.name});"
    return [line] if field.size else ["#if ICSNN_TOGETHER > 1", line, "#endif"]


def _lists(name: str, pixels: int, channels: int, step: str) -> list[str]:
    """Counts and events of a step; of all from the first on where `step` is empty."""
    if not step:
        return [f"s->{name}_counts", f"s->{name}_events"]
    return [
        f"s->{name}_counts + {step} * {pixels}",
        f"s->{name}_events + {step} * ({pixels * channels} + ICSNN_SPARE)",
    ]


def _indented(text: str) -> str:
    """Lines four spaces further in; directives stay where they are."""
    return re.sub(r"^(?=[^#\n])", "    ", text, flags=re.MULTILINE)


def _call(name: str, arguments: list[str]) -> str:
    """A call in lines of about 100 characters."""
    line = f"    {name}("
    indent = " " * 8
    lines = []
    for position, argument in enumerate(arguments):
        end = ", " if position < len(arguments) - 1 else ");"
        if len(line) + len(argument) + 2 > _WRAP:
            lines.append(line.rstrip())
            line = indent
        line += argument + end
    return "\n".join([*lines, line])


def _reasons(target: Accumulator) -> str:
    """Why the types of an accumulator hold every value, for a comment."""
    sums = target.sum_width
    if target.role == "values":
        return f"Partial sums within +-{sums.reach:,}: {sums.c_type}."
    bound = target.bound
    assert bound is not None, target.name
    if target.role == "output":
        return f"Sums over all steps within +-{bound.potential:,}: int32_t."
    potential = target.potential
    assert potential is not None, target.name
    if target.in_place:
        both = f"{bound.potential + math.ceil(bound.partial_sum):,}"
        return (
            f"Potentials within +-{bound.potential:,},\n   with a partial sum +-{both}: "
            f"{potential.c_type}, spikes are added to them."
        )
    return (
        f"Potentials within +-{bound.potential:,}: {potential.c_type};\n"
        f"   partial sums within +-{bound.partial_sum:,}: {sums.c_type}."
    )
