// A diagonal connection, such as an identity shortcut: one weight per channel.
//
// With PIXELS = 1 and a channel per neuron it has one weight per neuron. The map is kept until it
// is taken, so that the other branch of a residual block can compute meanwhile.
module icsnn_scale #(
    parameter int CHANNELS = 1,
    parameter int PIXELS = 1,
    parameter int X_BITS = 1,
    parameter int X_SIGNED = 0,
    parameter int WEIGHT_BITS = 8,
    parameter int OUT_BITS = 16,
    parameter WEIGHT_FILE = ""
) (
    input  logic                       clock,
    input  logic                       reset,
    input  logic                       in_valid,
    output logic                       in_ready,
    input  logic [X_BITS-1:0]          in_value,
    output logic                       out_valid,
    input  logic                       out_ready,
    output logic signed [OUT_BITS-1:0] out_value
);
    icsnn_conv #(
        .C_IN(CHANNELS), .W_IN(PIXELS), .C_OUT(CHANNELS), .W_OUT(PIXELS), .GROUPS(CHANNELS),
        .X_BITS(X_BITS), .X_SIGNED(X_SIGNED),
        .WEIGHT_BITS(WEIGHT_BITS), .OUT_BITS(OUT_BITS), .WEIGHT_FILE(WEIGHT_FILE)
    ) conv (
        .clock(clock), .reset(reset),
        .in_valid(in_valid), .in_ready(in_ready), .in_value(in_value),
        .out_valid(out_valid), .out_ready(out_ready), .out_value(out_value)
    );
endmodule
