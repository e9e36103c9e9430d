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

static void record_layers(const icsnn_state *s, const icsnn_job *job, int64_t t, int64_t sample)
{
    for (int32_t layer = 0; layer < ICSNN_LAYERS; layer++) {
        const icsnn_layer *size = &icsnn_layers[layer];
        const int64_t neurons = (int64_t)size->height * size->width * size->channels;
        const int64_t row = (t * job->batch + sample) * neurons;
        if (job->spikes != NULL) {
            icsnn_add_spikes(s, layer, job->spikes[layer] + row);
        }
        if (job->counts != NULL) {
            icsnn_add_spikes(s, layer, job->counts[layer] + sample * neurons);
        }
        if (job->potentials != NULL && job->potentials[layer] != NULL) {
            icsnn_potentials(s, layer, job->potentials[layer] + row);
        }
    }
}

/* Run the samples first..last-1; arrays that are recorded into are zero before.
   events: room for ICSNN_INPUTS numbers. */
void icsnn_run_samples(icsnn_state *s, const icsnn_job *job, uint32_t *events, int64_t first,
                       int64_t last)
{
    for (int64_t sample = first; sample < last; sample++) {
        icsnn_init(s);
        for (int64_t t = 0; t < ICSNN_STEPS; t++) {
#ifdef ICSNN_EVENT_INPUT
            const uint8_t *spikes = job->inputs;
            uint32_t count = 0;
            spikes += (t * job->batch + sample) * ICSNN_INPUTS;
            for (uint32_t i = 0; i < ICSNN_INPUTS; i++) {
                if (spikes[i] != 0) {
                    events[count++] = i;
                }
            }
            icsnn_step(s, events, count);
#else
            (void)events;
            icsnn_step(s, (const icsnn_input *)job->inputs + sample * ICSNN_INPUTS);
#endif
            memcpy(job->logits + (t * job->batch + sample) * ICSNN_OUTPUTS, s->logits,
                   sizeof s->logits);
            record_layers(s, job, t, sample);
        }
    }
}
