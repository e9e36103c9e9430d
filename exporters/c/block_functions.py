"""C functions of connections with many weights: a block of output channels for all steps at once.

Their placeholders are those of functions.py; @lanes@ is the number of channels of a block.
"""

from __future__ import annotations

TARGET = """
/* The output row or column of a tap that lies at `at`; -1 where there is none. */
static inline int32_t target_of(int32_t at, int32_t stride, int32_t size)
{
    return at < 0 || at % stride != 0 || at / stride >= size ? -1 : at / stride;
}
"""

TAP = """
/* Add a block of @lanes@ output channels of one tap, down and right of a pixel, at all steps. */
ICSNN_INLINE void @name@(@a@ *restrict sum, const @stored@ *@parameter@,
                         @source@, int32_t steps,
                         int32_t in_h, int32_t in_w, int32_t in_c,
                         int32_t out_h, int32_t out_w, int32_t out_c,
                         int32_t down, int32_t right, int32_t stride_h, int32_t stride_w)
{@wide@
    for (int32_t t = 0; t < steps; t++) {
        const icsnn_channel *next = event + in_h * in_w * in_c@lists@ + ICSNN_SPARE;
        for (int32_t y = 0; y < in_h; y++) {
            const int32_t out_y = target_of(y + down, stride_h, out_h);
            for (int32_t x = 0; x < in_w; x++) {
                const int32_t out_x = target_of(x + right, stride_w, out_w);
                @begin@
                if (out_y >= 0 && out_x >= 0) {
                    @add@(sum + (out_y * out_w + out_x) * out_c, weight, event, count);
                }
                @end@
            }
        }
        event = next;
        sum += out_h * out_w * out_c;
    }
}
"""

WIDE = """
#ifdef ICSNN_HOST
    int16_t weight[ICSNN_TAP_WEIGHTS]; /* as a computer adds them */
    for (int32_t i = 0; i < in_c * @lanes@; i++) {
        weight[i] = stored[i];
    }
#else
    const int8_t *weight = stored;
#endif"""

BLOCKS = """
/* A connection with many weights, all steps at once. Block by block of @lanes@ output channels and
   tap by tap, so that each weight is loaded once and few of them are needed at a time; weights
   [out_c / @lanes@][kernel_h][kernel_w][in_c][@lanes@], sums [steps][out_h][out_w][out_c];
   @reads@ */
ICSNN_INLINE void @name@(@a@ *restrict sum, const @stored@ *weight,
                         @source@, int32_t steps,
                         int32_t in_h, int32_t in_w, int32_t in_c,
                         int32_t out_h, int32_t out_w, int32_t out_c,
                         int32_t kernel_h, int32_t kernel_w, int32_t pad_h, int32_t pad_w,
                         int32_t stride_h, int32_t stride_w,
                         int32_t dilation_h, int32_t dilation_w)
{
    for (int32_t first = 0; first < out_c; first += @lanes@) {
        for (int32_t row = 0; row < kernel_h; row++) {
            for (int32_t tap = 0; tap < kernel_w; tap++) {
                @tap@(sum + first, weight, counts, event, steps,
                    in_h, in_w, in_c, out_h, out_w, out_c,
                    pad_h - dilation_h * row, pad_w - dilation_w * tap, stride_h, stride_w);
                weight += in_c * @lanes@;
            }
        }
    }
}
"""

ADD_BLOCK = """
/* Add the weights of `count` spikes, @lanes@ of each. */
ICSNN_INLINE void @name@(@a@ *restrict sum, const @w@ *weight,
                         const icsnn_channel *event, int32_t count)
{
    @add_spikes@(sum, 0, weight, 0, @lanes@, event, count, 1, @lanes@);
}
"""

ADD_BLOCK_WIDENED = """
/* Add the weights of `count` spikes, @lanes@ of each: 256 of 8 bits can't exceed int16_t. */
ICSNN_INLINE void @name@(@a@ *restrict sum, const @w@ *weight,
                         const icsnn_channel *event, int32_t count)
{
    for (int32_t first = 0; first < count; first += 256) {
        int16_t part[@lanes@] = {0};
        const int32_t group = count - first < 256 ? count - first : 256;
        @add_spikes@(part, 0, weight, 0, @lanes@, event + first, group, 1, @lanes@);
        for (int32_t i = 0; i < @lanes@; i++) {
            sum[i] += part[i];
        }
    }
}
"""
