"""golden.h and test_main.c: what the program has to compute, and the program that checks it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from icsnn_deploy.exporters.c.arrange import windows_first
from icsnn_deploy.exporters.c.parameters import number_lines
from icsnn_deploy.exporters.c.plan import Accumulator, Plan
from icsnn_deploy.exporters.expected import ExpectedRun, ReferenceRun
from icsnn_deploy.graph.graph import Graph
from icsnn_deploy.graph.neuron import Array

_FACTOR = 16777619
"""Of the checksum h = h * factor + value, modulo 2^32: the prime of FNV."""

_AT_ONCE = 2**20
"""Neurons times steps times samples that run at once."""

_VALUES_AT_ONCE = 2**20
"""Values that checksums are taken of at once."""

_INPUT_LIMIT = 2**18
"""Input values in golden.h; the first sample is always there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GoldenSamples:
    """Samples, and what every step of them gives.

    Args:
        steps: steps of each, those of the network or the first of very many.
        inputs: integers [N, neurons], channels last; of spike input, for each sample and step the
            numbers of the values that spike.
        layers: uint32 [N, T, layers, 3]: spike count, checksums of spikes and of potentials.
        logits: int64 [N, outputs], channels last.
    """

    steps: int
    inputs: Array | tuple[list[Array], ...]
    layers: Array
    logits: Array


