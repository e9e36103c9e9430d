/* One population through its time steps in one pass over memory; see backends/torch/population.py.

   For each neuron and step, in this order and without contraction:

       I = x[0] + x[1] + ...     each x: a current, or scale * spikes + shift
       u = v + I
       s = 1 if u >= v_threshold else 0
       v = u - v_threshold * s, or v_reset where s

   Values are [steps][rows][channels] in memory, parameters [channels]. Where channels do not come
   last in memory, or each neuron has parameters of its own, every neuron of a sample is a channel. */

#include <stdint.h>
#include <string.h>

enum { SPAN = 1024, MOST_TERMS = 4 };

typedef struct {
    const void *values;  /* float, or bytes that are 0 or 1 */
    int64_t is_bytes;
    int64_t step_size;   /* values from one step to the next; 0: the same at every step */
    const float *scale;  /* NULL: the values are the current */
    const float *shift;
} term_t;

typedef struct {
    int64_t steps, rows, channels;
    int64_t terms;
    term_t term[MOST_TERMS];
    const float *v_threshold;
    const float *v_reset; /* NULL: soft reset */
    const float *v_init;  /* NULL: v holds the potentials before the first step */
    float *v;             /* the potentials after the last step */
    float *spikes;        /* of spikes and spike_bytes one is NULL */
    uint8_t *spike_bytes;
    float *u;             /* potentials before the reset; NULL: not wanted */
} population_t;

/* The parameters of the neurons of a span, one for each. */
typedef struct {
    const float *v_threshold, *v_reset, *v_init;
    const float *scale[MOST_TERMS], *shift[MOST_TERMS];
} parameters_t;

enum { MOST_PARAMETERS = 3 + 2 * MOST_TERMS };

typedef struct {
    float values[MOST_PARAMETERS][SPAN];
} tiles_t;

#define ADD_TO_FIRST(current)                                                                    \
    if (first == NULL) {                                                                         \
        for (int64_t i = 0; i < n; i++) {                                                        \
            sum[i] = current;                                                                    \
        }                                                                                        \
    } else {                                                                                     \
        for (int64_t i = 0; i < n; i++) {                                                        \
            sum[i] = first[i] + (current);                                                       \
        }                                                                                        \
    }

/* A term's current of n neurons at step t, added to `first` if that is not NULL. Returns `sum`, or
   where nothing has to be computed, the place of the current. */
static const float *add_term(const term_t *term, int64_t t, int64_t at, const float *scale,
                             const float *shift, const float *first, float *sum, int64_t n)
{
    const int64_t begin = t * term->step_size + at;
    const float *floats = (const float *)term->values + begin;
    const uint8_t *bytes = (const uint8_t *)term->values + begin;
    if (term->is_bytes && scale != NULL) {
        ADD_TO_FIRST((float)bytes[i] * scale[i] + shift[i])
    } else if (term->is_bytes) {
        ADD_TO_FIRST((float)bytes[i])
    } else if (scale != NULL) {
        ADD_TO_FIRST(floats[i] * scale[i] + shift[i])
    } else if (first == NULL) {
        return floats;
    } else {
        ADD_TO_FIRST(floats[i])
    }
    return sum;
}

static const float *sum_terms(const population_t *p, const parameters_t *of, int64_t t, int64_t at,
                              float *sum, int64_t n)
{
    const float *first = NULL;
    for (int64_t k = 0; k < p->terms; k++) {
        first = add_term(&p->term[k], t, at, of->scale[k], of->shift[k], first, sum, n);
    }
    return first;
}

/* One step of n neurons. Bytes are written in the loop that compares: a second pass that makes them of
   floats would take as long again. */
#define DEFINE_FIRE(name, spike_t, after_spike)                                                  \
    static void name(float *restrict v, const float *restrict current,                           \
                     const float *restrict v_threshold, const float *restrict v_reset,           \
                     spike_t *restrict spikes, int64_t n)                                        \
    {                                                                                            \
        (void)v_reset;                                                                           \
        for (int64_t i = 0; i < n; i++) {                                                        \
            const float u = v[i] + current[i];                                                   \
            const int fires = u >= v_threshold[i];                                               \
            spikes[i] = (spike_t)fires;                                                          \
            v[i] = fires ? (after_spike) : u;                                                    \
        }                                                                                        \
    }

