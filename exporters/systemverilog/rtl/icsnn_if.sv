// A population of integrate-and-fire neurons: currents in, spikes out, neuron after neuron.
//
//     u    = v[t-1] + I              v[0] = v_init
//     s[t] = u >= v_threshold
//     v[t] = s[t] ? u - v_threshold : u        (HARD_RESET: v_reset in place of u - v_threshold)
//
// After STEPS steps the next sample begins, again from v_init.
module icsnn_if #(
    parameter int NEURONS = 1,
    parameter int STEPS = 1,
    parameter int CURRENT_BITS = 16,
    parameter int V_BITS = 20,        // of u and v
    parameter int THRESHOLD_BITS = 16,
    parameter int THRESHOLDS = 1,
    parameter int INIT_BITS = 16,
    parameter int INITS = 1,
    parameter int HARD_RESET = 0,
    parameter int RESET_BITS = 16,
    parameter int RESETS = 1,
    parameter THRESHOLD_FILE = "",
    parameter INIT_FILE = "",
    parameter RESET_FILE = ""
) (
    input  logic                           clock,
    input  logic                           reset,
    input  logic                           in_valid,
    output logic                           in_ready,
    input  logic signed [CURRENT_BITS-1:0] in_value,
    output logic                           out_valid,
    input  logic                           out_ready,
    output logic                           out_value
);
    localparam int NEURON_BITS = NEURONS > 1 ? $clog2(NEURONS) : 1;
    localparam int STEP_BITS = STEPS > 1 ? $clog2(STEPS) : 1;
    // A threshold may be beyond all that u can reach.
    localparam int COMPARE_BITS = V_BITS > THRESHOLD_BITS ? V_BITS : THRESHOLD_BITS;

    logic accept, done;
    logic [NEURON_BITS-1:0] neuron;
    logic [STEP_BITS-1:0] step;
    logic signed [CURRENT_BITS-1:0] current;
    logic signed [THRESHOLD_BITS-1:0] threshold;
    logic signed [INIT_BITS-1:0] v_init;
    logic signed [V_BITS-1:0] old_v, kept_v, u, v_after_spike, new_v;

    assign in_ready = !out_valid;
    assign accept = in_valid && in_ready;
    assign done = out_valid && out_ready;

    icsnn_ram #(.BITS(V_BITS), .WORDS(NEURONS), .ADDRESS_BITS(NEURON_BITS)) potentials (
        .clock(clock),
        .write(done), .write_address(neuron), .write_value(new_v),
        .read(accept), .read_address(neuron), .read_value(kept_v)
    );
    icsnn_parameter #(
        .BITS(THRESHOLD_BITS), .WORDS(THRESHOLDS), .NEURONS(NEURONS), .FILE(THRESHOLD_FILE)
    ) thresholds (
        .clock(clock), .reset(reset), .next(accept), .value(threshold)
    );
    icsnn_parameter #(.BITS(INIT_BITS), .WORDS(INITS), .NEURONS(NEURONS), .FILE(INIT_FILE)) inits (
        .clock(clock), .reset(reset), .next(accept), .value(v_init)
    );

    generate
        if (HARD_RESET != 0) begin : hard_reset
            logic signed [RESET_BITS-1:0] v_reset;
            icsnn_parameter #(
                .BITS(RESET_BITS), .WORDS(RESETS), .NEURONS(NEURONS), .FILE(RESET_FILE)
            ) resets (
                .clock(clock), .reset(reset), .next(accept), .value(v_reset)
            );
            assign v_after_spike = V_BITS'(v_reset);
        end else begin : soft_reset
            assign v_after_spike = u - V_BITS'(threshold);
        end
    endgenerate

    assign old_v = step == '0 ? V_BITS'(v_init) : kept_v;
    assign u = old_v + V_BITS'(current);
    assign out_value = COMPARE_BITS'(u) >= COMPARE_BITS'(threshold);
    assign new_v = out_value ? v_after_spike : u;

    always_ff @(posedge clock) begin
        if (reset) begin
            out_valid <= 1'b0;
            neuron <= '0;
            step <= '0;
        end else if (accept) begin
            current <= in_value;
            out_valid <= 1'b1;
        end else if (done) begin
            out_valid <= 1'b0;
            neuron <= neuron + 1'b1;
            if (neuron == NEURON_BITS'(NEURONS - 1)) begin
                neuron <= '0;
                step <= step == STEP_BITS'(STEPS - 1) ? '0 : step + 1'b1;
            end
        end
    end
endmodule
