// Takes a map and gives it STEPS times: the current of an input that does not change, or with
// STEPS = 1 a map of a shortcut, while the other branch computes.
module icsnn_hold #(
    parameter int NEURONS = 1,
    parameter int BITS = 16,
    parameter int STEPS = 1
) (
    input  logic            clock,
    input  logic            reset,
    input  logic            in_valid,
    output logic            in_ready,
    input  logic [BITS-1:0] in_value,
    output logic            out_valid,
    input  logic            out_ready,
    output logic [BITS-1:0] out_value
);
    localparam int NEURON_BITS = NEURONS > 1 ? $clog2(NEURONS) : 1;
    localparam int STEP_BITS = STEPS > 1 ? $clog2(STEPS) : 1;

    logic loading, advance, last;
    logic [NEURON_BITS-1:0] neuron;
    logic [STEP_BITS-1:0] step;

    assign in_ready = loading;
    assign advance = !out_valid || out_ready;
    assign last = neuron == NEURON_BITS'(NEURONS - 1);

    icsnn_ram #(.BITS(BITS), .WORDS(NEURONS), .ADDRESS_BITS(NEURON_BITS)) map (
        .clock(clock),
        .write(loading && in_valid), .write_address(neuron), .write_value(in_value),
        .read(advance), .read_address(neuron), .read_value(out_value)
    );

    always_ff @(posedge clock) begin
        if (reset) begin
            loading <= 1'b1;
            out_valid <= 1'b0;
            neuron <= '0;
            step <= '0;
        end else begin
            if (advance) out_valid <= !loading;
            if (loading ? in_valid : advance) begin
                neuron <= last ? '0 : neuron + 1'b1;
                if (last && loading) loading <= 1'b0;
                if (last && !loading) begin
                    step <= step + 1'b1;
                    if (step == STEP_BITS'(STEPS - 1)) begin
                        step <= '0;
                        loading <= 1'b1;
                    end
                end
            end
        end
    end
endmodule
