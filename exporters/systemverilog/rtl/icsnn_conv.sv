// A convolution: takes a map, then gives the map of its sums; one weight per clock.
//
//     out[o, y, x] = sum over i, ky, kx of weight[o, i, ky, kx] * in[g + i, row, column]
//                    row    = y * STRIDE_Y + ky * DILATION_Y - PAD_TOP
//                    column = x * STRIDE_X + kx * DILATION_X - PAD_LEFT, 0 outside of the map
//
// with g the first input channel of the group of o. Maps are streams in the order
// [channel][y][x]; a value moves in a clock in which valid and ready are high. While a map is
// computed, the next one is taken. Sums wrap around: OUT_BITS must hold the sum that they become
// a part of, not each one on the way.
module icsnn_conv #(
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
    parameter int DILATION_Y = 1,
    parameter int DILATION_X = 1,
    parameter int PAD_TOP = 0,
    parameter int PAD_LEFT = 0,
    parameter int GROUPS = 1,
    parameter int X_BITS = 1,    // of a value of the input; a spike is 0 or 1
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
    localparam int PLANE = H_IN * W_IN;
    localparam int INPUTS = C_IN * PLANE;
    localparam int GROUP_IN = C_IN / GROUPS;
    localparam int GROUP_OUT = C_OUT / GROUPS;
    localparam int WEIGHTS = C_OUT * GROUP_IN * KERNEL_Y * KERNEL_X;
    localparam int MAP_BITS = INPUTS > 1 ? $clog2(INPUTS) : 1;
    localparam int WEIGHT_ADDRESS_BITS = WEIGHTS > 1 ? $clog2(WEIGHTS) : 1;
    // Rows and columns are signed: they begin in the padding.
    localparam int ROW_BITS = $clog2(H_OUT*STRIDE_Y + KERNEL_Y*DILATION_Y + PAD_TOP + H_IN + 1) + 1;
    localparam int COLUMN_BITS =
        $clog2(W_OUT*STRIDE_X + KERNEL_X*DILATION_X + PAD_LEFT + W_IN + 1) + 1;
    localparam logic signed [ROW_BITS-1:0] FIRST_ROW = ROW_BITS'(-PAD_TOP);
    localparam logic signed [COLUMN_BITS-1:0] FIRST_COLUMN = COLUMN_BITS'(-PAD_LEFT);

    // A value that is given but not taken stops everything behind it.
    logic advance;
    assign advance = !out_valid || out_ready;

    // The memory has two halves: a map is taken into one, while the other is computed.
    logic issue, load, last_load, last_issue;
    logic load_half, read_half;
    logic [1:0] full;
    logic [MAP_BITS-1:0] load_address;
    assign in_ready = !full[load_half];
    assign load = in_valid && in_ready;
    assign last_load = load && load_address == MAP_BITS'(INPUTS - 1);
    assign issue = full[read_half] && advance;

    always_ff @(posedge clock) begin
        if (reset) begin
            full <= '0;
            load_half <= 1'b0;
            read_half <= 1'b0;
            load_address <= '0;
        end else begin
            if (load) load_address <= last_load ? '0 : load_address + 1'b1;
            if (last_load) begin
                full[load_half] <= 1'b1;
                load_half <= !load_half;
            end
            if (last_issue) begin
                full[read_half] <= 1'b0;
                read_half <= !read_half;
            end
        end
    end

    // A counter for each loop, the innermost first, and the places that they stand for.
    logic [$clog2(KERNEL_X+1)-1:0]  kx;
    logic [$clog2(KERNEL_Y+1)-1:0]  ky;
    logic [$clog2(GROUP_IN+1)-1:0]  i;
    logic [$clog2(W_OUT+1)-1:0]     x;
    logic [$clog2(H_OUT+1)-1:0]     y;
    logic [$clog2(GROUP_OUT+1)-1:0] o;
    logic [$clog2(GROUPS+1)-1:0]    group;
    logic signed [COLUMN_BITS-1:0]  left, column;  // of the window, of the tap
    logic signed [ROW_BITS-1:0]     top, row;
    logic [MAP_BITS-1:0]            group_plane, plane;  // addresses of channels
    logic [WEIGHT_ADDRESS_BITS-1:0] kernel, tap;         // addresses of weights
    logic last_kx, last_ky, last_i, last_x, last_y, last_o, last_group, last_tap, last_pixel;
    assign last_kx = kx == ($clog2(KERNEL_X+1))'(KERNEL_X - 1);
    assign last_ky = ky == ($clog2(KERNEL_Y+1))'(KERNEL_Y - 1);
    assign last_i = i == ($clog2(GROUP_IN+1))'(GROUP_IN - 1);
    assign last_x = x == ($clog2(W_OUT+1))'(W_OUT - 1);
    assign last_y = y == ($clog2(H_OUT+1))'(H_OUT - 1);
    assign last_o = o == ($clog2(GROUP_OUT+1))'(GROUP_OUT - 1);
    assign last_group = group == ($clog2(GROUPS+1))'(GROUPS - 1);
    assign last_tap = last_kx && last_ky && last_i;
    assign last_pixel = last_x && last_y;
    assign last_issue = issue && last_tap && last_pixel && last_o && last_group;

    always_ff @(posedge clock) begin
        if (reset) begin
            {kx, ky, i, x, y, o, group} <= '0;
            left <= FIRST_COLUMN;
            column <= FIRST_COLUMN;
            top <= FIRST_ROW;
            row <= FIRST_ROW;
            {group_plane, plane} <= '0;
            {kernel, tap} <= '0;
        end else if (issue) begin
            // Each loop at its end starts again and steps the next one.
            tap <= tap + 1'b1;
            kx <= last_kx ? '0 : kx + 1'b1;
            column <= last_kx ? left : column + COLUMN_BITS'(DILATION_X);
            if (last_kx) begin
                ky <= last_ky ? '0 : ky + 1'b1;
                row <= last_ky ? top : row + ROW_BITS'(DILATION_Y);
            end
            if (last_kx && last_ky) begin
                i <= last_i ? '0 : i + 1'b1;
                plane <= last_i ? group_plane : plane + MAP_BITS'(PLANE);
            end
            if (last_tap) begin
                tap <= last_pixel ? tap + 1'b1 : kernel;
                x <= last_x ? '0 : x + 1'b1;
                left <= last_x ? FIRST_COLUMN : left + COLUMN_BITS'(STRIDE_X);
                column <= last_x ? FIRST_COLUMN : left + COLUMN_BITS'(STRIDE_X);
                if (last_x) begin
                    y <= last_y ? '0 : y + 1'b1;
                    top <= last_y ? FIRST_ROW : top + ROW_BITS'(STRIDE_Y);
                    row <= last_y ? FIRST_ROW : top + ROW_BITS'(STRIDE_Y);
                end
            end
            if (last_tap && last_pixel) begin
                kernel <= tap + 1'b1;
                o <= last_o ? '0 : o + 1'b1;
                if (last_o) begin
                    group <= last_group ? '0 : group + 1'b1;
                    group_plane <= last_group ? '0 : group_plane + MAP_BITS'(GROUP_IN * PLANE);
                    plane <= last_group ? '0 : group_plane + MAP_BITS'(GROUP_IN * PLANE);
                end
                if (last_o && last_group) {kernel, tap} <= '0;
            end
        end
    end

    // Both memories are read.
    logic on_map;
    logic [MAP_BITS-1:0] map_address;
    logic [X_BITS-1:0] x_word;
    logic signed [WEIGHT_BITS-1:0] weight;
    assign on_map = row >= ROW_BITS'(0) && row < ROW_BITS'(H_IN)
        && column >= COLUMN_BITS'(0) && column < COLUMN_BITS'(W_IN);
    assign map_address = on_map
        ? plane + MAP_BITS'(row) * MAP_BITS'(W_IN) + MAP_BITS'(column) : '0;

    icsnn_ram #(.BITS(X_BITS), .WORDS(2 << MAP_BITS), .ADDRESS_BITS(MAP_BITS + 1)) maps (
        .clock(clock),
        .write(load), .write_address({load_half, load_address}), .write_value(in_value),
        .read(advance), .read_address({read_half, map_address}), .read_value(x_word)
    );
    icsnn_rom #(
        .BITS(WEIGHT_BITS), .WORDS(WEIGHTS), .ADDRESS_BITS(WEIGHT_ADDRESS_BITS), .FILE(WEIGHT_FILE)
    ) weights (
        .clock(clock), .enable(advance), .address(tap), .value(weight)
    );

    // One clock later the product is added.
    logic tap_valid, tap_first, tap_last, tap_on_map, next_is_first;
    logic signed [OUT_BITS-1:0] product, sum, next_sum;
    generate
        if (X_BITS == 1 && X_SIGNED == 0) begin : spikes
            assign product = x_word[0] ? OUT_BITS'(weight) : '0;
        end else begin : values
            logic signed [X_BITS:0] x_value;
            assign x_value = {X_SIGNED != 0 && x_word[X_BITS-1], x_word};
            assign product = OUT_BITS'(weight) * OUT_BITS'(x_value);
        end
    endgenerate
    assign next_sum = (tap_first ? '0 : sum) + (tap_on_map ? product : '0);

    always_ff @(posedge clock) begin
        if (reset) begin
            tap_valid <= 1'b0;
            next_is_first <= 1'b1;
            out_valid <= 1'b0;
        end else if (advance) begin
            tap_valid <= issue;
            tap_first <= next_is_first;
            tap_last <= last_tap;
            tap_on_map <= on_map;
            if (issue) next_is_first <= last_tap;
            if (tap_valid) sum <= next_sum;
            out_valid <= tap_valid && tap_last;
            out_value <= next_sum;
        end
    end
endmodule
