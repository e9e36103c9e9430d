/* A convolution of spikes that reads only the weights of neurons that fired; see
   backends/torch/event_convolution.py.

   Channels come last: x [N][H][W][C] bytes that are 0 or 1, C a multiple of 8; y [N][OH][OW][O]
   float, O a multiple of 8. The weights are [O / (8 V)][KH][KW][C][8 V]: blocks of V vectors of 8
   outputs. Columns have no dilation.

   Each output is the sum of its weights in float32, in the order of rows, columns and input channels
   of the kernel, and after that the bias. A weight whose input is 0 would add 0, so leaving it out
   changes no bit.

   The spikes of an image are listed once, row by row. Those below a row of a window lie side by side
   in the list, and in the order of summation. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t channels, height, width; /* of the input */
    int64_t outputs, out_height, out_width;
    int64_t kernel[2], stride[2], padding[2];
    int64_t row_dilation;
    int64_t vectors; /* V, 1 to 8 */
    int64_t adds_one_by_one; /* weights are [C][KH][-KW][O] instead, see add_spikes */
    const float *weight;
    const float *bias; /* [O] */
} convolution_t;

enum { LANES = 8, MOST_VECTORS = 8, BYTES = 8, COLUMN_BITS = 16, COLUMN_STEP = 1 << COLUMN_BITS, ALIGNMENT = 64 };

typedef float vector_t
    __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));
typedef uint8_t bytes_t __attribute__((vector_size(BYTES)));
typedef int32_t places_t __attribute__((vector_size(BYTES * sizeof(int32_t))));

/* The spikes of an image: each as its column * C + channel. */
typedef struct {
    int32_t *spikes;
    int64_t *first; /* [H * W + 1], of each pixel */
    uint8_t set_bits[256][BYTES]; /* the places of a byte's bits */
    uint8_t bits[256];            /* their number */
} list_t;

static void fill_table(list_t *list)
{
    for (int byte = 0; byte < 256; byte++) {
        int count = 0;
        for (int bit = 0; bit < BYTES; bit++) {
            if (byte >> bit & 1) {
                list->set_bits[byte][count++] = (uint8_t)bit;
            }
        }
        list->bits[byte] = (uint8_t)count;
        while (count < BYTES) {
            list->set_bits[byte][count++] = 0;
        }
    }
}

/* All 8 places are written, and the next ones overwrite those that are too many. */
static void list_spikes(const convolution_t *c, const uint8_t *x, int64_t column_step, list_t *list)
{
    int64_t count = 0;
    for (int64_t row = 0; row < c->height; row++) {
        for (int64_t column = 0; column < c->width; column++) {
            list->first[row * c->width + column] = count;
            const int64_t at = column * c->channels;
            const uint8_t *pixel = x + row * c->width * c->channels + at;
            for (int64_t channel = 0; channel < c->channels; channel += BYTES) {
                uint64_t word;
                memcpy(&word, pixel + channel, BYTES);
                /* Byte i, 0 or 1, becomes bit i. */
                const uint64_t mask = (word * UINT64_C(0x0102040810204080)) >> 56;
                bytes_t set;
                memcpy(&set, list->set_bits[mask], BYTES);
                const places_t places =
                    __builtin_convertvector(set, places_t) +
                    (int32_t)(column * column_step + channel);
                memcpy(list->spikes + count, &places, sizeof places);
                count += list->bits[mask];
            }
        }
    }
    list->first[c->height * c->width] = count;
}

