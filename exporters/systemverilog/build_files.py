"""Makefile and README.md of the folder."""

from __future__ import annotations

import math

from icsnn_deploy.exporters.systemverilog.plan import Design, Instance
from icsnn_deploy.graph.inputs import logit_unit
from icsnn_deploy.version import __version__

MAKEFILE = """# make iverilog, make verilator: simulate the golden samples; make yosys: synthesize.
MODULES := $(filter-out icsnn_check.sv,$(wildcard icsnn_*.sv)) network.sv
BENCH := icsnn_check.sv network_tb.sv
# Of yosys: xilinx or ice40.
FAMILY ?= xilinx

iverilog: build/network.vvp
\tvvp -n $<

build/network.vvp: $(MODULES) $(BENCH)
\tmkdir -p build
\tiverilog -g2012 -Wall -Wno-timescale -s network_tb -o $@ $^

verilator: build/verilated/Vnetwork_tb
\t./$<

build/verilated/Vnetwork_tb: $(MODULES) $(BENCH)
\tmkdir -p build
\tverilator --binary -O3 -Wall -Wno-UNUSEDSIGNAL -Wno-DECLFILENAME -Wno-TIMESCALEMOD \\
\t  --top-module network_tb --Mdir build/verilated $^

yosys: $(MODULES)
\tmkdir -p build
\tyosys -q -l build/yosys.log -p "read_verilog -defer -sv $^; \\
\t  synth_$(FAMILY) -flatten -top icsnn_network; \\
\t  tee -o build/cells_$(FAMILY).txt stat"
\tcat build/cells_$(FAMILY).txt

clean:
\trm -rf build

.PHONY: iverilog verilator yosys clean
"""

_README = """# A spiking network in SystemVerilog

Network `{hash}`, T = {steps} steps, written by icsnn-deploy {version}. It computes with
integers only and gives the spikes of the reference simulator, bit for bit.

    make iverilog     simulate the golden samples with Icarus Verilog: {samples}
    make verilator    the same with Verilator
    make yosys        synthesize (FAMILY=xilinx or ice40); the cells are listed in build/

The simulation compares every spike of every layer and every sum of the readout; it ends with
`EQUAL`, or with the first differences and an error.

| file | contents |
|---|---|
| `network.sv` | `icsnn_network`, which connects the instances below |
| `icsnn_*.sv` | the modules, the same for every network |
| `network_tb.sv`, `icsnn_check.sv` | the test bench |
| `*.weight.hex`, `*.bias.hex`, `*.threshold.hex`, `*.v_init.hex`, `*.v_reset.hex` | parameters |
| `*.values.hex`, `*.spikes.hex`, `*.sum.hex` | golden samples: input, spikes, readout |

The files of `$readmemh` are read from the folder in which a tool runs. They hold one word per line
in two's complement, in the order of the addresses, the last axis fastest: weights
[output channel][input channel][ky][kx], spikes [sample][step][channel][y][x].

## Streams

All connections are streams of maps, value after value in the order [channel][y][x], with valid and
ready: a value moves in a clock in which both are high. `reset` is synchronous.

- **in**: {input_text}
- **out**: the sums of the readout's current over the steps after {start}, {outputs} signed
  values of {output_bits} bits per sample, `out_last` with the last one. Divided by {counted} they
  are the network's output{unit}.
{fewer}
A connection takes a whole map before it computes, and takes the next one meanwhile. So the layers
work at the same time, each on a step of its own, and a step takes as long as the slowest one.

| module | what it does |
|---|---|
| `icsnn_conv` | convolution, one weight per clock |
| `icsnn_linear`, `icsnn_scale` | the same for fully connected and diagonal connections |
| `icsnn_sum` | sum of the connections of a layer, and its bias |
| `icsnn_if` | integrate-and-fire neurons; potentials in a memory |
| `icsnn_hold` | gives a map once or T times: constant currents, shortcuts that wait |
| `icsnn_readout` | sums over the steps |
| `icsnn_fork` | one stream for several readers |
| `icsnn_rom`, `icsnn_ram`, `icsnn_parameter` | memories with one clock of latency; block RAM |

## Instances

`taps` are the clocks that a connection computes for one map. The slowest one bounds the clocks of
a step.

| instance | module | memory, bits | taps |
|---|---|---:|---:|
{rows}
| all | | {bits:,} | |
"""

_FEWER = """
The golden samples are of the first {steps} steps only, and so are their sums: the test bench sets
the parameter `STEPS` of `icsnn_network` to {steps}. More steps than the network's need wider
registers.
"""


def readme_text(design: Design, counts: tuple[int, int]) -> str:
    """The text of README.md.

    Args:
        design: the network.
        counts: samples of the test bench, and time steps of each.
    """
    graph, start = design.graph, design.input
    samples, steps = counts
    first = "" if steps == graph.steps else f" of {steps:,} steps"
    fewer = "" if steps == graph.steps else _FEWER.format(steps=steps)
    sizes = " x ".join(map(str, graph.input.shape))
    text = (
        f"one map of {sizes} spikes of 0 or 1 per step, {graph.steps} maps per sample."
        if graph.input.is_timed
        else f"one map of {sizes} values of type {graph.input.dtype} ({start.bits} bits) per "
        f"sample; 1 stands for {graph.input.unit:g}."
    )
    unit = logit_unit(graph)
    return _README.format(
        hash=graph.hash()[:16],
        steps=graph.steps,
        version=__version__,
        samples=f"{samples} sample{'' if samples == 1 else 's'}{first}",
        input_text=text,
        start=graph.readout_start,
        fewer=fewer,
        outputs=design.instances[-1].sizes["NEURONS"],
        output_bits=design.output.bits,
        counted=graph.steps - graph.readout_start,
        unit=f", in units of {unit:g}" if isinstance(unit, float) else "",
        rows="\n".join(_row(instance) for instance in design.instances),
        bits=sum(memory_bits(instance) for instance in design.instances),
    )


def memory_bits(instance: Instance) -> int:
    """Bits of the memories of an instance: parameters, and its map, potentials or sums."""
    sizes = instance.sizes
    total = sum(memory.values.size * memory.bits for memory in instance.memories)
    match instance.module:
        case "icsnn_conv":
            total += 2 * sizes["C_IN"] * sizes["H_IN"] * sizes["W_IN"] * sizes["X_BITS"]
        case "icsnn_linear":
            total += 2 * sizes["INPUTS"] * sizes["X_BITS"]
        case "icsnn_scale":
            total += 2 * sizes["CHANNELS"] * sizes["PIXELS"] * sizes["X_BITS"]
        case "icsnn_if":
            total += sizes["NEURONS"] * sizes["V_BITS"]
        case "icsnn_hold":
            total += sizes["NEURONS"] * sizes["BITS"]
        case "icsnn_readout":
            total += sizes["NEURONS"] * sizes["SUM_BITS"]
    return total


def taps(instance: Instance) -> int:
    """Clocks in which a connection computes one map; 0 for other instances."""
    if instance.module not in ("icsnn_conv", "icsnn_linear", "icsnn_scale"):
        return 0
    (weight,) = instance.memories
    pixels = math.prod(instance.sizes.get(name, 1) for name in ("H_OUT", "W_OUT", "PIXELS"))
    return int(weight.values.size) * pixels


def _row(instance: Instance) -> str:
    clocks = f"{taps(instance):,}" if taps(instance) else ""
    return f"| `{instance.name}` | `{instance.module}` | {memory_bits(instance):,} | {clocks} |"
