/* Latency: rows taking turns, order statistics, times per step. */
#include <pquant/bench.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/rng.h"

enum { DEFAULT_RUNS = 100, DEFAULT_WARM_UP = 10 };

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double nearest_rank(const double *sorted, size_t n, double percent)
{
    const size_t place = (size_t)ceil(percent * (double)n / 100 - 1e-9);
    return sorted[place > 0 ? place - 1 : 0];
}

pq_bench_times pq_bench_summary(double *v, size_t n)
{
    qsort(v, n, sizeof *v, ascending);
    return (pq_bench_times){.min = v[0],
                            .median = n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2,
                            .p90 = nearest_rank(v, n, 90),
                            .p95 = nearest_rank(v, n, 95),
                            .p99 = nearest_rank(v, n, 99)};
}

/* What a row needs besides its session. */
typedef struct lane {
    pq_tensor *out;
    pq_detector *detector; /* end to end */
    pq_image *picture;     /* [batch], decoded anew in every run */
    size_t n_pictures;
    int64_t *id; /* [batch]: none */
    pq_detections found;
    double *ms, *conv_ms, *device_ms; /* per run; NULL: not measured */
} lane;

static void free_lanes(lane *l, const pq_bench_row *row, size_t n)
{
    for (size_t i = 0; l && i < n; i++) {
        pq_session_outputs_free(l[i].out, row[i].session);
        pq_detector_free(l[i].detector);
        for (size_t k = 0; l[i].picture && k < l[i].n_pictures; k++)
            pq_image_clear(&l[i].picture[k]);
        pq_free(l[i].picture);
        pq_free(l[i].id);
        pq_detections_clear(&l[i].found);
        pq_free(l[i].ms);
        pq_free(l[i].conv_ms);
        pq_free(l[i].device_ms);
    }
    pq_free(l);
}

/* Image bytes to boxes: every image of the batch is decoded and prepared from the same bytes. */
static pq_status from_image(pq_ctx *ctx, lane *l, const pq_bench_image *image)
{
    pq_status st = PQ_OK;
    for (size_t i = 0; i < l->n_pictures; i++) {
        pq_image_clear(&l->picture[i]);
        PQ_TRY(pq_image_decode(ctx, &l->picture[i], image->bytes, image->n_bytes, image->name));
    }
    l->found.n = 0;
    st = pq_detector_images(ctx, l->detector, &l->found, l->picture, l->n_pictures, l->id);
out:
    return st;
}

static pq_status run_once(pq_ctx *ctx, double *ms, pq_session *s, lane *l, const pq_bench_opts *o)
{
    const double begin = now_ms();
    const pq_status st = o->image ? from_image(ctx, l, o->image)
                                  : pq_run(ctx, s, o->input, o->n_inputs, l->out, s->n_outputs);
    *ms = now_ms() - begin;
    return st;
}

/* One round: every row's turn, then that of every row's convolutions. at < 0: warming up. */
static pq_status one_round(pq_ctx *ctx, const pq_bench_row *row, lane *l, size_t n, int at,
                           const pq_bench_opts *o)
{
    double ms;
    pq_status st = PQ_OK;
    for (size_t i = 0; i < n; i++) {
        PQ_TRY(run_once(ctx, &ms, row[i].session, &l[i], o));
        if (at < 0) continue;
        PQ_TRY(run_once(ctx, &l[i].ms[at], row[i].session, &l[i], o));
        if (l[i].device_ms) l[i].device_ms[at] = row[i].session->engine->device_ms(row[i].session);
    }
    for (size_t i = 0; i < n; i++) {
        pq_session *s = row[i].session;
        if (!l[i].conv_ms) continue;
        PQ_TRY(s->engine->weighted_only(ctx, s, o->input, o->n_inputs));
        if (at < 0) continue;
        const double begin = now_ms();
        PQ_TRY(s->engine->weighted_only(ctx, s, o->input, o->n_inputs));
        l[i].conv_ms[at] = now_ms() - begin;
    }
out:
    return st;
}

static pq_status prepare(pq_ctx *ctx, lane *l, const pq_bench_row *row, const pq_bench_opts *o,
                         int runs)
{
    pq_session *s = row->session;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &l->ms, (size_t)runs, sizeof *l->ms));
    if (s->engine->device_ms)
        PQ_TRY(pq_alloc(ctx, &l->device_ms, (size_t)runs, sizeof *l->device_ms));
    if (o->convolutions && !o->image && s->engine->weighted_only)
        PQ_TRY(pq_alloc(ctx, &l->conv_ms, (size_t)runs, sizeof *l->conv_ms));
    if (!o->image) {
        st = pq_session_outputs(ctx, &l->out, s);
        goto out;
    }
    const pq_shape *in = &s->input_shape[0];
    const pq_shape want = PQ_SHAPE(in->dim[0], 3, o->image->prep->h, o->image->prep->w);
    if (s->n_inputs != 1 || !pq_shape_equal(in, &want))
        st =
            pq_fail(ctx, PQ_E_INVALID, "end to end: %zu inputs and %zu outputs, expected one image",
                    s->n_inputs, s->n_outputs);
    if (st != PQ_OK) goto out;
    l->n_pictures = (size_t)in->dim[0];
    PQ_TRY(pq_alloc(ctx, &l->picture, l->n_pictures, sizeof *l->picture));
    PQ_TRY(pq_alloc(ctx, &l->id, l->n_pictures, sizeof *l->id));
    st = pq_detector_new(ctx, &l->detector, s, o->image->prep, o->image->head);
out:
    return st;
}