/* One block of outputs of one pixel. */
static inline __attribute__((always_inline)) void sum_window(
    const convolution_t *c, const list_t *list, const float *weight, const float *bias,
    int64_t top, int64_t left, float *y, int vectors)
{
    vector_t sum[MOST_VECTORS];
    for (int v = 0; v < vectors; v++) {
        sum[v] = (vector_t){0};
    }
    const int64_t block = vectors * LANES;
    const int64_t begin = left < 0 ? 0 : left;
    const int64_t end = left + c->kernel[1] > c->width ? c->width : left + c->kernel[1];
    for (int64_t k = 0; begin < end && k < c->kernel[0]; k++) {
        const int64_t row = top + k * c->row_dilation;
        if (row < 0 || row >= c->height) {
            continue;
        }
        const int64_t *first = list->first + row * c->width;
        const int32_t *spike = list->spikes + first[begin], *last = list->spikes + first[end];
        const int64_t origin = (k * c->kernel[1] - left) * c->channels;
        for (; spike < last; spike++) {
            const vector_t *from = (const vector_t *)(weight + (origin + *spike) * block);
            for (int v = 0; v < vectors; v++) {
                sum[v] += from[v];
            }
        }
    }
    for (int v = 0; v < vectors; v++) {
        ((vector_t *)y)[v] = sum[v] + ((const vector_t *)bias)[v];
    }
}

#define DEFINE_SUM_BLOCK(vectors)                                                                \
    static void sum_block_##vectors(const convolution_t *c, const list_t *list,                  \
                                    const float *weight, const float *bias, float *y)            \
    {                                                                                            \
        for (int64_t i = 0; i < c->out_height; i++) {                                            \
            const int64_t top = i * c->stride[0] - c->padding[0];                                \
            for (int64_t j = 0; j < c->out_width; j++) {                                         \
                const int64_t left = j * c->stride[1] - c->padding[1];                           \
                sum_window(c, list, weight, bias, top, left, y, vectors);                        \
                y += c->outputs;                                                                 \
            }                                                                                    \
        }                                                                                        \
    }

DEFINE_SUM_BLOCK(1)
DEFINE_SUM_BLOCK(2)
DEFINE_SUM_BLOCK(3)
DEFINE_SUM_BLOCK(4)
DEFINE_SUM_BLOCK(5)
DEFINE_SUM_BLOCK(6)
DEFINE_SUM_BLOCK(7)
DEFINE_SUM_BLOCK(8)

/* A kernel of 3 x 3 without strides, for few outputs: each spike is added to the 9 outputs that it
   reaches. The sums of three rows of outputs are kept, with a margin for the windows that reach over
   the border; spikes come row by row, so every output gets its weights in the same order. */
enum { SIDE = 3 };

static inline __attribute__((always_inline)) void add_row(const list_t *list, int64_t begin,
                                                          int64_t end, const float *weight,
                                                          float *const *rows, int vectors)
{
    const int64_t outputs = vectors * LANES;
    for (int64_t i = begin; i < end; i++) {
        const int32_t spike = list->spikes[i];
        const vector_t *from =
            (const vector_t *)(weight + (spike & (COLUMN_STEP - 1)) * (SIDE * SIDE * outputs));
        const int64_t to = (spike >> COLUMN_BITS) * outputs;
#pragma GCC unroll 3
        for (int k = 0; k < SIDE; k++) {
            vector_t *sums = (vector_t *)(rows[k] + to);
#pragma GCC unroll 6
            for (int v = 0; v < SIDE * vectors; v++) {
                sums[v] += from[k * SIDE * vectors + v];
            }
        }
    }
}

