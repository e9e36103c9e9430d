// Memory with one write port and one read port: the word of an address comes one clock later.
module icsnn_ram #(
    parameter int BITS = 8,
    parameter int WORDS = 1,
    parameter int ADDRESS_BITS = 1
) (
    input  logic                    clock,
    input  logic                    write,
    input  logic [ADDRESS_BITS-1:0] write_address,
    input  logic [BITS-1:0]         write_value,
    input  logic                    read,
    input  logic [ADDRESS_BITS-1:0] read_address,
    output logic [BITS-1:0]         read_value
);
    logic [BITS-1:0] words [0:WORDS-1];

    always_ff @(posedge clock) begin
        if (write) words[write_address] <= write_value;
        if (read) read_value <= words[read_address];
    end
endmodule
