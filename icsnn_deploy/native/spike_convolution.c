/* A convolution of spikes with 8-bit weights on processors with AVX2; see
   backends/torch/spike_kernel.py.

   Channels come last: x [N][H][W][C] bytes that are 0 or 1, y [N][OH][OW][O] float, C a multiple of 4,
   O of 8. The weights are [O / 8][runs][8][4]: of 8 outputs, for 4 inputs that lie side by side.

   vpmaddubsw multiplies bytes and adds the products in pairs to 16 bits; these are added up in 16
   bits: 32 products in two instructions, where sums of 32 bits take three. 128 pairs of weights from
   -127 to 127 stay within 16 bits (128 * 2 * 127 = 32512); after as many, the sums go to 32 bits,
   unless the caller knows that 16 bits hold them all. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t channels, height, width; /* of the input */
    int64_t outputs, out_height, out_width;
    int64_t kernel[2], stride[2], padding[2], dilation[2];
    const int8_t *weight;
    const int32_t *bias; /* [O] */
    int64_t in_16_bits;  /* 16 bits hold the sum of a whole window's pairs, whatever the spikes are */
} convolution_t;

/* Whether the processor multiplies bytes and adds them up in one instruction. */
int has_dot_products(void)
{
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
    return 1;
#else
    return 0;
#endif
}

#ifdef __AVX2__

#include <immintrin.h>

enum { PIXELS = 4, LANES = 8, INPUTS = 4, MOST_STEPS = 128, GROUP_BYTES = 1 << 17 };

/* Inputs that lie side by side below a window, in all channels: `runs` of `length` bytes each. */
typedef struct {
    int64_t runs, length;
    int64_t *at; /* of each run, in bytes after the first */
} window_t;

/* The samples of a group with their padding, and where the window of each pixel begins. */
typedef struct {
    int64_t height, width; /* with padding */
    int64_t samples, pixels;
    uint8_t *values;
    int64_t *at;
} group_t;

static inline void add_up(__m256i *total, __m256i *sum, int vectors)
{
    const __m256i ones = _mm256_set1_epi16(1);
    for (int i = 0; i < PIXELS * vectors; i++) {
        total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(sum[i], ones));
        sum[i] = _mm256_setzero_si256();
    }
}

/* `vectors` times 8 outputs of 4 pixels. `once`: 16 bits hold the sums. */
static inline __attribute__((always_inline)) void convolve_block(
    const window_t *window, const uint8_t *const *x, const int8_t *weight, int64_t next_vector,
    const int32_t *bias, float *const *y, int vectors, int once)
{
    __m256i sum[PIXELS * 2], total[PIXELS * 2];
    for (int i = 0; i < PIXELS * vectors; i++) {
        sum[i] = _mm256_setzero_si256();
        total[i] = _mm256_loadu_si256((const __m256i *)(bias + i % vectors * LANES));
    }
    int64_t steps = 0;
    for (int64_t run = 0; run < window->runs; run++) {
        int64_t at = window->at[run];
        const int64_t end = at + window->length;
        while (at < end) {
            const int64_t left = (end - at) / INPUTS, room = MOST_STEPS - steps;
            const int64_t count = once || left < room ? left : room;
            for (int64_t i = 0; i < count; i++) {
                __m256i w0 = _mm256_loadu_si256((const __m256i *)weight), w1 = w0;
                if (vectors > 1) {
                    w1 = _mm256_loadu_si256((const __m256i *)(weight + next_vector));
                }
                /* Keeps the weights in registers: reading them for each pixel takes the time of
                   the products. */
                __asm__("" : "+x"(w0), "+x"(w1));
#pragma GCC unroll 4
                for (int p = 0; p < PIXELS; p++) {
                    int32_t four;
                    memcpy(&four, x[p] + at, sizeof four);
                    const __m256i inputs = _mm256_set1_epi32(four);
                    sum[p * vectors] = _mm256_add_epi16(sum[p * vectors],
                                                        _mm256_maddubs_epi16(inputs, w0));
                    if (vectors > 1) {
                        sum[p * vectors + 1] = _mm256_add_epi16(
                            sum[p * vectors + 1], _mm256_maddubs_epi16(inputs, w1));
                    }
                }
                weight += LANES * INPUTS;
                at += INPUTS;
            }
            steps += count;
            if (!once && steps == MOST_STEPS) {
                add_up(total, sum, vectors);
                steps = 0;
            }
        }
    }
    add_up(total, sum, vectors);
    for (int i = 0; i < PIXELS * vectors; i++) {
        _mm256_storeu_ps(y[i / vectors] + i % vectors * LANES, _mm256_cvtepi32_ps(total[i]));
    }
}

