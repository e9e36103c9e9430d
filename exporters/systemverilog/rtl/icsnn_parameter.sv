// A parameter of a layer, neuron after neuron: one word per neuron, per channel or per layer.
//
// `next` for one clock: one clock later `value` is that of the next neuron. After the last neuron
// the first one follows.
module icsnn_parameter #(
    parameter int BITS = 16,
    parameter int WORDS = 1,
    parameter int NEURONS = 1,  // a multiple of WORDS
    parameter FILE = ""
) (
    input  logic            clock,
    input  logic            reset,
    input  logic            next,
    output logic [BITS-1:0] value
);
    localparam int REPEAT = NEURONS / WORDS;
    localparam int ADDRESS_BITS = WORDS > 1 ? $clog2(WORDS) : 1;
    localparam int REPEAT_BITS = REPEAT > 1 ? $clog2(REPEAT) : 1;

    logic [ADDRESS_BITS-1:0] address;
    logic [REPEAT_BITS-1:0] repeated;

    icsnn_rom #(.BITS(BITS), .WORDS(WORDS), .ADDRESS_BITS(ADDRESS_BITS), .FILE(FILE)) rom (
        .clock(clock), .enable(next), .address(address), .value(value)
    );

    always_ff @(posedge clock) begin
        if (reset) begin
            address <= '0;
            repeated <= '0;
        end else if (next) begin
            repeated <= repeated + 1'b1;
            if (repeated == REPEAT_BITS'(REPEAT - 1)) begin
                repeated <= '0;
                address <= address == ADDRESS_BITS'(WORDS - 1) ? '0 : address + 1'b1;
            end
        end
    end
endmodule