def record(plan: Plan, tested: Graph, inputs: Array, run: ReferenceRun) -> GoldenSamples:
    """Run samples on the reference.

    Args:
        plan: of the network.
        tested: the network with as many steps as the test runs.
        inputs: [N, *shape], or spikes [T, N, *shape].
        run: the reference.
    """
    axis = tested.input.batch_axis
    most = max(1, _INPUT_LIMIT // max(1, plan.input.size.neurons))
    count = min(inputs.shape[axis], most)
    neurons = sum(target.size.neurons for target in plan.populations)
    at_once = max(1, _AT_ONCE // (tested.steps * max(1, neurons)))
    layers, logits = [], []
    for first in range(0, count, at_once):
        numbers = range(first, min(first + at_once, count))
        found = run(tested, inputs.take(numbers, axis=axis))
        logits.append(_arranged(found.logit_sums))
        figures = [_figures(target, found) for target in plan.populations]
        empty = np.zeros((tested.steps, len(numbers), 0, 3), np.int64)
        layers.append(np.stack(figures, axis=2) if figures else empty)
    given = inputs.take(range(count), axis=axis)
    return GoldenSamples(
        steps=tested.steps,
        inputs=_arranged(given) if axis == 0 else tuple(map(_events, given.swapaxes(0, 1))),
        layers=np.concatenate(layers, axis=1).swapaxes(0, 1),
        logits=np.concatenate(logits),
    )


def _rows(values: Array) -> Array:
    """[T, N, *shape] -> [T * N, *shape]."""
    return values.reshape(-1, *values.shape[2:])


def _events(spikes: Array) -> list[Array]:
    """Spikes [T, C, ...] as the numbers of the values that spike at each step, channels last."""
    return [np.flatnonzero(np.moveaxis(step, 0, -1)) for step in spikes]


def _arranged(values: Array) -> Array:
    """[N, C, ...] -> [N, neurons], channels last."""
    return np.moveaxis(values, 1, -1).reshape(len(values), -1).astype(np.int64)


def _figures(target: Accumulator, found: ExpectedRun) -> Array:
    """Spike count and checksums of spikes and potentials of a population, [T, N, 3]."""
    name, size = target.node.name, target.size
    spikes, potentials = _rows(found.spikes[name]), _rows(found.potentials[name])
    neurons = np.arange(size.neurons).reshape(size.pixels, size.channels)
    numbers = neurons[windows_first(size, target.window)].reshape(-1)  # as the program lists them
    figures = np.zeros((len(spikes), 3), np.int64)
    at_once = max(1, _VALUES_AT_ONCE // size.neurons)
    for first in range(0, len(spikes), at_once):
        rows = slice(first, first + at_once)
        fired = _arranged(spikes[rows])[:, numbers] != 0
        figures[rows, 0] = fired.sum(axis=1)
        figures[rows, 1] = checksums(numbers + 1, fired)
        figures[rows, 2] = checksums(_arranged(potentials[rows]))
    return figures.reshape(*found.spikes[name].shape[:2], 3)


def checksums(values: Array, taken: Array | None = None) -> Array:
    """h = h * 16777619 + value over the values of a row, modulo 2^32, from 0.

    Args:
        values: integers [N, values], or [values] for all rows.
        taken: of [N, values], whether the value is one of the row's; None: all are.
    """
    powers = np.full(values.shape[-1] + 1, _FACTOR, np.uint32)
    powers[0] = 1
    powers = np.multiply.accumulate(powers, dtype=np.uint32)
    left = np.arange(values.shape[-1])[::-1]  # values of the row after this one
    terms = values.astype(np.int64).astype(np.uint32)
    if taken is not None:
        left = taken[:, ::-1].cumsum(axis=1)[:, ::-1] - taken
        terms = terms * taken
    found: Array = (terms * powers[left]).sum(axis=-1, dtype=np.uint32)
    return found


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
        f"#define GOLDEN_STEPS {golden.steps} /* of ICSNN_STEPS, from the first on */",
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
            return differs("logits", sample, GOLDEN_STEPS - 1, "output");
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
        /* @how@, of which the last is compared */
@together@
@last@
        differences += compare_logits(sample);
        /* step by step */
        icsnn_init(&state);
        for (int step = 0; step < GOLDEN_STEPS; step++) {
@step@
        }
        differences += compare_logits(sample);
    }
    printf("%d samples, %d steps, %d layers, %lu spikes: %s\\n", GOLDEN_SAMPLES, GOLDEN_STEPS,
           ICSNN_LAYERS, (unsigned long)GOLDEN_SPIKES, differences == 0 ? "equal" : "NOT EQUAL");
    return differences == 0 ? 0 : 1;
}
"""

_SOME = """        icsnn_init(&state);
        while (state.step < GOLDEN_STEPS) {
            icsnn_steps(&state, @run@, GOLDEN_STEPS - state.step);
        }"""

_SOME_EVENTS = """        icsnn_init(&state);
        for (const uint32_t *next = events; state.step < GOLDEN_STEPS;) {
            const int32_t first = state.step;
            icsnn_steps(&state, next, counts + first, GOLDEN_STEPS - first);
            for (int32_t t = first; t < state.step; t++) {
                next += counts[t];
            }
        }"""

_COMPARE = """
/* Compare a step of all populations; returns the number of differences.
   t: the step among those that were run together. */
static int compare_layers(int sample, int step, int t)
{
    const uint32_t *expected = golden_layers + (sample * GOLDEN_STEPS + step) * ICSNN_LAYERS * 3;
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


def test_text(plan: Plan, steps: int) -> str:
    """The text of test_main.c.

    Args:
        plan: of the network.
        steps: steps of each sample.
    """
    is_whole = steps == plan.graph.steps
    if plan.input.values is None:
        declare = (
            "    const uint32_t *events = golden_events;\n"
            "    const uint32_t *counts = golden_counts;"
        )
        run = "events, counts"
        together = _SOME_EVENTS
        step = "            icsnn_step(&state, events, *counts);\n            events += *counts++;"
    else:
        declare, run = "", "golden_inputs + sample * ICSNN_INPUTS"
        together = _SOME.replace("@run@", run)
        step = "            icsnn_step(&state, golden_inputs + sample * ICSNN_INPUTS);"
    if plan.populations:
        step += "\n            differences += compare_layers(sample, step, 0);"
    last = (
        "        differences += compare_layers(sample, GOLDEN_STEPS - 1,\n"
        "                                      (GOLDEN_STEPS - 1) % ICSNN_TOGETHER);\n"
    )
    return (
        _TEST.replace("@declare@\n", f"{declare}\n" if declare else "")
        .replace("@how@", "all steps at once" if is_whole else "several steps at once")
        .replace("@together@", f"        icsnn_run(&state, {run});" if is_whole else together)
        .replace("@last@\n", last if plan.populations else "")
        .replace("@step@", step)
        .replace("@compare@", _COMPARE if plan.populations else "")
    )
