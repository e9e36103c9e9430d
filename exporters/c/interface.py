"""network.h: the interface and the state."""

from __future__ import annotations

from icsnn_deploy.exporters.c.plan import Plan
from icsnn_deploy.exporters.c.state import declarations, state_fields
from icsnn_deploy.version import __version__

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
#define ICSNN_SPARE 64 /* lists of spikes are written in groups; a cache line */
#else
#define ICSNN_SPARE 0
#endif

/* Steps that icsnn_run runs of a layer before the next layer. 1 takes the least memory; with more a
   computer loads weights once for all of them. */
#ifndef ICSNN_TOGETHER
#ifdef ICSNN_HOST
#define ICSNN_TOGETHER {together}
#else
#define ICSNN_TOGETHER 1
#endif
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

#define ICSNN_LARGER(a, b) ((a) > (b) ? (a) : (b))

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

{steps_text}
void icsnn_steps(icsnn_state *s, {run_arguments}, int32_t steps);

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

_STEPS_DIRECT = """/* Run the next steps, at most ICSNN_TOGETHER: all of a layer, then of the next.
   With ICSNN_TOGETHER > 1, s->logits_after has the logits after each of these steps,
   [steps][ICSNN_OUTPUTS]. */"""

_STEPS_EVENTS = """/* Run the next steps, at most ICSNN_TOGETHER: all of a layer, then of the next.
   With ICSNN_TOGETHER > 1, s->logits_after has the logits after each of these steps,
   [steps][ICSNN_OUTPUTS].
   events: the input spikes of the first of these steps, then of the next, ...; see icsnn_step.
   counts: how many spikes each step has. */"""

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
        together=plan.steps_together,
        fields="\n".join(declarations(state_fields(plan))),
        step_text=(_STEP_DIRECT if is_direct else _STEP_EVENTS).format(**names),
        step_arguments=step_arguments(plan),
        steps_text=_STEPS_DIRECT if is_direct else _STEPS_EVENTS,
        run_text=_RUN_DIRECT if is_direct else _RUN_EVENTS,
        run_arguments=run_arguments(plan),
    )


def _input_type(plan: Plan) -> str:
    values = plan.input.values
    return "" if values is None else f"typedef {values.c_type} icsnn_input; /* one input value */\n"


def step_arguments(plan: Plan) -> str:
    """The arguments of icsnn_step after the state."""
    if plan.input.values is None:
        return "const uint32_t *events, uint32_t count"
    return "const icsnn_input *input"


def run_arguments(plan: Plan) -> str:
    """The arguments of icsnn_run after the state."""
    if plan.input.values is None:
        return "const uint32_t *events, const uint32_t *counts"
    return step_arguments(plan)
