/* One population through all T steps, forward and backward; see calibration/surrogate.py.

   Arrays are [steps][rows][channels][inner]: channels last in memory if inner is 1. The current has
   one step only if it is the same at every step. Everything is in units of the threshold. */

#include <stdint.h>
#include <string.h>

enum { SPAN = 1024, FLUSH = 64 };

typedef struct {
    int64_t steps, rows, channels, inner;
    int64_t current_step; /* floats from one step of the current to the next; 0: the same */
} shape_t;

static int64_t step_size(const shape_t *shape)
{
    return shape->rows * shape->channels * shape->inner;
}

/* n neurons that lie side by side; v_init and rho have a value for each. */
static void forward_span(const shape_t *shape, const float *restrict current, float *restrict u,
                         float *restrict y, const float *restrict v_init,
                         const float *restrict rho, int64_t n)
{
    const int64_t step = step_size(shape);
    float v[SPAN];
    memcpy(v, v_init, (size_t)n * sizeof(float));
    for (int64_t t = 0; t < shape->steps; t++) {
        for (int64_t i = 0; i < n; i++) {
            const float potential = v[i] + current[i];
            const float spike = (float)(potential >= 1.0f);
            u[i] = potential;
            v[i] = potential - spike;
            y[i] = spike * rho[i];
        }
        current += shape->current_step;
        u += step;
        y += step;
    }
}

/* The gradients of v_init and rho are added to those of each neuron. */
static void backward_span(const shape_t *shape, const float *restrict u,
                          const float *restrict outer, float *restrict of_current,
                          float *restrict of_v_init, float *restrict of_rho,
                          const float *restrict rho, int64_t n)
{
    const int64_t step = step_size(shape);
    const size_t bytes = (size_t)n * sizeof(float);
    float of_v[SPAN], sum[SPAN];
    memset(of_v, 0, bytes);
    memset(sum, 0, bytes);
    for (int64_t t = shape->steps; t-- > 0;) {
        const float *restrict potential = u + t * step, *restrict gradient = outer + t * step;
        for (int64_t i = 0; i < n; i++) {
            const float above = potential[i] - 1.0f;
            const float distance = above < 0.0f ? -above : above;
            const float inside = 1.0f - distance;
            const float slope = inside > 0.0f ? inside : 0.0f;
            const float spike = (float)(above >= 0.0f);
            of_rho[i] += spike * gradient[i];
            of_v[i] += slope * (gradient[i] * rho[i] - of_v[i]);
            sum[i] += of_v[i];
        }
        if (shape->current_step) {
            memcpy(of_current + t * step, of_v, bytes);
        }
    }
    if (!shape->current_step) {
        memcpy(of_current, sum, bytes);
    }
    for (int64_t i = 0; i < n; i++) {
        of_v_init[i] += of_v[i];
    }
}

/* Channels last: rows are put together to spans; `tiles` has SPAN values of each channel in turn. */
static int64_t rows_per_span(const shape_t *shape)
{
    return shape->channels <= SPAN ? SPAN / shape->channels : 0;
}

static void tile(float *tiled, const float *values, int64_t channels, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++) {
        memcpy(tiled + r * channels, values, (size_t)channels * sizeof(float));
    }
}

static void fill(float *filled, float value, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        filled[i] = value;
    }
}

/* Rows `begin` to `end`; v_init and rho are [channels]. */
void if_forward(const shape_t *shape, const float *current, float *u, float *y,
                const float *v_init, const float *rho, int64_t begin, int64_t end)
{
    const int64_t row = shape->channels * shape->inner;
    float starts[SPAN], amplitudes[SPAN];
    if (shape->inner == 1 && rows_per_span(shape)) {
        const int64_t rows = rows_per_span(shape);
        tile(starts, v_init, shape->channels, rows);
        tile(amplitudes, rho, shape->channels, rows);
        for (int64_t r = begin; r < end; r += rows) {
            const int64_t n = (r + rows < end ? rows : end - r) * row, at = r * row;
            forward_span(shape, current + at, u + at, y + at, starts, amplitudes, n);
        }
        return;
    }
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < shape->channels; c++) {
            const int64_t most = shape->inner < SPAN ? shape->inner : SPAN;
            fill(starts, v_init[c], most);
            fill(amplitudes, rho[c], most);
            for (int64_t start = 0; start < shape->inner; start += SPAN) {
                const int64_t left = shape->inner - start, n = left < SPAN ? left : SPAN;
                const int64_t at = r * row + c * shape->inner + start;
                forward_span(shape, current + at, u + at, y + at, starts, amplitudes, n);
            }
        }
    }
}

/* Add the sums over neurons to those of their channels, and clear them. */
static void flush(double *by_channel, float *by_neuron, int64_t channels, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        by_channel[i % channels] += by_neuron[i];
        by_neuron[i] = 0.0f;
    }
}

/* The same rows backward. The gradients of v_init and rho are added to double [channels] each. */
void if_backward(const shape_t *shape, const float *u, const float *outer, float *of_current,
                 const float *rho, double *of_v_init, double *of_rho, int64_t begin, int64_t end)
{
    const int64_t row = shape->channels * shape->inner;
    float amplitudes[SPAN], sum_v_init[SPAN], sum_rho[SPAN];
    memset(sum_v_init, 0, sizeof sum_v_init);
    memset(sum_rho, 0, sizeof sum_rho);
    if (shape->inner == 1 && rows_per_span(shape)) {
        const int64_t rows = rows_per_span(shape);
        int64_t spans = 0;
        tile(amplitudes, rho, shape->channels, rows);
        for (int64_t r = begin; r < end; r += rows) {
            const int64_t n = (r + rows < end ? rows : end - r) * row, at = r * row;
            backward_span(shape, u + at, outer + at, of_current + at, sum_v_init, sum_rho,
                          amplitudes, n);
            if (++spans % FLUSH == 0 || r + rows >= end) {
                flush(of_v_init, sum_v_init, shape->channels, rows * row);
                flush(of_rho, sum_rho, shape->channels, rows * row);
            }
        }
        return;
    }
    for (int64_t r = begin; r < end; r++) {
        for (int64_t c = 0; c < shape->channels; c++) {
            const int64_t most = shape->inner < SPAN ? shape->inner : SPAN;
            fill(amplitudes, rho[c], most);
            for (int64_t start = 0; start < shape->inner; start += SPAN) {
                const int64_t left = shape->inner - start, n = left < SPAN ? left : SPAN;
                const int64_t at = r * row + c * shape->inner + start;
                backward_span(shape, u + at, outer + at, of_current + at, sum_v_init, sum_rho,
                              amplitudes, n);
            }
            flush(of_v_init + c, sum_v_init, 1, most);
            flush(of_rho + c, sum_rho, 1, most);
        }
    }
}
