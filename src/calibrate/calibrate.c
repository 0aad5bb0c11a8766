/* Streaming calibration: every value that an all-INT8 plan quantizes is watched through the
 * engine's taps. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <pquant/calibrate.h>

#include "base/mem.h"
#include "calibrate/effect.h"
#include "calibrate/histogram.h"
#include "calibrate/layout.h"
#include "calibrate/watch.h"
#include "plan/names.h"

typedef struct watch {
    pq_names names;
    pq_histogram **histogram; /* per value, NULL where not watched */
    float **peak;             /* per watched value of rank 4: largest magnitude by channel */
    pq_effect effect;
    int n_threads;
} watch;

static void see_peaks(float *peak, const pq_tap_view *v)
{
    const size_t c = (size_t)v->shape.dim[1], area = (size_t)(v->shape.dim[2] * v->shape.dim[3]);
    for (int64_t b = 0; b < v->shape.dim[0]; b++) {
        const float *x = v->data + (size_t)b * c * area;
        for (size_t i = 0; i < area && v->channels_last; i++)
            for (size_t k = 0; k < c; k++) {
                const float a = fabsf(x[i * c + k]);
                peak[k] = a > peak[k] ? a : peak[k];
            }
        for (size_t k = 0; k < c && !v->channels_last; k++)
            for (size_t i = 0; i < area; i++) {
                const float a = fabsf(x[k * area + i]);
                peak[k] = a > peak[k] ? a : peak[k];
            }
    }
}

static pq_status see(pq_ctx *ctx, void *user, const pq_tap_view *v)
{
    watch *w = user;
    uint32_t id = pq_names_find(&w->names, v->name);
    pq_histogram *h = id == PQ_NONE ? NULL : w->histogram[id];
    const size_t n = (size_t)pq_shape_count(&v->shape);
    pq_channels c = {0};
    if (h && w->effect.channel[id]) {
        c.weight = w->effect.channel[id];
        c.n = (size_t)v->shape.dim[1];
        c.run = v->channels_last ? 1 : (size_t)(v->shape.dim[2] * v->shape.dim[3]);
    }
    if (h && !pq_histogram_add(h, v->data, n, &c, w->n_threads))
        return pq_fail(ctx, PQ_E_FORMAT, "value '%s' is not finite on a calibration image",
                       v->name);
    if (h && w->peak[id]) see_peaks(w->peak[id], v);
    return PQ_OK;
}

static pq_status watch_new(pq_ctx *ctx, watch *w, const pq_graph *g)
{
    pq_scale_layout l = {0};
    bool *all = NULL, *absent = NULL;
    pq_status st;
    const size_t n = pq_graph_quantizable_count(g);
    PQ_TRY(pq_alloc(ctx, &all, n, 1));
    PQ_TRY(pq_alloc(ctx, &absent, g->n_values, 1));
    pq_graph_mark_absent(g, absent); /* boxes that are not there are NaN, and never quantized */
    memset(all, 1, n);
    PQ_TRY(pq_scale_layout_new(ctx, &l, g, all));
    PQ_TRY(pq_names_of_values(ctx, &w->names, g));
    PQ_TRY(pq_effect_new(ctx, &w->effect, g));
    PQ_TRY(pq_alloc(ctx, &w->histogram, g->n_values, sizeof *w->histogram));
    /* Partial plans quantize fewer values, or others of the same kinds: the operands of sums too.
     */
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead && g->node[i].op == PQ_OP_ADD)
            for (int k = 0; k < 2; k++)
                if (!pq_in(g, &g->node[i], k)->data) l.listed[g->node[i].in[k]] = true;
    /* So do plans that round outputs. */
    for (size_t i = 0; i < g->n_nodes; i++)
        if (!g->node[i].dead && g->node[i].quant_index >= 0 && pq_op_is_weighted(g->node[i].op))
            l.listed[g->node[i].out[0]] = true;
    PQ_TRY(pq_alloc(ctx, &w->peak, g->n_values, sizeof *w->peak));
    for (size_t v = 0; v < g->n_values; v++) {
        const pq_shape *shape = &g->value[v].shape;
        if (!l.listed[v] || absent[v] || g->value[v].dtype != PQ_F32) continue;
        PQ_TRY(pq_alloc(ctx, &w->histogram[v], 1, sizeof **w->histogram));
        if (shape->rank == 4)
            PQ_TRY(pq_alloc(ctx, &w->peak[v], (size_t)shape->dim[1], sizeof **w->peak));
    }
out:
    pq_free(all);
    pq_free(absent);
    pq_scale_layout_clear(&l);
    return st;
}

