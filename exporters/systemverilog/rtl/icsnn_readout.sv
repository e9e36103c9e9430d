// The readout: sums the current over the steps after START, and gives the sums after the last step.
module icsnn_readout #(
    parameter int NEURONS = 1,
    parameter int STEPS = 1,
    parameter int START = 0,
    parameter int CURRENT_BITS = 16,
    parameter int SUM_BITS = 20
) (
    input  logic                           clock,
    input  logic                           reset,
    input  logic                           in_valid,
    output logic                           in_ready,
    input  logic signed [CURRENT_BITS-1:0] in_value,
    output logic                           out_valid,
    input  logic                           out_ready,
    output logic signed [SUM_BITS-1:0]     out_value,
    output logic                           out_last   // with the last sum of a sample
);
    localparam int NEURON_BITS = NEURONS > 1 ? $clog2(NEURONS) : 1;
    localparam int STEP_BITS = $clog2(STEPS + 1);

    logic busy, accept, done, last_step;
    logic [NEURON_BITS-1:0] neuron;
    logic [STEP_BITS-1:0] step;
    logic signed [CURRENT_BITS-1:0] current;
    logic signed [SUM_BITS-1:0] kept;

    assign in_ready = !busy;
    assign accept = in_valid && in_ready;
    assign last_step = step == STEP_BITS'(STEPS - 1);
    assign out_valid = busy && last_step;
    assign out_last = neuron == NEURON_BITS'(NEURONS - 1);
    assign done = busy && (out_ready || !last_step);
    assign out_value = step <= STEP_BITS'(START) ? SUM_BITS'(current) : kept + SUM_BITS'(current);

    icsnn_ram #(.BITS(SUM_BITS), .WORDS(NEURONS), .ADDRESS_BITS(NEURON_BITS)) sums (
        .clock(clock),
        .write(done), .write_address(neuron), .write_value(out_value),
        .read(accept), .read_address(neuron), .read_value(kept)
    );

    always_ff @(posedge clock) begin
        if (reset) begin
            busy <= 1'b0;
            neuron <= '0;
            step <= '0;
        end else if (accept) begin
            current <= in_value;
            busy <= 1'b1;
        end else if (done) begin
            busy <= 1'b0;
            neuron <= out_last ? '0 : neuron + 1'b1;
            if (out_last) step <= last_step ? '0 : step + 1'b1;
        end
    end
endmodule
