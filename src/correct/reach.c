/* How far each channel reaches, seen through an engine's taps. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "calibrate/watch.h"
#include "correct/equalize.h"
#include "plan/names.h"

typedef struct watch {
    pq_names names;
    float **sum; /* per value: [channels] */
    float *one;  /* of one image, room for the widest value */
} watch;

static pq_status see(pq_ctx *ctx, void *user, const pq_tap_view *v)
{
    watch *w = user;
    const uint32_t id = pq_names_find(&w->names, v->name);
    (void)ctx;
    if (id == PQ_NONE || !w->sum[id]) return PQ_OK;
    const size_t n = (size_t)v->shape.dim[0], c = (size_t)v->shape.dim[1];
    const size_t area = (size_t)(v->shape.dim[2] * v->shape.dim[3]);
    for (size_t b = 0; b < n; b++) {
        const float *x = v->data + b * c * area;
        memset(w->one, 0, c * sizeof *w->one);
        for (size_t i = 0; i < area && v->channels_last; i++)
            for (size_t k = 0; k < c; k++) w->one[k] = fmaxf(w->one[k], fabsf(x[i * c + k]));
        for (size_t k = 0; k < c && !v->channels_last; k++)
            for (size_t i = 0; i < area; i++) w->one[k] = fmaxf(w->one[k], fabsf(x[k * area + i]));
        for (size_t k = 0; k < c; k++) w->sum[id][k] += w->one[k];
    }
    return PQ_OK;
}

pq_status pq_reach_new(pq_ctx *ctx, float ***out, const pq_engine *engine, const pq_graph *g,
                       const pq_dataset *data, const pq_prep *prep, size_t max_images)
{
    watch w = {0};
    size_t most = 1;
    pq_status st;
    const pq_compile_opts taps = {.tap = see, .tap_user = &w};
    const pq_dataset part = {data->sample, data->n < max_images ? data->n : max_images};
    *out = NULL;
    PQ_TRY(pq_names_of_values(ctx, &w.names, g));
    PQ_TRY(pq_alloc(ctx, &w.sum, g->n_values, sizeof *w.sum));
    for (size_t v = 0; v < g->n_values; v++) {
        const pq_value *x = &g->value[v];
        if (x->data || x->shape.rank != 4 || x->dtype != PQ_F32) continue;
        PQ_TRY(pq_alloc(ctx, &w.sum[v], (size_t)x->shape.dim[1], sizeof *w.sum[v]));
        if ((size_t)x->shape.dim[1] > most) most = (size_t)x->shape.dim[1];
    }
    PQ_TRY(pq_alloc(ctx, &w.one, most, sizeof *w.one));
    PQ_TRY(pq_watch_dataset(ctx, engine, g, &part, prep, &taps, "equalize"));
    *out = w.sum; /* only ratios count: the sum serves as well as the mean */
    w.sum = NULL;
out:
    pq_names_clear(&w.names);
    pq_free(w.one);
    pq_reach_free(w.sum, g->n_values);
    return st;
}

void pq_reach_free(float **reach, size_t n_values)
{
    for (size_t v = 0; reach && v < n_values; v++) pq_free(reach[v]);
    pq_free(reach);
}
