"""The C functions of the program: one per kind of layer and types, with the sizes as arguments.

A function is written into network.c if a layer of the network calls it. Placeholders in @...@ are
replaced: @w@ type of the weights, @a@ of the sum, @v@ of the potentials, @p@ of the parameters,
@x@ of values that are read; @name@ is the function's name.
"""

from __future__ import annotations

ADD_SPIKES = """
/* Add the weights of `count` spikes, `rows` rows of `length` weights of each. From one row to the
   next sums are sum_step apart and weights weight_step; from channel to channel weights are
   channel_step apart. Four spikes at once: each sum is loaded and stored once for them. */
ICSNN_INLINE void @name@(@a@ *restrict sum, int32_t sum_step,
                         const @w@ *weight, int32_t weight_step, int32_t channel_step,
                         const icsnn_channel *event, int32_t count, int32_t rows, int32_t length)
{
    int32_t k = 0;
    for (; k + 4 <= count; k += 4) {
        const @w@ *w0 = weight + event[k] * channel_step;
        const @w@ *w1 = weight + event[k + 1] * channel_step;
        const @w@ *w2 = weight + event[k + 2] * channel_step;
        const @w@ *w3 = weight + event[k + 3] * channel_step;
        for (int32_t row = 0; row < rows; row++) {
            @a@ *to = sum + row * sum_step;
            const int32_t at = row * weight_step;
            for (int32_t i = 0; i < length; i++) {
                to[i] = (@a@)(to[i] + w0[at + i] + w1[at + i] + w2[at + i] + w3[at + i]);
            }
        }
    }
    if (k + 2 <= count) {
        const @w@ *w0 = weight + event[k] * channel_step;
        const @w@ *w1 = weight + event[k + 1] * channel_step;
        for (int32_t row = 0; row < rows; row++) {
            @a@ *to = sum + row * sum_step;
            const int32_t at = row * weight_step;
            for (int32_t i = 0; i < length; i++) {
                to[i] = (@a@)(to[i] + w0[at + i] + w1[at + i]);
            }
        }
        k += 2;
    }
    if (k < count) {
        const @w@ *w0 = weight + event[k] * channel_step;
        for (int32_t row = 0; row < rows; row++) {
            @a@ *to = sum + row * sum_step;
            const int32_t at = row * weight_step;
            for (int32_t i = 0; i < length; i++) {
                to[i] = (@a@)(to[i] + w0[at + i]);
            }
        }
    }
}
"""

ADD_VALUES = """
/* Add weights times values, `rows` rows of `length` weights for each of `count` values. From one
   row to the next sums are sum_step apart and weights weight_step; from channel to channel weights
   are channel_step apart. */
ICSNN_INLINE void @name@(@a@ *restrict sum, int32_t sum_step,
                         const @w@ *weight, int32_t weight_step, int32_t channel_step,
                         const icsnn_channel *event, const @x@ *value, int32_t count,
                         int32_t rows, int32_t length)
{
    for (int32_t k = 0; k < count; k++) {
        const @w@ *w = weight + event[k] * channel_step;
        const @x@ x = value[k];
        for (int32_t row = 0; row < rows; row++) {
            @a@ *to = sum + row * sum_step;
            const int32_t at = row * weight_step;
            for (int32_t i = 0; i < length; i++) {
                to[i] = (@a@)(to[i] + x * w[at + i]);
            }
        }
    }
}
"""

GATHER = """
/* List the channels whose value is not zero, and the values; returns their number. */
static int32_t @name@(icsnn_channel *restrict event, @x@ *restrict value, const @x@ *from,
                      int32_t first, int32_t channels)
{
    const int32_t left = channels - first;
    const int32_t last = left < ICSNN_GATHERED ? channels : first + ICSNN_GATHERED;
    int32_t count = 0;
    for (int32_t c = first; c < last; c++) {
        if (from[c] != 0) {
            event[count] = (icsnn_channel)c;
            value[count] = from[c];
            count++;
        }
    }
    return count;
}
"""

