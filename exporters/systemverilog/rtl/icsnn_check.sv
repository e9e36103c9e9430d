// For test benches: compares a stream with a file, value by value.
module icsnn_check #(
    parameter int BITS = 1,
    parameter int WORDS = 1,
    parameter FILE = "",
    parameter NAME = ""
) (
    input logic            clock,
    input logic            moves,  // valid and ready
    input logic [BITS-1:0] value
);
    localparam int SHOWN = 5;
    logic [BITS-1:0] expected [0:WORDS-1];
    int compared = 0, different = 0;

    initial $readmemh(FILE, expected);

    always @(posedge clock) if (moves) begin
        compared <= compared + 1;
        if (compared >= WORDS || value !== expected[compared]) begin
            different <= different + 1;
            if (different < SHOWN)
                $display("%s: value %0d is %h, expected %h", NAME, compared, value,
                    expected[compared]);
        end
    end
endmodule
