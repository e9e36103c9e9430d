/* A network event by event, without time steps inside of it; see backends/event_driven.py.

   A spike is an event. Events are taken from a queue in the order in which they were put in. Each
   adds its weights to the neurons that it reaches, one connection of its source after the other; a
   neuron that is not below its threshold after that fires once, and its event goes to the end of
   the queue. At the beginning of a step the neurons of a layer with biases get them in the same way.

   Channels come last: potentials [H][W][C], weights [C_in][K_y][K_x][C_out]. */

#include <stdint.h>
#include <stdlib.h>

typedef struct {
    int64_t target;      /* number of a layer */
    int64_t pool;        /* side of the windows whose spikes are summed */
    int64_t kernel[2], stride[2], padding[2];
    const int32_t *weight;
} connection_t;

typedef struct {
    int64_t height, width, channels;
    int64_t connections; /* that its spikes take */
    const connection_t *connection;
    const int64_t *v_init, *v_threshold; /* [H][W][C]; of the input, layer 0, NULL */
    const int64_t *bias;                 /* NULL: none */
    const int64_t *v_reset;                     /* NULL: the threshold is subtracted */
    int64_t offset;                             /* of its first neuron among all */
} layer_t;

typedef struct {
    int64_t layers, steps, neurons; /* neurons of all layers but the input */
    const layer_t *layer;
} network_t;

typedef struct {
    int32_t layer, neuron;
} event_t;

typedef struct {
    event_t *events;
    int64_t capacity, first, count;
} queue_t;

/* Returns 0 where memory is exhausted. */
static int put(queue_t *queue, int64_t layer, int64_t neuron)
{
    if (queue->count == queue->capacity) {
        const int64_t capacity = queue->capacity ? 2 * queue->capacity : 4096;
        event_t *events = malloc((size_t)capacity * sizeof(event_t));
        if (events == NULL) {
            return 0;
        }
        for (int64_t i = 0; i < queue->count; i++) {
            events[i] = queue->events[(queue->first + i) % queue->capacity];
        }
        free(queue->events);
        queue->events = events;
        queue->capacity = capacity;
        queue->first = 0;
    }
    const int64_t place = (queue->first + queue->count++) % queue->capacity;
    queue->events[place].layer = (int32_t)layer;
    queue->events[place].neuron = (int32_t)neuron;
    return 1;
}

/* Add to n neurons side by side, and let those that reach their threshold fire. */
static int add(const layer_t *layer, int64_t number, int64_t neuron, const int32_t *weight,
               const int64_t *bias, int64_t n, int64_t *v, int32_t *counts, queue_t *queue)
{
    int64_t *own = v + layer->offset + neuron;
    const int64_t *threshold = layer->v_threshold + neuron;
    for (int64_t i = 0; i < n; i++) {
        own[i] += weight != NULL ? weight[i] : bias[i];
        if (own[i] >= threshold[i]) {
            own[i] = layer->v_reset != NULL ? layer->v_reset[neuron + i] : own[i] - threshold[i];
            counts[layer->offset + neuron + i]++;
            if (!put(queue, number, neuron + i)) {
                return 0;
            }
        }
    }
    return 1;
}

/* One event through one connection. Returns the synaptic operations, -1 where memory is exhausted. */
static int64_t send(const network_t *net, const connection_t *by, const layer_t *source,
                    int64_t neuron, int64_t *v, int32_t *counts, queue_t *queue)
{
    const layer_t *target = &net->layer[by->target];
    const int64_t channel = neuron % source->channels, pixel = neuron / source->channels;
    const int64_t y = pixel / source->width / by->pool, x = pixel % source->width / by->pool;
    const int64_t outputs = target->channels, taps = by->kernel[0] * by->kernel[1];
    const int32_t *weight = by->weight + channel * taps * outputs;
    int64_t operations = 0;
    if (y >= source->height / by->pool || x >= source->width / by->pool) {
        return 0; /* outside of the whole windows */
    }
    for (int64_t row = 0; row < target->height; row++) {
        const int64_t ky = y + by->padding[0] - row * by->stride[0];
        if (ky < 0) {
            break;
        }
        if (ky >= by->kernel[0]) {
            const int64_t skipped = (ky - by->kernel[0]) / by->stride[0];
            row += skipped;
            continue;
        }
        for (int64_t column = 0; column < target->width; column++) {
            const int64_t kx = x + by->padding[1] - column * by->stride[1];
            if (kx < 0) {
                break;
            }
            if (kx >= by->kernel[1]) {
                column += (kx - by->kernel[1]) / by->stride[1];
                continue;
            }
            const int64_t first = (row * target->width + column) * outputs;
            const int32_t *own = weight + (ky * by->kernel[1] + kx) * outputs;
            if (!add(target, by->target, first, own, NULL, outputs, v, counts, queue)) {
                return -1;
            }
            operations += outputs;
        }
    }
    return operations;
}

static int drain(const network_t *net, int64_t *v, int32_t *counts, int64_t *operations,
                 queue_t *queue)
{
    while (queue->count > 0) {
        const event_t event = queue->events[queue->first];
        queue->first = (queue->first + 1) % queue->capacity;
        queue->count--;
        const layer_t *source = &net->layer[event.layer];
        for (int64_t k = 0; k < source->connections; k++) {
            const connection_t *by = &source->connection[k];
            const int64_t found = send(net, by, source, event.neuron, v, counts, queue);
            if (found < 0) {
                return 0;
            }
            operations[by->target] += found;
        }
    }
    return 1;
}

static int run_step(const network_t *net, const int32_t *input, int64_t events, int64_t *v,
                    int32_t *counts, int64_t *operations, queue_t *queue)
{
    for (int64_t k = 1; k < net->layers; k++) {
        const layer_t *layer = &net->layer[k];
        const int64_t n = layer->height * layer->width * layer->channels;
        if (layer->bias != NULL && !add(layer, k, 0, NULL, layer->bias, n, v, counts, queue)) {
            return 0;
        }
    }
    for (int64_t i = 0; i < events; i++) {
        if (!put(queue, 0, input[i])) {
            return 0;
        }
    }
    return drain(net, v, counts, operations, queue);
}

/* Samples `begin` to `end`. The input events of step t of sample b are input[first[b * T + t]] to
   input[first[b * T + t + 1]]. Counts are [B][T][neurons], operations [B][layers], both zero before.
   Returns 0 where memory is exhausted. */
int64_t run_events(const network_t *net, const int32_t *input, const int64_t *first,
                   int32_t *counts, int64_t *operations, int64_t begin, int64_t end)
{
    queue_t queue = {NULL, 0, 0, 0};
    int64_t *v = malloc((size_t)(net->neurons + 1) * sizeof(int64_t));
    int64_t works = v != NULL;
    for (int64_t b = begin; works && b < end; b++) {
        for (int64_t k = 1; k < net->layers; k++) {
            const layer_t *layer = &net->layer[k];
            const int64_t n = layer->height * layer->width * layer->channels;
            for (int64_t i = 0; i < n; i++) {
                v[layer->offset + i] = layer->v_init[i];
            }
        }
        for (int64_t t = 0; works && t < net->steps; t++) {
            const int64_t at = b * net->steps + t;
            works = run_step(net, input + first[at], first[at + 1] - first[at], v,
                             counts + at * net->neurons, operations + b * net->layers, &queue);
        }
    }
    free(queue.events);
    free(v);
    return works;
}