ROWS = """
/* A convolution of stride 1: a pixel adds rows of kernel_w * out_c weights into the rows around it.
   The weights are mirrored, [in_c][kernel_h][kernel_w][out_c]; @reads@ */
ICSNN_INLINE void @name@(@a@ *restrict sum, const @w@ *weight,
                         @source@,
                         int32_t in_h, int32_t in_w,@in_c@
                         int32_t out_h, int32_t out_w, int32_t out_c,
                         int32_t kernel_h, int32_t kernel_w, int32_t pad_h, int32_t pad_w)
{
    for (int32_t y = 0; y < in_h; y++) {
        const int32_t top = y + pad_h - (kernel_h - 1); /* the kernel's first row in the output */
        const int32_t row0 = top < 0 ? -top : 0;
        const int32_t row1 = out_h - top < kernel_h ? out_h - top : kernel_h;
        for (int32_t x = 0; x < in_w; x++) {
            const int32_t left = x + pad_w - (kernel_w - 1);
            const int32_t tap0 = left < 0 ? -left : 0;
            const int32_t tap1 = out_w - left < kernel_w ? out_w - left : kernel_w;
            @begin@
            const int32_t rows = row1 - row0, taps = tap1 - tap0;
            if (rows == kernel_h && taps == kernel_w) {
                @add@(sum + (top * out_w + left) * out_c, out_w * out_c,
                    weight, kernel_w * out_c, kernel_h * kernel_w * out_c,
                    @list@, count, kernel_h, kernel_w * out_c);
            } else if (rows > 0 && taps > 0) { /* at an edge */
                @add@(sum + ((top + row0) * out_w + left + tap0) * out_c, out_w * out_c,
                    weight + (row0 * kernel_w + tap0) * out_c, kernel_w * out_c,
                    kernel_h * kernel_w * out_c, @list@, count, rows, taps * out_c);
            }
            @end@
        }
    }
}
"""

TAPS = """
/* Any convolution without groups, tap by tap; weights [in_c][kernel_h][kernel_w][out_c];
   @reads@ */
ICSNN_INLINE void @name@(@a@ *restrict sum, const @w@ *weight,
                         @source@,
                         int32_t in_h, int32_t in_w,@in_c@
                         int32_t out_h, int32_t out_w, int32_t out_c,
                         int32_t kernel_h, int32_t kernel_w, int32_t pad_h, int32_t pad_w,
                         int32_t stride_h, int32_t stride_w, int32_t dilation_h, int32_t dilation_w)
{
    for (int32_t y = 0; y < in_h; y++) {
        for (int32_t x = 0; x < in_w; x++) {
            @begin@
            for (int32_t row = 0; row < kernel_h && count > 0; row++) {
                const int32_t down = y + pad_h - dilation_h * row;
                if (down < 0 || down % stride_h != 0 || down / stride_h >= out_h) {
                    continue;
                }
                for (int32_t tap = 0; tap < kernel_w; tap++) {
                    const int32_t right = x + pad_w - dilation_w * tap;
                    if (right < 0 || right % stride_w != 0 || right / stride_w >= out_w) {
                        continue;
                    }
                    @add@(sum + (down / stride_h * out_w + right / stride_w) * out_c, 0,
                        weight + (row * kernel_w + tap) * out_c, 0, kernel_h * kernel_w * out_c,
                        @list@, count, 1, out_c);
                }
            }
            @end@
        }
    }
}
"""