static inline __attribute__((always_inline)) void add_spikes(const convolution_t *c,
                                                             const list_t *list, float *sums,
                                                             float *y, int vectors)
{
    const int64_t outputs = vectors * LANES, pad = c->padding[0];
    const int64_t row_size = (c->width + 2 * SIDE + 2 * c->padding[1]) * outputs;
    float *spare = sums + SIDE * row_size; /* for rows that are not outputs */
    memset(sums, 0, (size_t)(SIDE * row_size) * sizeof(float));
    const int64_t last = c->out_height + SIDE - 1 - pad;
    for (int64_t row = -pad; row < last; row++) {
        /* Output row + pad - k gets row k of the kernel. */
        if (row >= 0 && row < c->height) {
            float *rows[SIDE];
            for (int64_t k = 0; k < SIDE; k++) {
                const int64_t out = row + pad - k;
                const int is_output = out >= 0 && out < c->out_height;
                rows[k] = (is_output ? sums + out % SIDE * row_size : spare) +
                          c->padding[1] * outputs;
            }
            add_row(list, list->first[row * c->width], list->first[(row + 1) * c->width], c->weight,
                    rows, vectors);
        }
        const int64_t done = row + pad - (SIDE - 1);
        if (done >= 0) {
            const vector_t *bias = (const vector_t *)c->bias;
            vector_t *from =
                (vector_t *)(sums + done % SIDE * row_size + (SIDE - 1) * outputs);
            vector_t *to = (vector_t *)(y + done * c->out_width * outputs);
            for (int64_t i = 0; i < c->out_width; i++, from += vectors, to += vectors) {
#pragma GCC unroll 2
                for (int v = 0; v < vectors; v++) {
                    to[v] = from[v] + bias[v];
                }
            }
            memset(sums + done % SIDE * row_size, 0, (size_t)row_size * sizeof(float));
        }
    }
}

static void add_spikes_1(const convolution_t *c, const list_t *list, float *sums, float *y)
{
    add_spikes(c, list, sums, y, 1);
}

static void add_spikes_2(const convolution_t *c, const list_t *list, float *sums, float *y)
{
    add_spikes(c, list, sums, y, 2);
}

typedef void (*sum_block_t)(const convolution_t *, const list_t *, const float *, const float *,
                            float *);

static const sum_block_t SUM_BLOCK[MOST_VECTORS] = {sum_block_1, sum_block_2, sum_block_3,
                                                    sum_block_4, sum_block_5, sum_block_6,
                                                    sum_block_7, sum_block_8};

/* The number of spikes among n bytes. */
int64_t count_spikes(const uint8_t *x, int64_t n)
{
    int64_t count = 0;
    while (n > 0) {
        const int64_t some = n < 255 * 32 ? n : 255 * 32;
        uint32_t part = 0;
        for (int64_t i = 0; i < some; i++) {
            part += x[i];
        }
        count += part;
        x += some;
        n -= some;
    }
    return count;
}

/* Samples `begin` to `end`; returns 0, or 1 if there is no memory. */
int convolve_events(const convolution_t *c, const uint8_t *x, float *y, int64_t begin, int64_t end)
{
    const int64_t pixels = c->height * c->width, values = pixels * c->channels;
    const int64_t out_values = c->out_height * c->out_width * c->outputs;
    const int64_t block = c->vectors * LANES;
    const int64_t block_weights = c->kernel[0] * c->kernel[1] * c->channels * block;
    list_t list = {.spikes = malloc((size_t)(values + BYTES) * sizeof(int32_t)),
                   .first = malloc((size_t)(pixels + 1) * sizeof(int64_t))};
    const int64_t row = (c->width + 2 * SIDE + 2 * c->padding[1]) * block;
    float *memory = malloc((size_t)((SIDE + 1) * row) * sizeof(float) + ALIGNMENT);
    const int missing = list.spikes == NULL || list.first == NULL || memory == NULL;
    if (!missing) {
        fill_table(&list);
        float *sums = memory + (ALIGNMENT - (uintptr_t)memory % ALIGNMENT) / sizeof(float);
        for (int64_t n = begin; n < end; n++) {
            if (c->adds_one_by_one) {
                list_spikes(c, x + n * values, COLUMN_STEP, &list);
                (c->vectors == 1 ? add_spikes_1 : add_spikes_2)(c, &list, sums, y + n * out_values);
                continue;
            }
            list_spikes(c, x + n * values, c->channels, &list);
            for (int64_t o = 0; o < c->outputs; o += block) {
                SUM_BLOCK[c->vectors - 1](c, &list, c->weight + o / block * block_weights,
                                          c->bias + o, y + n * out_values + o);
            }
        }
    }
    free(list.spikes);
    free(list.first);
    free(memory);
    return missing;
}
