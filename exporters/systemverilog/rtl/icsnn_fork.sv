// One stream for several readers: a value moves when all of them are ready.
module icsnn_fork #(
    parameter int OUTPUTS = 2
) (
    input  logic               in_valid,
    output logic               in_ready,
    output logic [OUTPUTS-1:0] out_valid,
    input  logic [OUTPUTS-1:0] out_ready
);
    assign in_ready = &out_ready;
    assign out_valid = {OUTPUTS{in_valid && in_ready}};
endmodule
