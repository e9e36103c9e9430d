// Read-only memory: the word of an address comes one clock later.
module icsnn_rom #(
    parameter int BITS = 8,
    parameter int WORDS = 1,
    parameter int ADDRESS_BITS = 1,
    parameter FILE = ""  // of $readmemh
) (
    input  logic                    clock,
    input  logic                    enable,
    input  logic [ADDRESS_BITS-1:0] address,
    output logic [BITS-1:0]         value
);
    logic [BITS-1:0] words [0:WORDS-1];

    initial $readmemh(FILE, words);

    always_ff @(posedge clock) if (enable) value <= words[address];
endmodule
