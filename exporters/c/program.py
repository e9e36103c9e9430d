"""network.h and network.c: the interface, the state and the steps."""

from __future__ import annotations

import math
from collections.abc import Iterator

from icsnn_deploy.exporters.c.connections import call_of
from icsnn_deploy.exporters.c.parameters import vectors_of
from icsnn_deploy.exporters.c.plan import Accumulator, Connection, Plan
from icsnn_deploy.exporters.c.state import state_fields, uses_scratch
from icsnn_deploy.exporters.c.texts import FunctionTexts
from icsnn_deploy.version import __version__

_WRAP = 96

_HEADER = """/* A spiking network as a C99 program, written by icsnn-deploy {version}.
   T = {steps} steps.

   The caller owns the state; nothing else is kept, so that several networks can run at once.
   All values are integers. Potentials and sums can't overflow within T steps, whatever the input:
   network.c states the bound of each. Maps are stored channels last: [height][width][channel]. */
#ifndef ICSNN_NETWORK_H
#define ICSNN_NETWORK_H

#include <stdint.h>

/* Define ICSNN_HOST for all files to build for a computer: faster there, larger everywhere. */
#ifdef ICSNN_HOST
#define ICSNN_SPARE 8 /* lists of spikes are written in groups */
#else
#define ICSNN_SPARE 0
#endif

#define ICSNN_NETWORK "{hash}" /* hash of the network */
#define ICSNN_STEPS {steps} /* T */
#define ICSNN_READOUT_START {start} /* the logits sum the currents of the steps after this one */
#define ICSNN_LAYERS {layers} /* populations */
{input_macros}
{events}#define ICSNN_OUTPUT_HEIGHT {out_h}
#define ICSNN_OUTPUT_WIDTH {out_w}
#define ICSNN_OUTPUT_CHANNELS {out_c}
#define ICSNN_OUTPUTS {outputs} /* values at the output */

{input_type}typedef uint{bits}_t icsnn_channel; /* number of a channel of a map, from 0 */
typedef uint{count_bits}_t icsnn_count; /* of the spikes of one pixel */

typedef struct {{
{fields}
}} icsnn_state;

#ifdef __cplusplus
extern "C" {{
#endif

/* Start a sample: potentials are set to their initial values, logits to 0. */
void icsnn_init(icsnn_state *s);

{step_text}
void icsnn_step(icsnn_state *s, {step_arguments});

{run_text}
void icsnn_run(icsnn_state *s, {run_arguments});

#ifdef __cplusplus
}}
#endif

#endif
"""

_EVENT_INPUT = "#define ICSNN_EVENT_INPUT 1 /* the input is a list of spikes per step */\n"

_STEP_DIRECT = """/* Run the next step. After step t, s->logits are the sums over the steps
   (ICSNN_READOUT_START, t], [{output}]; their mean is the network's output at t, for early exit.
   Further calls after ICSNN_STEPS steps do nothing.
   input: [{input}], the sample; read at the first step only. */"""

_STEP_EVENTS = """/* Run the next step. After step t, s->logits are the sums over the steps
   (ICSNN_READOUT_START, t], [{output}]; their mean is the network's output at t, for early exit.
   Further calls after ICSNN_STEPS steps do nothing.
   events: the input spikes of this step in any order, each (y * width + x) * channels + channel;
   one that is listed twice counts once, one beyond the input not at all.
   count: their number. */"""

_RUN_DIRECT = """/* Run a sample from icsnn_init on, all ICSNN_STEPS steps. */"""

_RUN_EVENTS = """/* Run a sample from icsnn_init on, all ICSNN_STEPS steps.
   events: the input spikes of step 1, then of step 2, ...; see icsnn_step.
   counts: [ICSNN_STEPS], how many spikes each step has. */"""


def header_text(plan: Plan) -> str:
    """The text of network.h."""
    size, out = plan.input.size, plan.output.size
    lines = [
        f"#define ICSNN_INPUT_HEIGHT {size.height}",
        f"#define ICSNN_INPUT_WIDTH {size.width}",
        f"#define ICSNN_INPUT_CHANNELS {size.channels}",
        f"#define ICSNN_INPUTS {size.neurons} /* values at the input */",
    ]
    is_direct = plan.input.values is not None
    names = {"input": str(size), "output": str(out)}
    return _HEADER.format(
        version=__version__,
        hash=plan.graph.hash(),
        events="" if is_direct else _EVENT_INPUT,
        input_type=_input_type(plan),
        steps=plan.graph.steps,
        start=plan.graph.readout_start,
        layers=len(plan.populations),
        input_macros="\n".join(lines),
        out_h=out.height,
        out_w=out.width,
        out_c=out.channels,
        outputs=out.neurons,
        bits=plan.channel_bits,
        count_bits=plan.count_bits,
        fields="\n".join(field.declaration for field in state_fields(plan)),
        step_text=(_STEP_DIRECT if is_direct else _STEP_EVENTS).format(**names),
        step_arguments=_step_arguments(plan),
        run_text=_RUN_DIRECT if is_direct else _RUN_EVENTS,
        run_arguments=_run_arguments(plan),
    )


def _input_type(plan: Plan) -> str:
    values = plan.input.values
    return "" if values is None else f"typedef {values.c_type} icsnn_input; /* one input value */\n"