GROUPS = """
/* Any convolution in groups of group_in input and group_out output channels, tap by tap;
   weights [in_c][kernel_h][kernel_w][group_out]; @reads@ */
ICSNN_INLINE void @name@(@a@ *restrict sum, const @w@ *weight,
                         @source@,
                         int32_t in_h, int32_t in_w,@in_c@
                         int32_t out_h, int32_t out_w, int32_t out_c,
                         int32_t kernel_h, int32_t kernel_w, int32_t pad_h, int32_t pad_w,
                         int32_t stride_h, int32_t stride_w, int32_t dilation_h, int32_t dilation_w,
                         int32_t group_in, int32_t group_out)
{
    const int32_t stride = kernel_h * kernel_w * group_out;
    for (int32_t y = 0; y < in_h; y++) {
        for (int32_t x = 0; x < in_w; x++) {
            @begin@
            for (int32_t row = 0; row < kernel_h && count > 0; row++) {
                const int32_t down = y + pad_h - dilation_h * row;
                if (down < 0 || down % stride_h != 0 || down / stride_h >= out_h) {
                    continue;
                }
                for (int32_t tap = 0; tap < kernel_w; tap++) {
                    const int32_t right = x + pad_w - dilation_w * tap;
                    if (right < 0 || right % stride_w != 0 || right / stride_w >= out_w) {
                        continue;
                    }
                    @a@ *pixel = sum + (down / stride_h * out_w + right / stride_w) * out_c;
                    const @w@ *from = weight + (row * kernel_w + tap) * group_out;
                    for (int32_t k = 0; k < count; k++) {
                        const int32_t c = event[k];
                        @a@ *to = pixel + c / group_in * group_out;
                        const @w@ *w = from + c * stride;
                        for (int32_t i = 0; i < group_out; i++) {
                            to[i] = (@a@)(to[i] + @times@w[i]);
                        }
                    }
                }
            }
            @end@
        }
    }
}
"""

LINEAR = """
/* A fully connected layer; weights [pixels][in_c][outputs]; @reads@ */
ICSNN_INLINE void @name@(@a@ *restrict sum, const @w@ *weight,
                         @source@,
                         int32_t pixels, int32_t in_c, int32_t outputs)
{
    for (int32_t p = 0; p < pixels; p++) {
        const @w@ *from = weight + p * in_c * outputs;
        @begin@
        @add@(sum, 0, from, 0, outputs, @list@, count, 1, outputs);
        @end@
    }
}
"""

SCALE = """
/* A diagonal connection: each neuron adds its own weight. With weight_step in_c there is a weight
   per neuron, with 0 one per channel. The target is [pixels][in_c] with steps (in_c, 1), or that
   map as a vector in the order [in_c][pixels] with steps (1, pixels); @reads@ */
ICSNN_INLINE void @name@(@a@ *restrict sum, const @w@ *weight,
                         @source@,
                         int32_t pixels,@in_c@ int32_t weight_step,
                         int32_t pixel_step, int32_t channel_step)
{
    for (int32_t p = 0; p < pixels; p++) {
        @a@ *to = sum + p * pixel_step;
        const @w@ *from = weight + p * weight_step;
        @begin@
        for (int32_t k = 0; k < count; k++) {
            const int32_t c = event[k];
            to[c * channel_step] = (@a@)(to[c * channel_step] + @times@from[c]);
        }
        @end@
    }
}
"""

COPY = """
/* An identity connection: each neuron adds 1. The target has the steps (in_c, 1) of a map, or those
   of the vector [in_c][pixels], (1, pixels); @reads@ */
ICSNN_INLINE void @name@(@a@ *restrict sum,
                         @source@,
                         int32_t pixels,@in_c@ int32_t pixel_step, int32_t channel_step)
{
    for (int32_t p = 0; p < pixels; p++) {
        @a@ *to = sum + p * pixel_step;
        @begin@
        for (int32_t k = 0; k < count; k++) {
            const int32_t c = event[k];
            to[c * channel_step] = (@a@)(to[c * channel_step] + @one@);
        }
        @end@
    }
}
"""

LIST_FIRED = """
/* Append the channels first + i for which fired[i] is 1; returns the end of the list. */
static icsnn_channel *list_fired(icsnn_channel *restrict event, const uint8_t *restrict fired,
                                 int32_t first, int32_t count)
{
    int32_t i = 0;
#if ICSNN_HOST_LISTS
    for (; i + 8 <= count; i += 8) { /* eight neurons at once: a bit for each, and a table */
        uint64_t bytes;
        memcpy(&bytes, fired + i, 8);
        const uint8_t *bits = icsnn_lists[(bytes * UINT64_C(0x0102040810204080)) >> 56];
        for (int32_t k = 0; k < 8; k++) {
            event[k] = (icsnn_channel)(first + i + bits[k]);
        }
        event += (bytes * UINT64_C(0x0101010101010101)) >> 56;
    }
#endif
    for (; i < count; i++) {
        *event = (icsnn_channel)(first + i);
        event += fired[i];
    }
    return event;
}
"""