static void watch_clear(watch *w, size_t n_values)
{
    for (size_t v = 0; w->histogram && v < n_values; v++) pq_free(w->histogram[v]);
    for (size_t v = 0; w->peak && v < n_values; v++) pq_free(w->peak[v]);
    pq_free(w->histogram);
    pq_free(w->peak);
    pq_names_clear(&w->names);
    pq_effect_clear(&w->effect);
}

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Sorts peak; channels that are never anything but 0 do not count. */
static float outlier(float *peak, size_t n)
{
    size_t dead = 0;
    qsort(peak, n, sizeof *peak, ascending);
    while (dead < n && peak[dead] == 0) dead++;
    return dead < n ? fminf(peak[n - 1] / peak[dead + (n - 1 - dead) / 2], FLT_MAX) : 0;
}

static pq_status collect(pq_ctx *ctx, pq_ranges *r, const watch *w, const pq_graph *g,
                         double percentile)
{
    const double part = percentile > 0 ? percentile : 99.99;
    double rms, kurtosis;
    pq_status st = pq_alloc(ctx, &r->range, g->n_values, sizeof *r->range);
    for (size_t v = 0; st == PQ_OK && v < g->n_values; v++) {
        const pq_histogram *h = w->histogram[v];
        if (!h) continue;
        pq_range *x = &r->range[r->n];
        x->method = r->calibrator;
        const pq_interval s = pq_choose(h, x->method, part, true),
                          u = pq_choose(h, x->method, part, false);
        x->min = h->min;
        x->max = h->max;
        x->amax = (float)s.hi;
        x->lo = (float)u.lo;
        x->hi = (float)u.hi;
        pq_histogram_moments(h, &rms, &kurtosis);
        x->rms = (float)rms;
        x->kurtosis = (float)kurtosis;
        if (w->peak[v]) x->outlier = outlier(w->peak[v], (size_t)g->value[v].shape.dim[1]);
        st = pq_strdup(ctx, &x->name, g->value[v].name);
        if (st == PQ_OK) r->n++;
    }
    return st;
}

static pq_status ranges_of(pq_ctx *ctx, pq_ranges **out, const watch *w, const pq_graph *g,
                           const pq_dataset *data, pq_calibrator method, double percentile)
{
    pq_ranges *r = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &r, 1, sizeof *r));
    r->calibrator = method;
    r->n_images = data->n;
    pq_graph_hash(g, r->graph_hash);
    PQ_TRY(collect(ctx, r, w, g, percentile));
    *out = r;
    r = NULL;
out:
    pq_ranges_free(r);
    return st;
}

pq_status pq_calibrate_each(pq_ctx *ctx, pq_ranges **out, const pq_calibrator *method, size_t n,
                            const pq_engine *engine, const pq_graph *g, const pq_dataset *data,
                            const pq_prep *prep, const pq_calibrate_opts *opts)
{
    const pq_calibrate_opts none = {0};
    watch w = {0};
    pq_engine_info info;
    pq_status st;
    for (size_t i = 0; i < n; i++) out[i] = NULL;
    if (!opts) opts = &none;
    PQ_TRY(engine->probe(ctx, &info));
    if (!info.taps) {
        st = pq_fail(ctx, PQ_E_INVALID,
                     "engine '%s' does not show values inside the network, expected one that does: "
                     "cpu or ref",
                     engine->name);
        goto out;
    }
    w.n_threads = opts->threads > 0 ? opts->threads : pq_ctx_threads(ctx);
    PQ_TRY(watch_new(ctx, &w, g));
    const pq_compile_opts taps = {.threads = w.n_threads, .tap = see, .tap_user = &w};
    PQ_TRY(pq_watch_dataset(ctx, engine, g, data, prep, &taps, "calibrate"));
    for (size_t i = 0; i < n; i++)
        PQ_TRY(ranges_of(ctx, &out[i], &w, g, data, method[i], opts->percentile));
out:
    watch_clear(&w, g->n_values);
    for (size_t i = 0; i < n && st != PQ_OK; i++) {
        pq_ranges_free(out[i]);
        out[i] = NULL;
    }
    return st;
}

pq_status pq_calibrate(pq_ctx *ctx, pq_ranges **out, const pq_engine *engine, const pq_graph *g,
                       const pq_dataset *data, const pq_prep *prep, const pq_calibrate_opts *opts)
{
    const pq_calibrator method = opts ? opts->calibrator : PQ_CALIB_AUTO;
    return pq_calibrate_each(ctx, out, &method, 1, engine, g, data, prep, opts);
}
