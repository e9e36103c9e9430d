// The sum of several streams and a bias: a residual join, or one connection with its bias.
module icsnn_sum #(
    parameter int INPUTS = 1,
    parameter int NEURONS = 1,
    parameter int BITS = 16,
    parameter int BIAS_BITS = 16,
    parameter int BIASES = 1,
    parameter BIAS_FILE = ""
) (
    input  logic                   clock,
    input  logic                   reset,
    input  logic [INPUTS-1:0]      in_valid,
    output logic [INPUTS-1:0]      in_ready,
    input  logic [INPUTS*BITS-1:0] in_value,
    output logic                   out_valid,
    input  logic                   out_ready,
    output logic signed [BITS-1:0] out_value
);
    logic accept;
    logic [BITS-1:0] total, kept;
    logic signed [BIAS_BITS-1:0] bias;

    assign accept = &in_valid && !out_valid;
    assign in_ready = {INPUTS{accept}};
    assign out_value = kept + BITS'(bias);

    integer k;
    always @* begin
        total = '0;
        for (k = 0; k < INPUTS; k = k + 1) total = total + in_value[k*BITS +: BITS];
    end

    icsnn_parameter #(
        .BITS(BIAS_BITS), .WORDS(BIASES), .NEURONS(NEURONS), .FILE(BIAS_FILE)
    ) biases (
        .clock(clock), .reset(reset), .next(accept), .value(bias)
    );

    always_ff @(posedge clock) begin
        if (reset) out_valid <= 1'b0;
        else if (accept) begin
            kept <= total;
            out_valid <= 1'b1;
        end else if (out_ready) out_valid <= 1'b0;
    end
endmodule