DEFINE_FIRE(fire_soft, float, u - v_threshold[i])
DEFINE_FIRE(fire_soft_bytes, uint8_t, u - v_threshold[i])
DEFINE_FIRE(fire_hard, float, v_reset[i])
DEFINE_FIRE(fire_hard_bytes, uint8_t, v_reset[i])

static void fire(const population_t *p, const parameters_t *of, float *v, const float *current,
                 int64_t at, int64_t n)
{
    if (p->spike_bytes != NULL) {
        (p->v_reset == NULL ? fire_soft_bytes : fire_hard_bytes)(
            v, current, of->v_threshold, of->v_reset, p->spike_bytes + at, n);
    } else {
        (p->v_reset == NULL ? fire_soft : fire_hard)(
            v, current, of->v_threshold, of->v_reset, p->spikes + at, n);
    }
}

/* n <= SPAN neurons that lie side by side from `at` on, through all steps. */
static void run_span(const population_t *p, const parameters_t *of, int64_t at, int64_t n)
{
    const int64_t step = p->rows * p->channels;
    const size_t size = (size_t)n * sizeof(float);
    float v[SPAN], sum[SPAN];
    memcpy(v, of->v_init != NULL ? of->v_init : p->v + at, size);
    for (int64_t t = 0; t < p->steps; t++) {
        const int64_t here = t * step + at;
        const float *current = sum_terms(p, of, t, at, sum, n);
        if (p->u != NULL) {
            float *u = p->u + here;
            for (int64_t i = 0; i < n; i++) {
                u[i] = v[i] + current[i];
            }
        }
        fire(p, of, v, current, here, n);
    }
    memcpy(p->v + at, v, size);
}

/* All channels of a parameter, `rows` times. */
static const float *tiled(float *tile, const float *values, int64_t channels, int64_t rows)
{
    if (values == NULL) {
        return NULL;
    }
    for (int64_t r = 0; r < rows; r++) {
        memcpy(tile + r * channels, values, (size_t)channels * sizeof(float));
    }
    return tile;
}

/* The parameters from channel c on. */
static const float *offset(float *tile, const float *values, int64_t c, int64_t unused)
{
    (void)tile, (void)unused;
    return values == NULL ? NULL : values + c;
}

typedef const float *(*spread_t)(float *, const float *, int64_t, int64_t);

/* Every parameter of the population, spread over the neurons of a span by one rule. */
static parameters_t spread(const population_t *p, tiles_t *tiles, spread_t rule, int64_t a,
                           int64_t b)
{
    parameters_t of;
    of.v_threshold = rule(tiles->values[0], p->v_threshold, a, b);
    of.v_reset = rule(tiles->values[1], p->v_reset, a, b);
    of.v_init = rule(tiles->values[2], p->v_init, a, b);
    for (int64_t k = 0; k < p->terms; k++) {
        of.scale[k] = rule(tiles->values[3 + 2 * k], p->term[k].scale, a, b);
        of.shift[k] = rule(tiles->values[4 + 2 * k], p->term[k].shift, a, b);
    }
    return of;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Few channels: a span is several rows. */
static void run_whole_rows(const population_t *p, int64_t begin, int64_t end)
{
    tiles_t tiles;
    const int64_t channels = p->channels, rows = SPAN / channels;
    const parameters_t of = spread(p, &tiles, tiled, channels, rows);
    for (int64_t r = begin; r < end; r += rows) {
        run_span(p, &of, r * channels, smaller(rows, end - r) * channels);
    }
}

/* Many channels: a span is a part of a row. */
static void run_parts_of_rows(const population_t *p, int64_t begin, int64_t end)
{
    tiles_t unused;
    for (int64_t c = 0; c < p->channels; c += SPAN) {
        const parameters_t of = spread(p, &unused, offset, c, 0);
        for (int64_t r = begin; r < end; r++) {
            run_span(p, &of, r * p->channels + c, smaller(SPAN, p->channels - c));
        }
    }
}

/* Rows `begin` to `end` of a population. */
void run_population(const population_t *p, int64_t begin, int64_t end)
{
    if (p->channels <= SPAN / 2) {
        run_whole_rows(p, begin, end);
    } else {
        run_parts_of_rows(p, begin, end);
    }
}
