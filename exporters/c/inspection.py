"""inspect.h and inspect.c: spikes and potentials of each population, for tests and simulators."""

from __future__ import annotations

from icsnn_deploy.exporters.c.plan import Accumulator, Plan

HEADER = """/* What happened in each population: for tests, not for a product.
   t is 0 after icsnn_step; after icsnn_steps a step of those that were run together, from 0. */
#ifndef ICSNN_INSPECT_H
#define ICSNN_INSPECT_H

#include "network.h"

typedef struct {
    const char *name; /* of the population in the model */
    int32_t height, width, channels;
} icsnn_layer;

#ifdef __cplusplus
extern "C" {
#endif

extern const icsnn_layer icsnn_layers[ICSNN_LAYERS + !ICSNN_LAYERS]; /* C has no empty arrays */

/* Number of spikes of a population at a step. */
uint32_t icsnn_spike_count(const icsnn_state *s, int32_t layer, int32_t t);

/* Checksum of the spikes: h = 0; for each neuron (y * width + x) * channels + channel that spiked,
   in the order of the lists in icsnn_state, h = h * 16777619 + neuron + 1. */
uint32_t icsnn_spike_checksum(const icsnn_state *s, int32_t layer, int32_t t);

/* Checksum of the potentials v after the last step, in the same order: h = h * 16777619 + v. */
uint32_t icsnn_potential_checksum(const icsnn_state *s, int32_t layer);

/* Add the spikes of a step to spikes[(channel * height + y) * width + x]. */
void icsnn_add_spikes(const icsnn_state *s, int32_t layer, int32_t t, uint8_t *spikes);

/* The potentials after the last step: v[(channel * height + y) * width + x]. They are integers: the
   model's are higher by one half, so that none equals its threshold. */
void icsnn_potentials(const icsnn_state *s, int32_t layer, int32_t *v);

#ifdef __cplusplus
}
#endif

#endif
"""

_SOURCE = """#include "inspect.h"

#include <stddef.h>

typedef struct {
    size_t counts, events, potentials; /* offsets in icsnn_state */
    int32_t potential_bytes;
    int32_t window_h, window_w; /* pixels whose lists of spikes follow one another */
} place;

const icsnn_layer icsnn_layers[ICSNN_LAYERS + !ICSNN_LAYERS] = {
@layers@
};

static const place places[ICSNN_LAYERS + !ICSNN_LAYERS] = {
@places@
};

/* The pixel whose list of spikes is number `list`. */
static int32_t pixel_of(int32_t layer, int32_t list)
{
    const int32_t height = places[layer].window_h, width = places[layer].window_w;
    const int32_t window = list / (height * width), inside = list % (height * width);
    const int32_t across = icsnn_layers[layer].width / width;
    return (window / across * height + inside / width) * icsnn_layers[layer].width
         + window % across * width + inside % width;
}

static const icsnn_count *counts_of(const icsnn_state *s, int32_t layer, int32_t t)
{
    const void *first = (const char *)s + places[layer].counts;
    return (const icsnn_count *)first + t * icsnn_layers[layer].height * icsnn_layers[layer].width;
}

static const icsnn_channel *events_of(const icsnn_state *s, int32_t layer, int32_t t)
{
    const icsnn_layer *size = &icsnn_layers[layer];
    const void *first = (const char *)s + places[layer].events;
    const int32_t neurons = size->height * size->width * size->channels;
    return (const icsnn_channel *)first + t * (neurons + ICSNN_SPARE);
}

static int32_t potential_of(const icsnn_state *s, int32_t layer, int32_t neuron)
{
    const void *v = (const char *)s + places[layer].potentials;
    return places[layer].potential_bytes == 2 ? ((const int16_t *)v)[neuron]
                                              : ((const int32_t *)v)[neuron];
}

uint32_t icsnn_spike_count(const icsnn_state *s, int32_t layer, int32_t t)
{
    const icsnn_count *counts = counts_of(s, layer, t);
    const int32_t pixels = icsnn_layers[layer].height * icsnn_layers[layer].width;
    uint32_t total = 0;
    for (int32_t p = 0; p < pixels; p++) {
        total += counts[p];
    }
    return total;
}

uint32_t icsnn_spike_checksum(const icsnn_state *s, int32_t layer, int32_t t)
{
    const icsnn_count *counts = counts_of(s, layer, t);
    const icsnn_channel *event = events_of(s, layer, t);
    const int32_t pixels = icsnn_layers[layer].height * icsnn_layers[layer].width;
    uint32_t h = 0;
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t k = 0; k < counts[p]; k++) {
            const int32_t neuron = pixel_of(layer, p) * icsnn_layers[layer].channels + *event++;
            h = h * UINT32_C(16777619) + (uint32_t)neuron + 1;
        }
    }
    return h;
}

uint32_t icsnn_potential_checksum(const icsnn_state *s, int32_t layer)
{
    const icsnn_layer *size = &icsnn_layers[layer];
    const int32_t neurons = size->height * size->width * size->channels;
    uint32_t h = 0;
    for (int32_t neuron = 0; neuron < neurons; neuron++) {
        h = h * UINT32_C(16777619) + (uint32_t)potential_of(s, layer, neuron);
    }
    return h;
}

void icsnn_add_spikes(const icsnn_state *s, int32_t layer, int32_t t, uint8_t *spikes)
{
    const icsnn_count *counts = counts_of(s, layer, t);
    const icsnn_channel *event = events_of(s, layer, t);
    const int32_t pixels = icsnn_layers[layer].height * icsnn_layers[layer].width;
    for (int32_t p = 0; p < pixels; p++) {
        uint8_t *of_pixel = spikes + pixel_of(layer, p);
        for (int32_t k = 0; k < counts[p]; k++) {
            uint8_t *to = of_pixel + *event++ * pixels;
            *to = (uint8_t)(*to + 1);
        }
    }
}

void icsnn_potentials(const icsnn_state *s, int32_t layer, int32_t *v)
{
    const icsnn_layer *size = &icsnn_layers[layer];
    const int32_t pixels = size->height * size->width;
    for (int32_t p = 0; p < pixels; p++) {
        for (int32_t c = 0; c < size->channels; c++) {
            v[c * pixels + p] = potential_of(s, layer, p * size->channels + c);
        }
    }
}
"""


def source_text(plan: Plan) -> str:
    """The text of inspect.c."""
    layers = "\n".join(map(_layer, plan.populations)) or '    {"", 0, 0, 0},'
    places = "\n".join(map(_place, plan.populations)) or "    {0, 0, 0, 0, 0, 0},"
    return _SOURCE.replace("@layers@", layers).replace("@places@", places)


def _layer(target: Accumulator) -> str:
    size = target.size
    return (
        f"    {{{string_literal(target.node.name)}, {size.height}, {size.width}, {size.channels}}},"
    )


def _place(target: Accumulator) -> str:
    name, potential = target.name, target.potential
    assert potential is not None, name
    fields = (f"{name}_counts", f"{name}_events", f"{name}_v")
    offsets = ", ".join(f"offsetof(icsnn_state, {field})" for field in fields)
    rest = ", ".join(map(str, (potential.bytes, *target.window)))
    if len(offsets) < 88:
        return f"    {{{offsets}, {rest}}},"
    lines = offsets.replace(", offsetof", ",\n     offsetof")
    return f"    {{{lines}, {rest}}},"


def string_literal(text: str) -> str:
    """A C string literal of at most 80 characters, of any text."""
    safe = (c if 32 <= ord(c) < 127 and c not in '"\\?' else "_" for c in text[:80])
    return f'"{"".join(safe)}"'