def _step_arguments(plan: Plan) -> str:
    if plan.input.values is None:
        return "const uint32_t *events, uint32_t count"
    return "const icsnn_input *input"


def _run_arguments(plan: Plan) -> str:
    if plan.input.values is None:
        return "const uint32_t *events, const uint32_t *counts"
    return _step_arguments(plan)


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

/* Sizes are constants in every call: with speed in mind each call gets a function of its own. */
#if defined(__GNUC__) && defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__)
#define ICSNN_INLINE static inline __attribute__((always_inline))
#else
#define ICSNN_INLINE static
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
        """The function of one accumulator at one step."""
        name, size = target.name, target.size
        lines = [f"\n/* {name}: {size}. {_reasons(target)} */", _head(f"layer_{name}")]
        match target.role:
            case "population":
                to = f"s->{name}_v" if target.in_place else "s->sum"
                lines += [self._connection(target, part, to) for part in target.connections]
                lines.append(self._fire(target))
            case "values":
                lines.append(self._bias(target, f"s->{name}_sum"))
                lines += [
                    self._connection(target, part, f"s->{name}_sum") for part in target.connections
                ]
            case "output":
                lines.append(self._bias(target, "s->logits", keep=True))
                lines += [
                    self._connection(target, part, "s->logits") for part in target.connections
                ]
        return "\n".join([*lines, "}", ""])

    def start(self) -> str:
        """The function that computes what is the same at every step."""
        if not self.has_start:
            return ""
        plan = self.plan
        lines = [
            "\n/* What the sample gives to every step alike. */",
            f"static void start(icsnn_state *s, {_step_arguments(plan)})\n{{",
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
        lines = ["\nvoid icsnn_init(icsnn_state *s)\n{", "    memset(s, 0, sizeof *s);"]
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
        """The text of icsnn_step."""
        plan = self.plan
        lines = [
            f"\nvoid icsnn_step(icsnn_state *s, {_step_arguments(plan)})\n{{",
            "    if (s->step >= ICSNN_STEPS) {\n        return;\n    }",
        ]
        if self.has_start:
            lines.append("    if (s->step == 0) {\n        start(s, input);\n    }")
        else:
            lines += self._list_input()
        for target in plan.steps:
            if target.role == "output" and plan.graph.readout_start > 0:
                lines.append("    if (s->step >= ICSNN_READOUT_START) {")
                lines.append(f"        layer_{target.name}(s);\n    }}")
            else:
                lines.append(f"    layer_{target.name}(s);")
        return "\n".join([*lines, "    s->step++;", "}", ""])

    def _list_input(self) -> list[str]:
        name, size = self.plan.input.name, self.plan.input.size
        lists = self.functions.spikes_of_marks()
        return [
            "    for (uint32_t i = 0; i < count; i++) {",
            "        if (events[i] < ICSNN_INPUTS) {",
            f"            s->{name}_marks[events[i]] = 1;",
            "        }\n    }",
            f"    {lists}(s->{name}_marks, s->{name}_counts, s->{name}_events, "
            f"{size.pixels}, {size.channels});",
        ]

    def run(self) -> str:
        """The text of icsnn_run."""
        lines = [
            f"\nvoid icsnn_run(icsnn_state *s, {_run_arguments(self.plan)})\n{{",
            "    icsnn_init(s);",
            "    for (int32_t t = 0; t < ICSNN_STEPS; t++) {",
        ]
        if self.has_start:
            lines.append("        icsnn_step(s, input);")
        else:
            lines += ["        icsnn_step(s, events, counts[t]);", "        events += counts[t];"]
        return "\n".join([*lines, "    }", "}", ""])

    def _connection(self, target: Accumulator, part: Connection, to: str) -> str:
        call = call_of(part, target.size)
        source = part.source
        name = self.functions.connection(call, target.sum_width, source.values)
        is_input = source.name == self.plan.input.name
        if source.values is None:
            reads = [f"s->{source.name}_counts", f"s->{source.name}_events"]
        else:
            reads = ["input" if is_input else f"s->{source.name}_sum"]
        weight = [] if call.weight is None else [f"{part.name}_weight"]
        left_out = {"in_c"} if source.values is None and call.kind != "linear" else set()
        sizes = [str(n) for key, n in call.sizes.items() if key not in left_out]
        comment = f"    /* {part.name}: {call.about} */\n"
        return comment + _call(name, [to, *weight, *reads, *sizes])

    def _fire(self, target: Accumulator) -> str:
        name, size, steps = target.name, target.size, _steps_of(target)
        arguments = [f"s->{name}_v"]
        if uses_scratch(target):
            arguments.append("s->sum")
        if target.constant_connections:
            arguments.append(f"s->{name}_constant")
        for field in ("bias", "threshold", *(["v_reset"] if "v_reset" in steps else [])):
            arguments += [f"{name}_{field}", str(steps[field])]
        arguments += [f"s->{name}_counts", f"s->{name}_events"]
        arguments += [str(size.pixels), str(size.channels)]
        return _call(self.functions.fire(target), arguments)

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


def _head(name: str) -> str:
    return f"static void {name}(icsnn_state *s)\n{{"


def _call(name: str, arguments: list[str]) -> str:
    """A call in lines of at most 100 characters."""
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
