"""Makefile, CMakeLists.txt and README.md of the program."""

from __future__ import annotations

from icsnn_deploy.exporters.c.memory import Memory, table_lines
from icsnn_deploy.exporters.c.plan import Plan
from icsnn_deploy.graph.inputs import logit_unit

MAKEFILE = """# make test: build the program for this machine and run its golden samples.
CC ?= cc
CFLAGS ?= -O3
SIZE ?= size
ICSNN_CFLAGS = -std=c99 -pedantic -Wall -Wextra -Wconversion

test: golden_test
\t./golden_test

golden_test: network.o weights.o inspect.o test_main.o
\t$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^

%.o: %.c network.h weights.h inspect.h golden.h
\t$(CC) $(ICSNN_CFLAGS) $(CFLAGS) -c -o $@ $<

# Bytes of code and constants: make CC=arm-none-eabi-gcc CFLAGS="-Os -mcpu=cortex-m4" size
size: network.o weights.o
\t$(SIZE) network.o weights.o

clean:
\trm -f golden_test network.o weights.o inspect.o test_main.o

.PHONY: test size clean
"""

CMAKE = """cmake_minimum_required(VERSION 3.13)
project(icsnn_network C)

set(CMAKE_C_STANDARD 99)

# The network, for a product: link against this and include network.h.
add_library(icsnn_network STATIC network.c weights.c)
target_include_directories(icsnn_network PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})

# The golden samples, for this machine: ctest
enable_testing()
add_executable(golden_test test_main.c inspect.c)
target_link_libraries(golden_test PRIVATE icsnn_network)
add_test(NAME golden COMMAND golden_test)
"""

_README = """# A spiking network in C99

Network `{hash}`, T = {steps} steps, written by icsnn-deploy. It computes with integers
only and gives the spikes of the reference simulator, bit for bit. No heap, no floating point, no
global variables; of the C library only `memset` and `memcpy`.

| file | contents |
|---|---|
| `network.h` | the interface: `icsnn_init`, `icsnn_step`, `icsnn_steps`, `icsnn_run`; your state |
| `network.c` | the network: one function per layer |
| `weights.h`, `weights.c` | constants: weights, biases, thresholds, initial potentials |
| `inspect.h`, `inspect.c` | spikes and potentials of each population; for tests only |
| `golden.h`, `test_main.c` | samples with what must come out, and the program that compares |
| `Makefile`, `CMakeLists.txt` | `make test` builds for this machine and runs the samples |

A product needs `network.*` and `weights.*`:

```c
#include "network.h"

static icsnn_state state;

void classify({parameter})
{{
    icsnn_run(&state, {arguments});
    /* state.logits[i], i < ICSNN_OUTPUTS; the largest is the class */
}}
```

## Input and output

{input_text}

`logits` are int32 sums of the output's current over the steps after {start}, [{output}] (channels
last). Divided by {counted} they are the network's output{unit}. For early exit call `icsnn_init`
once, and `icsnn_step` until the logits are clear enough.

## Memory

Exact for constants and state; code and stack (under one kilobyte) come on top. `make size` compiles
with `CC` and `CFLAGS` and prints the code's size, "text" of `network.o`: some kilobytes with `-Os`
for a microcontroller.

{table}

With `ICSNN_TOGETHER` {together} the state takes {ram_together:,} bytes: `icsnn_run` runs
{together} steps of a layer before the next layer then, and loads weights once. `ICSNN_HOST` sets
it, and adds some lines of the cache.

## How it runs

A layer keeps the spikes of a step as lists: how many spikes each pixel has, and their channels. A
connection walks through the list of its source and adds the weights of the neurons that spiked; the
others cost nothing. Time therefore grows with the number of spikes.

With `-O2` and `-O3` each layer is compiled with its sizes as constants, which lets the compiler use
vector instructions and takes more code; with `-Os` layers of one kind share a function.
"""


def readme_text(plan: Plan, memory: Memory) -> str:
    """The text of README.md."""
    graph, size = plan.graph, plan.input.size
    if plan.input.values is None:
        parameter = "const uint32_t *events, const uint32_t counts[ICSNN_STEPS]"
        arguments = "events, counts"
        text = (
            f"The input is a list of spikes per step. A spike is a number below {size.neurons}:\n"
            f"`(y * {size.width} + x) * {size.channels} + channel`, in any order."
        )
    else:
        parameter, arguments = "const icsnn_input *sample", "sample"
        text = (
            f"The input is one sample of {size.neurons} values, `{plan.input.values.c_type}`, "
            f"[{size}]\n(height x width x channels): `sample[(y * {size.width} + x) * "
            f"{size.channels} + channel]`. 1 stands for {graph.input.unit:g}."
        )
    unit = logit_unit(graph)
    return _README.format(
        hash=graph.hash()[:16],
        steps=graph.steps,
        parameter=parameter,
        arguments=arguments,
        input_text=text,
        start=graph.readout_start,
        output=str(plan.output.size),
        counted=graph.steps - graph.readout_start,
        unit=f", in units of {unit:g}" if isinstance(unit, float) else "",
        table="\n".join(table_lines(memory)),
        together=memory.steps_together,
        ram_together=memory.ram_together,
    )
