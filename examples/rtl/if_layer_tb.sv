// Runs a layer on test vectors, and compares every neuron of every step in the clock that gives it.
module if_layer_tb #(
    parameter int STEPS = 1,
    parameter int SAMPLES = 1,
    parameter int X_STEPS = 1,        // STEPS where the input changes, 1 where it does not
    parameter int X_WORD_BITS = 1,    // of a word in the file of inputs
    parameter int X_SIGNED = 0,
    parameter int HAS_INTERNALS = 1,  // whether there are files of currents and potentials
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
    parameter int WEIGHT_BITS = 8,
    parameter int BIAS_BITS = 16,
    parameter int THRESHOLD_BITS = 16,
    parameter int INIT_BITS = 16,
    parameter int CURRENT_BITS = 16,
    parameter int V_BITS = 20,
    parameter int THRESHOLDS = 1,
    parameter int INITS = 1,
    parameter WEIGHT_FILE = "",
    parameter BIAS_FILE = "",
    parameter THRESHOLD_FILE = "",
    parameter INIT_FILE = "",
    parameter X_FILE = "",
    parameter SPIKES_FILE = "",
    parameter CURRENT_FILE = "",
    parameter V_FILE = ""
);
    localparam int INPUTS = C_IN * H_IN * W_IN;
    localparam int NEURONS = C_OUT * H_OUT * W_OUT;
    // A sign bit for unsigned inputs.
    localparam int X_BITS = X_WORD_BITS + (X_SIGNED != 0 ? 0 : 1);
    localparam int EXPECTED = SAMPLES * STEPS * NEURONS;
    localparam int SHOWN = 10;

    logic        [X_WORD_BITS-1:0]  x_words  [0:SAMPLES*X_STEPS*INPUTS-1];
    logic                           spikes   [0:EXPECTED-1];
    logic signed [CURRENT_BITS-1:0] currents [0:EXPECTED-1];
    logic signed [V_BITS-1:0]       vs       [0:EXPECTED-1];

    logic clock = 0, reset = 1, start = 0, first_step = 0;
    logic valid, spike, done;
    logic [31:0] x_address, neuron;
    logic signed [X_BITS-1:0] x_value;
    logic signed [CURRENT_BITS-1:0] current;
    logic signed [V_BITS-1:0] v;
    int x_start, number, cycles = 0;

    if_layer #(
        .C_IN(C_IN), .H_IN(H_IN), .W_IN(W_IN), .C_OUT(C_OUT), .H_OUT(H_OUT), .W_OUT(W_OUT),
        .KERNEL_Y(KERNEL_Y), .KERNEL_X(KERNEL_X), .STRIDE_Y(STRIDE_Y), .STRIDE_X(STRIDE_X),
        .PAD_TOP(PAD_TOP), .PAD_LEFT(PAD_LEFT), .X_BITS(X_BITS), .WEIGHT_BITS(WEIGHT_BITS),
        .BIAS_BITS(BIAS_BITS), .THRESHOLD_BITS(THRESHOLD_BITS), .INIT_BITS(INIT_BITS),
        .CURRENT_BITS(CURRENT_BITS), .V_BITS(V_BITS), .THRESHOLDS(THRESHOLDS), .INITS(INITS),
        .WEIGHT_FILE(WEIGHT_FILE), .BIAS_FILE(BIAS_FILE), .THRESHOLD_FILE(THRESHOLD_FILE),
        .INIT_FILE(INIT_FILE)
    ) layer (.*);

    initial forever #1 clock = !clock;
    always @(posedge clock) cycles <= cycles + 1;

    logic [X_WORD_BITS-1:0] x_word;
    assign x_word = x_words[x_start + int'(x_address)];
    assign x_value = X_SIGNED != 0 ? X_BITS'($signed(x_word)) : X_BITS'(x_word);

    int compared = 0, spike_differences = 0, other_differences = 0;

    task automatic compare(input int sample, input int step, input int expected);
        int address = (sample * STEPS + step) * NEURONS + expected;
        bit differs = spike !== spikes[address] || int'(neuron) != expected;
        bit other = HAS_INTERNALS != 0 && (current !== currents[address] || v !== vs[address]);
        compared++;
        spike_differences += int'(differs);
        other_differences += int'(other);
        if ((differs || other) && spike_differences + other_differences <= SHOWN) begin
            $write("sample %0d, step %0d, neuron %0d: spike %0d, current %0d, v %0d; ",
                sample, step, expected, spike, current, v);
            $display("expected %0d, %0d, %0d", spikes[address], currents[address], vs[address]);
        end
    endtask

    initial begin
        $readmemh(X_FILE, x_words);
        $readmemh(SPIKES_FILE, spikes);
        if (HAS_INTERNALS != 0) begin
            $readmemh(CURRENT_FILE, currents);
            $readmemh(V_FILE, vs);
        end
        repeat (2) @(negedge clock);
        reset = 0;
        for (int sample = 0; sample < SAMPLES; sample++)
            for (int step = 0; step < STEPS; step++) begin
                number = 0;
                x_start = (sample * X_STEPS + (X_STEPS == 1 ? 0 : step)) * INPUTS;
                first_step = step == 0;
                start = 1;
                @(negedge clock);
                start = 0;
                do begin
                    @(negedge clock);
                    if (valid) begin
                        compare(sample, step, number);
                        number++;
                    end
                end while (!done);
            end
        $display("%0d spikes compared, %0d differ; %0d currents and potentials differ; %0d cycles",
            compared, spike_differences, other_differences, cycles);
        if (compared != EXPECTED || spike_differences != 0 || other_differences != 0)
            $fatal(1, "NOT EQUAL");
        $finish;
    end
endmodule
