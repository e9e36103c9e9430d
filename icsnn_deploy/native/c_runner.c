/* Runs an exported C program on a batch of samples and records it; compiled together with it. */
#include "inspect.h"
#include "network.h"

#include <string.h>

typedef struct {
    int64_t batch;
    const void *inputs;        /* icsnn_input [B][ICSNN_INPUTS]; spikes: uint8 [T][B][ICSNN_INPUTS] */
    uint8_t *const *spikes;    /* of each population uint8 [T][B][neurons], or NULL */
    uint8_t *const *counts;    /* of each population uint8 [B][neurons], or NULL */
    int32_t *const *potentials; /* of each population int32 [T][B][neurons], or NULL */
    int32_t *logits;           /* sums after each step, [T][B][ICSNN_OUTPUTS] */
} icsnn_job;

int64_t icsnn_state_bytes(void)
{
    return (int64_t)sizeof(icsnn_state);
}

int64_t icsnn_events_size(void)
{
    return (int64_t)ICSNN_TOGETHER * ICSNN_INPUTS;
}

/* Record the step t, number `row` of those that were run together. */
static void record_step(const icsnn_state *s, const icsnn_job *job, int64_t t, int32_t row,
                        int64_t sample)
{
    const int32_t *logits = s->logits;
#if ICSNN_TOGETHER > 1
    logits = s->logits_after + (int64_t)row * ICSNN_OUTPUTS;
#endif
    memcpy(job->logits + (t * job->batch + sample) * ICSNN_OUTPUTS, logits, sizeof s->logits);
    for (int32_t layer = 0; layer < ICSNN_LAYERS; layer++) {
        const icsnn_layer *size = &icsnn_layers[layer];
        const int64_t neurons = (int64_t)size->height * size->width * size->channels;
        const int64_t place = (t * job->batch + sample) * neurons;
        if (job->spikes != NULL) {
            icsnn_add_spikes(s, layer, row, job->spikes[layer] + place);
        }
        if (job->counts != NULL) {
            icsnn_add_spikes(s, layer, row, job->counts[layer] + sample * neurons);
        }
        if (job->potentials != NULL && job->potentials[layer] != NULL) {
            icsnn_potentials(s, layer, job->potentials[layer] + place);
        }
    }
}

#ifdef ICSNN_EVENT_INPUT
/* List the input spikes of `steps` steps of a sample from step t on. */
static void list_events(const icsnn_job *job, int64_t t, int64_t steps, int64_t sample,
                        uint32_t *events, uint32_t *counts)
{
    for (int64_t row = 0; row < steps; row++) {
        const uint8_t *spikes = job->inputs;
        spikes += ((t + row) * job->batch + sample) * ICSNN_INPUTS;
        counts[row] = 0;
        for (uint32_t i = 0; i < ICSNN_INPUTS; i++) {
            if (spikes[i] != 0) {
                *events++ = i;
                counts[row]++;
            }
        }
    }
}
#endif

/* Run the samples first..last-1; arrays that are recorded into are zero before. Potentials are those
   after a step: with them, steps are run one by one.
   events: room for ICSNN_TOGETHER * ICSNN_INPUTS numbers. */
void icsnn_run_samples(icsnn_state *s, const icsnn_job *job, uint32_t *events, int64_t first,
                       int64_t last)
{
    const int32_t together = job->potentials != NULL ? 1 : ICSNN_TOGETHER;
    for (int64_t sample = first; sample < last; sample++) {
        icsnn_init(s);
        for (int64_t t = 0; t < ICSNN_STEPS; t = s->step) {
#ifdef ICSNN_EVENT_INPUT
            uint32_t counts[ICSNN_TOGETHER];
            const int64_t left = ICSNN_STEPS - t;
            list_events(job, t, left < together ? left : together, sample, events, counts);
            icsnn_steps(s, events, counts, together);
#else
            (void)events;
            icsnn_steps(s, (const icsnn_input *)job->inputs + sample * ICSNN_INPUTS, together);
#endif
            for (int32_t row = 0; t + row < s->step; row++) {
                record_step(s, job, t + row, row, sample);
            }
        }
    }
}
