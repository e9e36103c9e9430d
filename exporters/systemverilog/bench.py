"""network_tb.sv: the test bench, which compares every layer with golden spikes."""

from __future__ import annotations

from icsnn_deploy.exporters.systemverilog.build_files import taps
from icsnn_deploy.exporters.systemverilog.plan import Design
from icsnn_deploy.exporters.systemverilog.top import TOP
from icsnn_deploy.exporters.testvectors.memories import Memory

_TEXT = """// Runs samples and compares every spike of every layer, and the sums of the readout.
`timescale 1ns / 1ps
module network_tb;
    localparam int SAMPLES = @samples@;
    localparam int IN_BITS = @in_bits@;
    localparam int IN_WORDS = @in_words@;
    localparam int OUT_BITS = @out_bits@;
    localparam int OUT_WORDS = @out_words@;
    localparam longint PATIENCE = 64'd@patience@;  // clocks without any value that moves

    logic clock = 0, reset = 1;
    logic in_valid, in_ready, out_valid, out_last;
    logic [IN_BITS-1:0] in_value;
    logic signed [OUT_BITS-1:0] out_value;
    logic [IN_BITS-1:0] inputs [0:IN_WORDS-1];
    int sent = 0, received = 0, samples_done = 0;
    longint cycles = 0, first_output = 0, quiet = 0;
    int compared, different;

    @top@ #(.STEPS(@steps@)) dut (
        .clock(clock), .reset(reset),
        .in_valid(in_valid), .in_ready(in_ready), .in_value(in_value),
        .out_valid(out_valid), .out_ready(1'b1), .out_value(out_value), .out_last(out_last)
    );

@checks@
    icsnn_check #(
        .BITS(OUT_BITS), .WORDS(OUT_WORDS), .FILE("@out_file@"), .NAME("readout")
    ) check_readout (
        .clock(clock), .moves(out_valid && !reset), .value(out_value)
    );

    initial $readmemh("@in_file@", inputs);
    initial forever #5 clock = !clock;

    // The inputs, as fast as they are taken.
    always @(negedge clock) begin
        in_valid <= !reset && sent < IN_WORDS;
        in_value <= sent < IN_WORDS ? inputs[sent] : '0;
    end

    always @(posedge clock) begin
        cycles <= cycles + 1;
        quiet <= quiet + 1;
        if (in_valid && in_ready && !reset) begin
            sent <= sent + 1;
            quiet <= 0;
        end
@activity@
        if (out_valid && !reset) begin
            quiet <= 0;
            received <= received + 1;
            if (out_last) begin
                samples_done <= samples_done + 1;
                if (samples_done == 0) first_output <= cycles;
            end
        end
    end

    initial begin
        repeat (3) @(negedge clock);
        reset = 0;
        while (received < OUT_WORDS && quiet < PATIENCE) @(negedge clock);
        @(negedge clock);
        compared = 0;
        different = 0;
@totals@
        $display("%0d samples, %0d clocks, the first sample after %0d", samples_done, cycles,
            first_output);
        $display("all layers: %0d spikes compared, %0d differ", compared, different);
        $display("readout: %0d sums compared, %0d differ", check_readout.compared,
            check_readout.different);
        if (quiet >= PATIENCE) $display("no value moved for %0d clocks", quiet);
        if (samples_done != SAMPLES || compared != @expected@ || different != 0
            || check_readout.compared != OUT_WORDS || check_readout.different != 0)
            $fatal(1, "NOT EQUAL");
        $display("EQUAL");
        $finish;
    end
endmodule
"""


def bench_text(
    design: Design, counts: tuple[int, int], records: dict[tuple[str, str], Memory]
) -> str:
    """The text of network_tb.sv.

    Args:
        design: the network.
        counts: samples, and time steps of each: those of the network, or the first of very many.
        records: files of inputs, spikes and sums, by node and role.
    """
    graph = design.graph
    names = {node: stream.name for node, stream in design.populations.items()}
    moving = [*names.values(), design.instances[-1].sources[0].name]
    spikes = {node: records[node, "spikes"] for node in names}
    given = records[graph.input.name, "spikes" if graph.input.is_timed else "values"]
    sums = records[graph.output.name, "sum"]
    values = {
        "samples": counts[0],
        "steps": counts[1],
        "in_bits": design.input.bits,
        "in_words": given.words,
        "in_file": given.file,
        "out_bits": design.output.bits,
        "out_words": sums.words,
        "out_file": sums.file,
        "patience": patience(design),
        "top": TOP,
        "expected": sum(memory.words for memory in spikes.values()),
        "checks": "".join(_check(names[node], memory) for node, memory in spikes.items()),
        "activity": "\n".join(
            f"        if (dut.{name}_valid && dut.{name}_ready) quiet <= 0;" for name in moving
        ),
        "totals": "\n".join(_total(name) for name in names.values()),
    }
    text = _TEXT
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    return text


def patience(design: Design) -> int:
    """Clocks within which a spike or a sum moves: those of all instances for one map, twice."""
    neurons = sum(each.sizes.get("NEURONS", 1) for each in design.instances)
    return 2 * sum(map(taps, design.instances)) + 20 * neurons + 1000


def _check(stream: str, memory: Memory) -> str:
    return (
        "    icsnn_check #(\n"
        f'        .BITS(1), .WORDS({memory.words}), .FILE("{memory.file}"), .NAME("{stream}")\n'
        f"    ) check_{stream} (\n"
        f"        .clock(clock), .moves(dut.{stream}_valid && dut.{stream}_ready && !reset),\n"
        f"        .value(dut.{stream}_value)\n"
        "    );\n"
    )


def _total(stream: str) -> str:
    return (
        f"        compared += check_{stream}.compared;\n"
        f"        different += check_{stream}.different;\n"
        f'        $display("{stream}: %0d spikes compared, %0d differ", check_{stream}.compared,\n'
        f"            check_{stream}.different);"
    )