/* All outputs of a group's pixels. */
static void convolve_group(const convolution_t *c, const window_t *window, const group_t *group,
                           float *y)
{
    const int64_t vector = window->runs * window->length * LANES;
    const int64_t vectors = c->outputs / LANES;
    for (int64_t v = 0; v < vectors; v += 2) {
        const int8_t *weight = c->weight + v * vector;
        for (int64_t first = 0; first < group->pixels; first += PIXELS) {
            const uint8_t *x[PIXELS];
            float *out[PIXELS];
            for (int64_t p = 0; p < PIXELS; p++) { /* the last pixel stands in for missing ones */
                const int64_t pixel = first + p < group->pixels ? first + p : group->pixels - 1;
                x[p] = group->values + group->at[pixel];
                out[p] = y + pixel * c->outputs + v * LANES;
            }
            const int32_t *bias = c->bias + v * LANES;
            if (v + 1 == vectors) {
                convolve_block(window, x, weight, vector, bias, out, 1, 0);
            } else if (c->in_16_bits) {
                convolve_block(window, x, weight, vector, bias, out, 2, 1);
            } else {
                convolve_block(window, x, weight, vector, bias, out, 2, 0);
            }
        }
    }
}

static void describe_window(const convolution_t *c, int64_t padded_width, window_t *window)
{
    const int64_t joined = c->dilation[1] == 1; /* the columns of a window lie side by side */
    const int64_t columns = joined ? 1 : c->kernel[1];
    window->runs = c->kernel[0] * columns;
    window->length = (joined ? c->kernel[1] : 1) * c->channels;
    for (int64_t i = 0; i < window->runs; i++) {
        const int64_t row = i / columns * c->dilation[0], column = i % columns * c->dilation[1];
        window->at[i] = (row * padded_width + column) * c->channels;
    }
}

static void place_pixels(const convolution_t *c, group_t *group)
{
    int64_t pixel = 0;
    for (int64_t n = 0; n < group->samples; n++) {
        for (int64_t i = 0; i < c->out_height; i++) {
            for (int64_t j = 0; j < c->out_width; j++) {
                const int64_t row = n * group->height + i * c->stride[0];
                group->at[pixel++] = (row * group->width + j * c->stride[1]) * c->channels;
            }
        }
    }
}

/* Copy samples into the middle of the padding, which stays 0. */
static void pad(const convolution_t *c, const uint8_t *x, int64_t samples, group_t *group)
{
    const size_t row = (size_t)(c->width * c->channels);
    for (int64_t n = 0; n < samples; n++) {
        for (int64_t i = 0; i < c->height; i++) {
            const int64_t to = (n * group->height + i + c->padding[0]) * group->width;
            memcpy(group->values + (to + c->padding[1]) * c->channels,
                   x + (n * c->height + i) * (int64_t)row, row);
        }
    }
}

int can_convolve_spikes(void)
{
    return 1;
}

/* Samples `begin` to `end`; returns 0, or 1 if there is no memory. */
int convolve_spikes(const convolution_t *c, const uint8_t *x, float *y, int64_t begin, int64_t end)
{
    const int64_t pixels = c->out_height * c->out_width;
    group_t group = {.height = c->height + 2 * c->padding[0],
                     .width = c->width + 2 * c->padding[1]};
    const int64_t sample = group.height * group.width * c->channels;
    group.samples = GROUP_BYTES / sample > 1 ? GROUP_BYTES / sample : 1;
    window_t window = {.at = malloc((size_t)(c->kernel[0] * c->kernel[1]) * sizeof(int64_t))};
    group.values = calloc((size_t)group.samples, (size_t)sample);
    group.at = malloc((size_t)(group.samples * pixels) * sizeof(int64_t));
    const int missing = window.at == NULL || group.values == NULL || group.at == NULL;
    if (!missing) {
        describe_window(c, group.width, &window);
        place_pixels(c, &group);
        for (int64_t n = begin; n < end; n += group.samples) {
            const int64_t samples = end - n < group.samples ? end - n : group.samples;
            group.pixels = samples * pixels;
            pad(c, x + n * c->height * c->width * c->channels, samples, &group);
            convolve_group(c, &window, &group, y + n * pixels * c->outputs);
        }
    }
    free(window.at);
    free(group.values);
    free(group.at);
    return missing;
}

#else

int can_convolve_spikes(void)
{
    return 0;
}

int convolve_spikes(const convolution_t *c, const uint8_t *x, float *y, int64_t begin, int64_t end)
{
    (void)c, (void)x, (void)y, (void)begin, (void)end;
    return 1;
}

#endif
