"""golden.h and test_main.c: what the program has to compute, and the program that checks it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icsnn_deploy.exporters.c.arrange import channels_last, windows_first
from icsnn_deploy.exporters.c.parameters import number_lines
from icsnn_deploy.exporters.c.plan import Accumulator, Plan
from icsnn_deploy.exporters.expected import ExpectedRun, ReferenceRun
from icsnn_deploy.graph.neuron import Array

_FACTOR = 16777619
"""Of the checksum h = h * factor + value, modulo 2^32: the prime of FNV."""

_INPUT_LIMIT = 2**18
"""Input values in golden.h; the first sample is always there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenSamples:
    """Samples, and what every step of them gives.

    Args:
        inputs: integers [N, P, C]; of spike input, for each sample and step the numbers of the
            values that spike.
        layers: uint32 [N, T, layers, 3]: spike count, checksums of spikes and of potentials.
        logits: int64 [N, outputs], channels last.
    """

    inputs: Array | tuple[list[Array], ...]
    layers: Array
    logits: Array


def record(plan: Plan, inputs: Array, run: ReferenceRun) -> GoldenSamples:
    """Run samples on the reference, one by one.

    Args:
        plan: of the network.
        inputs: [N, *shape], or spikes [T, N, *shape].
        run: the reference.
    """
    axis = plan.graph.input.batch_axis
    most = max(1, _INPUT_LIMIT // max(1, plan.input.size.neurons))
    count = min(inputs.shape[axis], most)
    arranged: list[Array] = []
    listed: list[list[Array]] = []
    layers, logits = [], []
    for number in range(count):
        sample = inputs.take([number], axis=axis)
        found = run(plan.graph, sample)
        if axis == 0:
            arranged.append(_arranged(sample[0]))
        else:
            listed.append(_events(sample[:, 0]))
        logits.append(channels_last(found.logit_sums[0]).reshape(-1))
        layers.append(
            [
                [_figures(target, found, t) for target in plan.populations]
                for t in range(plan.graph.steps)
            ]
        )
    return GoldenSamples(
        inputs=np.stack(arranged) if axis == 0 else tuple(listed),
        layers=np.array(layers, np.int64).reshape(
            count, plan.graph.steps, len(plan.populations), 3
        ),
        logits=np.stack(logits),
    )


def _arranged(sample: Array) -> Array:
    return channels_last(sample.astype(np.int64)).reshape(-1)


def _events(spikes: Array) -> list[Array]:
    """Spikes [T, *shape] as the numbers of the values that spike at each step."""
    return [np.flatnonzero(_arranged(step)) for step in spikes]


def _figures(target: Accumulator, found: ExpectedRun, t: int) -> tuple[int, int, int]:
    """Spike count and checksums of spikes and potentials of a population at a step."""
    name, size = target.node.name, target.size
    spikes = channels_last(found.spikes[name][t, 0]).astype(bool)  # [P, C]
    neurons = np.arange(size.neurons).reshape(spikes.shape)
    order = windows_first(size, target.window)
    fired = neurons[order][spikes[order]]
    return len(fired), checksum(fired + 1), checksum(_arranged(found.potentials[name][t, 0]))


def checksum(values: Array) -> int:
    """h = h * 16777619 + value over all values, modulo 2^32, from 0."""
    powers = np.full(values.size, _FACTOR, np.uint32)
    powers[:1] = 1
    powers = np.multiply.accumulate(powers, dtype=np.uint32)[::-1]
    return int((values.astype(np.int64).astype(np.uint32) * powers).sum(dtype=np.uint32))


def header_text(plan: Plan, golden: GoldenSamples) -> str:
    """The text of golden.h."""
    lines = [
        "/* Samples, and what the network has to compute for them. */",
        "#ifndef ICSNN_GOLDEN_H",
        "#define ICSNN_GOLDEN_H",
        "",
        '#include "network.h"',
        "",
        f"#define GOLDEN_SAMPLES {len(golden.logits)}",
        f"#define GOLDEN_SPIKES {int(golden.layers[..., 0].sum())} /* of all samples and layers */",
        "",
    ]
    if isinstance(golden.inputs, tuple):
        counts = np.array([[len(step) for step in sample] for sample in golden.inputs])
        events = np.concatenate([step for sample in golden.inputs for step in sample])
        lines += _array("uint32_t", "golden_counts", counts, "input spikes of each step")
        if not events.size:  # C has no empty arrays
            events = np.zeros(1, np.int64)
        lines += _array("uint32_t", "golden_events", events, "the spikes; see icsnn_run")
    else:
        lines += _array("icsnn_input", "golden_inputs", golden.inputs, "one sample after another")
    about = "of each sample, step and layer: spikes, checksum of spikes, checksum of potentials"
    if golden.layers.size:
        lines += _array("uint32_t", "golden_layers", golden.layers, about)
    lines += _array("int32_t", "golden_logits", golden.logits, "sums over the steps")
    return "\n".join([*lines, "#endif", ""])


def _array(c_type: str, name: str, values: Array, about: str) -> list[str]:
    suffix = "u" if c_type == "uint32_t" else ""
    rows = list(number_lines(values))
    if suffix:
        rows = [row.replace(",", "u,") for row in rows]
    head = f"static const {c_type} {name}[{values.size}] = {{"
    return [f"/* {about} */", head, *rows, "};", ""]


_TEST = """/* Runs the samples of golden.h and compares every step with the reference simulator:
   spikes and potentials of each population, and the logits. Returns 0 if all are equal. */
#include "golden.h"
#include "inspect.h"
#include "network.h"

#include <stdio.h>

static icsnn_state state;

static int differs(const char *what, int sample, int step, const char *layer)
{
    printf("sample %d, step %d, %s: %s differ\\n", sample + 1, step + 1, layer, what);
    return 1;
}

/* Compare the logits; returns the number of differences. */
static int compare_logits(int sample)
{
    for (int i = 0; i < ICSNN_OUTPUTS; i++) {
        if (state.logits[i] != golden_logits[sample * ICSNN_OUTPUTS + i]) {
            return differs("logits", sample, ICSNN_STEPS - 1, "output");
        }
    }
    return 0;
}
@compare@
int main(void)
{
    int differences = 0;
@declare@
    for (int sample = 0; sample < GOLDEN_SAMPLES; sample++) {
        /* all steps at once, of which the last is compared */
        icsnn_run(&state, @run@);
@last@
        differences += compare_logits(sample);
        /* step by step */
        icsnn_init(&state);
        for (int step = 0; step < ICSNN_STEPS; step++) {
@step@
        }
        differences += compare_logits(sample);
    }
    printf("%d samples, %d steps, %d layers, %lu spikes: %s\\n", GOLDEN_SAMPLES, ICSNN_STEPS,
           ICSNN_LAYERS, (unsigned long)GOLDEN_SPIKES, differences == 0 ? "equal" : "NOT EQUAL");
    return differences == 0 ? 0 : 1;
}
"""

_COMPARE = """
/* Compare a step of all populations; returns the number of differences.
   t: the step among those that were run together. */
static int compare_layers(int sample, int step, int t)
{
    const uint32_t *expected = golden_layers + (sample * ICSNN_STEPS + step) * ICSNN_LAYERS * 3;
    int differences = 0;
    for (int layer = 0; layer < ICSNN_LAYERS; layer++) {
        const char *name = icsnn_layers[layer].name;
        if (icsnn_spike_count(&state, layer, t) != expected[3 * layer] ||
            icsnn_spike_checksum(&state, layer, t) != expected[3 * layer + 1]) {
            differences += differs("spikes", sample, step, name);
        }
        if (icsnn_potential_checksum(&state, layer) != expected[3 * layer + 2]) {
            differences += differs("potentials", sample, step, name);
        }
    }
    return differences;
}
"""


def test_text(plan: Plan) -> str:
    """The text of test_main.c."""
    if plan.input.values is None:
        declare = (
            "    const uint32_t *events = golden_events;\n"
            "    const uint32_t *counts = golden_counts;"
        )
        run = "events, counts"
        step = "            icsnn_step(&state, events, *counts);\n            events += *counts++;"
    else:
        declare, run = "", "golden_inputs + sample * ICSNN_INPUTS"
        step = "            icsnn_step(&state, golden_inputs + sample * ICSNN_INPUTS);"
    if plan.populations:
        step += "\n            differences += compare_layers(sample, step, 0);"
    last = (
        "        differences += compare_layers(sample, ICSNN_STEPS - 1,\n"
        "                                      (ICSNN_STEPS - 1) % ICSNN_TOGETHER);\n"
    )
    return (
        _TEST.replace("@declare@\n", f"{declare}\n" if declare else "")
        .replace("@run@", run)
        .replace("@last@\n", last if plan.populations else "")
        .replace("@step@", step)
        .replace("@compare@", _COMPARE if plan.populations else "")
    )