/* Before the times are put in order. */
static pq_status pair_up(pq_ctx *ctx, pq_bench_row *row, const lane *l, size_t n, int runs)
{
    double *v;
    const pq_status st = pq_alloc(ctx, &v, (size_t)runs, sizeof *v);
    for (size_t i = 0; st == PQ_OK && i < n; i++) {
        for (int r = 0; r < runs; r++) v[r] = l[0].ms[r] > 0 ? l[i].ms[r] / l[0].ms[r] : 1;
        row[i].paired = pq_bench_summary(v, (size_t)runs).median;
    }
    pq_free(v);
    return st;
}

static void fill_in(pq_bench_row *row, lane *l, size_t n, int runs)
{
    for (size_t i = 0; i < n; i++) {
        pq_bench_row *r = &row[i];
        const pq_shape *in = &r->session->input_shape[0];
        const double batch = in->rank ? (double)in->dim[0] : 1;
        r->ms = pq_bench_summary(l[i].ms, (size_t)runs);
        r->per_second = 1e3 * batch / r->ms.median;
        r->device_ms = l[i].device_ms ? pq_bench_summary(l[i].device_ms, (size_t)runs).median : 0;
        r->ratio = row[0].ms.median / r->ms.median;
        r->convolutions_ms = l[i].conv_ms ? pq_bench_summary(l[i].conv_ms, (size_t)runs).median : 0;
        r->over_convolutions = r->convolutions_ms > 0 ? r->ms.median / r->convolutions_ms : 0;
    }
}

pq_status pq_bench(pq_ctx *ctx, pq_bench_row *row, size_t n_rows, const pq_bench_opts *o)
{
    const int runs = o->runs > 0 ? o->runs : DEFAULT_RUNS;
    const int usual = runs < DEFAULT_WARM_UP ? runs : DEFAULT_WARM_UP;
    const int warm_up = o->warm_up > 0 ? o->warm_up : usual;
    lane *l = NULL;
    pq_status st;
    if (!n_rows) return pq_fail(ctx, PQ_E_INVALID, "nothing to measure, expected a row");
    PQ_TRY(pq_alloc(ctx, &l, n_rows, sizeof *l));
    for (size_t i = 0; i < n_rows; i++)
        PQ_TRY(pq_prefix(ctx, prepare(ctx, &l[i], &row[i], o, runs), "%s %s", row[i].engine,
                         row[i].precision));
    for (int i = -warm_up; i < runs; i++) {
        PQ_TRY(pq_progress(ctx, "bench", (size_t)(i + warm_up), (size_t)(runs + warm_up)));
        PQ_TRY(one_round(ctx, row, l, n_rows, i, o));
    }
    PQ_TRY(pq_progress(ctx, "bench", (size_t)(runs + warm_up), (size_t)(runs + warm_up)));
    PQ_TRY(pair_up(ctx, row, l, n_rows, runs));
    fill_in(row, l, n_rows, runs);
out:
    free_lanes(l, row, n_rows);
    return st;
}

/* ---- per step ---- */

pq_status pq_bench_layers(pq_ctx *ctx, pq_layer **out, size_t *n, pq_session *s,
                          const pq_tensor *input, size_t n_inputs, int runs)
{
    enum { ROOM = 4096 };
    const size_t room = s->n_steps ? s->n_steps : ROOM;
    double *ms = NULL, *sorted = NULL;
    pq_status st;
    *out = NULL;
    *n = 0;
    if (!s->engine->layers)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "engine '%s' gives no times per layer",
                       s->engine->name);
    PQ_TRY(pq_alloc(ctx, out, room, sizeof **out));
    PQ_TRY(pq_alloc(ctx, &ms, room * (size_t)runs, sizeof *ms));
    PQ_TRY(pq_alloc(ctx, &sorted, (size_t)runs, sizeof *sorted));
    for (int r = -1; r < runs; r++) { /* the first warms up */
        *n = room;
        PQ_TRY(s->engine->layers(ctx, s, input, n_inputs, *out, n));
        for (size_t i = 0; r >= 0 && i < *n; i++) ms[(size_t)r * room + i] = (*out)[i].ms;
    }
    for (size_t i = 0; i < *n; i++) {
        for (int r = 0; r < runs; r++) sorted[r] = ms[(size_t)r * room + i];
        (*out)[i].ms = pq_bench_summary(sorted, (size_t)runs).median;
    }
out:
    pq_free(ms);
    pq_free(sorted);
    if (st != PQ_OK) {
        pq_free(*out);
        *out = NULL;
        *n = 0;
    }
    return st;
}

void pq_bench_layers_free(pq_layer *l) { pq_free(l); }

/* ---- input ---- */

pq_status pq_bench_input(pq_ctx *ctx, pq_tensor **out, const pq_session *s)
{
    pq_rng rng = {1};
    pq_status st = pq_alloc(ctx, out, s->n_inputs, sizeof **out);
    for (size_t i = 0; st == PQ_OK && i < s->n_inputs; i++) {
        st = pq_tensor_new(ctx, &(*out)[i], PQ_F32, &s->input_shape[i]);
        if (st != PQ_OK) break;
        float *x = pq_tensor_data(&(*out)[i]);
        const int64_t n = pq_shape_count(&s->input_shape[i]);
        for (int64_t k = 0; k < n; k++) x[k] = (float)pq_rng_below(&rng, 256);
    }
    if (st != PQ_OK) {
        pq_bench_input_free(*out, s);
        *out = NULL;
    }
    return st;
}

void pq_bench_input_free(pq_tensor *in, const pq_session *s)
{
    for (size_t i = 0; in && i < s->n_inputs; i++) pq_tensor_clear(&in[i]);
    pq_free(in);
}