FIRE = """
/* One step of integrate-and-fire neurons: u = v + current; spike where u >= threshold;
   v = @reset_text@. The spikes become the list of channels of each pixel@order@.
   A parameter of step `channels` has a value per neuron, of step 0 one per channel. */
ICSNN_INLINE void @name@(@v@ *restrict v, @arguments@,
                         const @p@ *bias, int32_t bias_step,
                         const @p@ *threshold, int32_t threshold_step,@reset_arguments@
                         icsnn_count *restrict counts, icsnn_channel *restrict events,
                         int32_t pixels, int32_t channels@width@)
{
    uint8_t fired[ICSNN_BLOCK];
    for (int32_t p = 0; p < pixels; p++) {
        icsnn_channel *event = events;
        for (int32_t first = 0; first < channels; first += ICSNN_BLOCK) {
            const int32_t left = channels - first;
            const int32_t block = left < ICSNN_BLOCK ? left : ICSNN_BLOCK;
            for (int32_t i = 0; i < block; i++) {
                const int32_t c = first + i;
                const @u@ u = (@u@)(v[c] + @current@bias[c]);
                const @u@ high = threshold[c];
                v[c] = (@v@)(u >= high ? @reset@ : u);
                fired[i] = u >= high;@clear@
            }
            event = list_fired(event, fired, first, block);
        }
        *counts++ = (icsnn_count)(event - events);
        events = event;@ahead@
        v += @pixels@channels;
        bias += @pixels@bias_step;
        threshold += @pixels@threshold_step;@advance@
    }
}
"""

WINDOWS = """
/* The pixel of a map whose list of spikes is number `list`, where the lists of each window of
   height x width pixels follow one another. */
static inline int32_t pixel_of(int32_t list, int32_t map_width, int32_t height, int32_t width)
{
    const int32_t window = list / (height * width), inside = list % (height * width);
    const int32_t across = map_width / width;
    return (window / across * height + inside / width) * map_width
         + window % across * width + inside % width;
}
"""

WINDOW_COUNT = """
/* Number of spikes of the next `lists` pixels. */
static inline int32_t window_count(const icsnn_count *counts, int32_t lists)
{
    int32_t count = 0;
    for (int32_t i = 0; i < lists; i++) {
        count += counts[i];
    }
    return count;
}
"""

BIAS = """
/* @what@ With bias_step `channels` there is a bias
   per neuron, with 0 one per channel. */
ICSNN_INLINE void @name@(@a@ *restrict sum,@arguments@ const @p@ *bias, int32_t bias_step,
                         int32_t pixels, int32_t channels)
{
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t c = 0; c < channels; c++) {
            sum[c] = (@a@)(@current@bias[c]);
        }
        sum += channels;
        bias += bias_step;@advance@
    }
}
"""

FILL = """
/* Set potentials to initial values, one per neuron (from_step channels) or per channel (0). */
static void @name@(@v@ *restrict v, const @p@ *from, int32_t from_step,
                   int32_t pixels, int32_t channels)
{
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t c = 0; c < channels; c++) {
            v[c] = (@v@)from[c];
        }
        v += channels;
        from += from_step;
    }
}
"""

LIST_INPUT = """
/* The list of channels per pixel of the marked spikes; clears the marks. */
static void @name@(uint8_t *marks, icsnn_count *counts, icsnn_channel *event,
                   int32_t pixels, int32_t channels)
{
    for (int32_t p = 0; p < pixels; p++) {
        icsnn_count count = 0;
        for (int32_t c = 0; c < channels; c++) {
            if (marks[c] != 0) {
                *event++ = (icsnn_channel)c;
                count++;
                marks[c] = 0;
            }
        }
        *counts++ = count;
        marks += channels;
    }
}
"""
