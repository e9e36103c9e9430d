// A convolution and its integrate-and-fire neurons: one weight per clock, one neuron after another.
//
//     I    = bias[c] + sum over i, ky, kx of weight[c, i, ky, kx] * x[i, row, column]
//            row = y * STRIDE_Y + ky - PAD_TOP, column = x * STRIDE_X + kx - PAD_LEFT, 0 outside
//     u    = v[t-1] + I            v[0] = v_init
//     s[t] = u >= v_threshold
//     v[t] = s[t] ? u - v_threshold : u
//
// A fully connected layer is one of maps of 1 x 1 pixels with a kernel of 1 x 1. Neurons and inputs
// are counted in the order [channel][y][x]. Widths and files are those of the test vectors; the
// memories are read without a clock, as distributed RAM is.
//
// A step: `start` for one clock, with `first_step` high in the first step of a sample. `valid` is
// high for one clock per neuron, NEURONS times; `done` together with the last.
module if_layer #(
    parameter int C_IN = 1,
    parameter int H_IN = 1,
    parameter int W_IN = 1,
    parameter int C_OUT = 1,
    parameter int H_OUT = 1,
    parameter int W_OUT = 1,
    parameter int KERNEL_Y = 1,
    parameter int KERNEL_X = 1,
    parameter int STRIDE_Y = 1,
    parameter int STRIDE_X = 1,
    parameter int PAD_TOP = 0,
    parameter int PAD_LEFT = 0,
    parameter int X_BITS = 2,          // signed; a spike is 0 or 1
    parameter int WEIGHT_BITS = 8,
    parameter int BIAS_BITS = 16,
    parameter int THRESHOLD_BITS = 16,
    parameter int INIT_BITS = 16,
    parameter int CURRENT_BITS = 16,   // of I; sums on the way may wrap around
    parameter int V_BITS = 20,         // of u and v
    parameter int THRESHOLDS = C_OUT,  // one per channel, or one per neuron
    parameter int INITS = C_OUT,
    parameter WEIGHT_FILE = "",
    parameter BIAS_FILE = "",
    parameter THRESHOLD_FILE = "",
    parameter INIT_FILE = ""
) (
    input  logic                           clock,
    input  logic                           reset,
    input  logic                           start,
    input  logic                           first_step,
    output logic        [31:0]             x_address,  // of the input that is read
    input  logic signed [X_BITS-1:0]       x_value,    // its value, in the same clock
    output logic                           valid,
    output logic        [31:0]             neuron,
    output logic                           spike,
    output logic signed [CURRENT_BITS-1:0] current,
    output logic signed [V_BITS-1:0]       v,          // after the step
    output logic                           done
);
    localparam int PIXELS = H_OUT * W_OUT;
    localparam int NEURONS = C_OUT * PIXELS;
    localparam int TAPS = C_IN * KERNEL_Y * KERNEL_X;

    logic signed [WEIGHT_BITS-1:0]    weights    [0:C_OUT*TAPS-1];
    logic signed [BIAS_BITS-1:0]      biases     [0:C_OUT-1];
    logic signed [THRESHOLD_BITS-1:0] thresholds [0:THRESHOLDS-1];
    logic signed [INIT_BITS-1:0]      inits      [0:INITS-1];
    logic signed [V_BITS-1:0]         potentials [0:NEURONS-1];

    initial begin
        $readmemh(WEIGHT_FILE, weights);
        $readmemh(BIAS_FILE, biases);
        $readmemh(THRESHOLD_FILE, thresholds);
        $readmemh(INIT_FILE, inits);
    end

    // Counters of the neuron and of the tap.
    logic [$clog2(C_OUT+1)-1:0]    c;
    logic [$clog2(H_OUT+1)-1:0]    y;
    logic [$clog2(W_OUT+1)-1:0]    x;
    logic [$clog2(C_IN+1)-1:0]     i;
    logic [$clog2(KERNEL_Y+1)-1:0] ky;
    logic [$clog2(KERNEL_X+1)-1:0] kx;
    logic running, is_first_step;

    // The input under the tap.
    int row, column, tap, number;
    logic on_map;
    assign row = int'(y) * STRIDE_Y + int'(ky) - PAD_TOP;
    assign column = int'(x) * STRIDE_X + int'(kx) - PAD_LEFT;
    assign on_map = row >= 0 && row < H_IN && column >= 0 && column < W_IN;
    assign x_address = on_map ? (int'(i) * H_IN + row) * W_IN + column : 0;
    assign tap = (int'(i) * KERNEL_Y + int'(ky)) * KERNEL_X + int'(kx);
    assign number = int'(c) * PIXELS + int'(y) * W_OUT + int'(x);

    // The sum, with the bias at the first tap.
    logic signed [CURRENT_BITS-1:0] sum, next_sum;
    logic signed [WEIGHT_BITS-1:0] weight;
    assign weight = weights[int'(c) * TAPS + tap];
    assign next_sum = (tap == 0 ? CURRENT_BITS'(biases[int'(c)]) : sum)
        + (on_map ? CURRENT_BITS'(weight) * CURRENT_BITS'(x_value) : CURRENT_BITS'(0));

    // The neuron, at the last tap.
    // The comparison has the wider of both widths: a threshold may be beyond all that u can reach.
    localparam int COMPARE_BITS = V_BITS > THRESHOLD_BITS ? V_BITS : THRESHOLD_BITS;
    logic signed [V_BITS-1:0] old_v, u, new_v;
    logic signed [INIT_BITS-1:0] v_init;
    logic signed [THRESHOLD_BITS-1:0] threshold;
    logic fires;
    assign v_init = inits[INITS == C_OUT ? int'(c) : number];
    assign threshold = thresholds[THRESHOLDS == C_OUT ? int'(c) : number];
    assign old_v = is_first_step ? V_BITS'(v_init) : potentials[number];
    assign u = old_v + V_BITS'(next_sum);
    assign fires = COMPARE_BITS'(u) >= COMPARE_BITS'(threshold);
    assign new_v = fires ? u - V_BITS'(threshold) : u;

    always_ff @(posedge clock) begin
        valid <= 1'b0;
        done <= 1'b0;
        if (reset) begin
            running <= 1'b0;
        end else if (start) begin
            running <= 1'b1;
            is_first_step <= first_step;
            {c, y, x, i, ky, kx} <= '0;
        end else if (running) begin
            sum <= next_sum;
            kx <= kx + 1'b1;
            if (int'(kx) == KERNEL_X - 1) begin
                kx <= '0;
                ky <= ky + 1'b1;
                if (int'(ky) == KERNEL_Y - 1) begin
                    ky <= '0;
                    i <= i + 1'b1;
                end
            end
            if (tap == TAPS - 1) begin
                potentials[number] <= new_v;
                valid <= 1'b1;
                neuron <= number;
                spike <= fires;
                current <= next_sum;
                v <= new_v;
                i <= '0;
                x <= x + 1'b1;
                if (int'(x) == W_OUT - 1) begin
                    x <= '0;
                    y <= y + 1'b1;
                    if (int'(y) == H_OUT - 1) begin
                        y <= '0;
                        c <= c + 1'b1;
                    end
                end
                if (number == NEURONS - 1) begin
                    running <= 1'b0;
                    done <= 1'b1;
                end
            end
        end
    end
endmodule
