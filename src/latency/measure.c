/* Which plans are timed, when enough are. */
#include <pquant/latency.h>

#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/mem.h"
#include "latency/design.h"
#include "latency/fit.h"
#include "latency/source.h"

/* Each batch also has the fullest plan, which the others are compared with, and the all-INT8 one,
 * whose times show the noise. */
enum { BATCH = 4, DEFAULT_PLANS = 64, PLANS_BEFORE_GOOD = 16 };

typedef struct job {
    pq_latency_opts o; /* ours, with defaults filled in */
    pq_latency_source source;
    pq_terms t;
    pq_lat_journal journal;
    uint8_t *x;           /* [n_units]: of the plan being made */
    uint8_t *full, *int8; /* [n_ops] */
    uint8_t *seen;        /* [n_plans, n_ops]: all random ones so far */
    const uint8_t *waiting[BATCH];
    size_t n_seen, n_waiting;
    double began, last_batch;
} job;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

pq_status pq_latency_context(pq_ctx *ctx, char hex[65], const pq_latency_opts *o)
{
    pq_engine_info info;
    pq_sha256 h;
    char graph[65];
    const pq_status st = o->engine->probe(ctx, &info);
    if (st != PQ_OK) return st;
    const double numbers[] = {o->threads > 0 ? o->threads : pq_ctx_threads(ctx),
                              o->n_labels ? o->n_labels : 2};
    pq_graph_hash(o->graph, graph);
    pq_sha256_init(&h);
    pq_sha256_add(&h, graph, 64);
    pq_sha256_add(&h, o->engine->name, strlen(o->engine->name) + 1);
    pq_sha256_add(&h, info.version, strlen(info.version) + 1);
    pq_sha256_add(&h, info.device, strlen(info.device) + 1);
    pq_sha256_add(&h, numbers, sizeof numbers);
    if (o->key) pq_sha256_add(&h, o->key, strlen(o->key) + 1);
    pq_sha256_hex(&h, hex);
    return PQ_OK;
}

/* ---- timing ---- */

static pq_status record(pq_ctx *ctx, job *w, const uint8_t *label, double ms, double full_ms,
                        double seconds)
{
    uint8_t *own = NULL;
    pq_status st = pq_alloc(ctx, &own, w->t.n_ops, 1);
    if (st != PQ_OK) return st;
    if (w->t.n_ops) memcpy(own, label, w->t.n_ops);
    const pq_lat_entry e = {.label = own, .ms = ms, .full_ms = full_ms, .seconds = seconds};
    st = ms > 0 && full_ms > 0 ? pq_lat_journal_add(ctx, &w->journal, &e)
                               : pq_fail(ctx, PQ_E_ENGINE,
                                         "a plan took %g ms, full precision %g ms, expected more "
                                         "than nothing",
                                         ms, full_ms);
    pq_free(own);
    return st;
}

/* Time the waiting plans against both ends. */
static pq_status flush(pq_ctx *ctx, job *w)
{
    const uint8_t *label[BATCH + 2] = {w->full};
    double ms[BATCH + 2] = {0};
    size_t n = 1;
    pq_status st;
    if (memcmp(w->full, w->int8, w->t.n_ops) != 0) label[n++] = w->int8;
    for (size_t i = 0; i < w->n_waiting; i++) label[n++] = w->waiting[i];
    const double begin = now();
    PQ_TRY(w->source.time(ctx, w->source.user, label, n, ms));
    w->last_batch = now() - begin;
    for (size_t i = n > 1; i < n; i++)
        PQ_TRY(record(ctx, w, label[i], ms[i], ms[0], w->last_batch / (double)n));
    w->n_waiting = 0;
out:
    return st;
}

/* Labels of operators where all units are at `label`. */
static void uniform(job *w, uint8_t label, uint8_t *ops)
{
    pq_design_uniform(&w->t, label, w->x);
    pq_design_spread(&w->t, w->x, ops);
}

static pq_status time_ends(pq_ctx *ctx, job *w)
{
    uint8_t *between = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &between, 2 * w->t.n_ops, 1));
    for (int l = 1; l < w->t.n_labels - 1; l++) {
        uint8_t *ops = between + (size_t)(l - 1) * w->t.n_ops;
        uniform(w, (uint8_t)l, ops);
        if (!pq_lat_journal_find(&w->journal, ops, false)) w->waiting[w->n_waiting++] = ops;
    }
    if (w->n_waiting || !pq_lat_journal_find(&w->journal, w->int8, false)) PQ_TRY(flush(ctx, w));
out:
    pq_free(between);
    return st;
}

static pq_status time_layers_at(pq_ctx *ctx, job *w, uint8_t *ops)
{
    pq_layer *layer = NULL;
    pq_lat_entry e = {.label = ops};
    size_t n = 0;
    pq_status st;
    const double begin = now();
    PQ_TRY(w->source.layers(ctx, w->source.user, ops, &layer, &n));
    e.seconds = now() - begin;
    PQ_TRY(pq_alloc(ctx, &e.layers, w->t.n_ops, sizeof *e.layers));
    PQ_TRY(pq_terms_attribute(ctx, e.layers, &e.part, &w->t, layer, n));
    st = pq_lat_journal_add(ctx, &w->journal, &e);
out:
    pq_free(e.layers);
    pq_free(layer);
    return st;
}

static pq_status time_layers(pq_ctx *ctx, job *w)
{
    uint8_t *ops = NULL;
    pq_status st;
    if (!w->source.layers) return PQ_OK;
    PQ_TRY(pq_alloc(ctx, &ops, w->t.n_ops, 1));
    for (int l = 0; l < w->t.n_labels; l++) {
        uniform(w, (uint8_t)l, ops);
        if (pq_lat_journal_find(&w->journal, ops, true)) continue;
        st = time_layers_at(ctx, w, ops);
        if (st == PQ_E_UNSUPPORTED) { /* some engines know only when asked */
            st = PQ_OK;
            break;
        }
        if (st != PQ_OK) break;
    }
out:
    pq_free(ops);
    return st;
}

/* ---- random plans ---- */

static bool seen_before(const job *w, const uint8_t *ops, uint8_t *end)
{
    const size_t n = w->t.n_ops;
    for (size_t i = 0; i < w->n_seen; i++)
        if (memcmp(w->seen + i * n, ops, n) == 0) return true;
    for (int l = 0; l < w->t.n_labels; l++) {
        pq_design_uniform(&w->t, (uint8_t)l, w->x);
        pq_design_spread(&w->t, w->x, end);
        if (memcmp(end, ops, n) == 0) return true;
    }
    return false;
}

static bool out_of_time(const job *w)
{
    return w->o.seconds > 0 && now() - w->began + w->last_batch > w->o.seconds;
}

static pq_status good_enough(pq_ctx *ctx, const job *w, bool *yes)
{
    pq_latency *l = NULL;
    *yes = false;
    if (w->n_seen < PLANS_BEFORE_GOOD) return PQ_OK;
    const pq_status st = pq_latency_fit_all(ctx, &l, &w->t, &w->journal);
    *yes = st == PQ_OK && l->fit.n_plans >= PLANS_BEFORE_GOOD && l->fit.error95 <= w->o.good;
    pq_latency_free(l);
    return st;
}

static pq_status time_random(pq_ctx *ctx, job *w)
{
    uint8_t *end = NULL;
    bool enough = false;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &end, w->t.n_ops, 1));
    for (size_t i = 0; i < w->o.n_plans && !enough; i++) {
        uint8_t *ops = w->seen + w->n_seen * w->t.n_ops;
        PQ_TRY(pq_progress(ctx, "latency", i, w->o.n_plans));
        PQ_TRY(pq_design_random(ctx, &w->t, i, w->x));
        pq_design_spread(&w->t, w->x, ops);
        if (seen_before(w, ops, end)) continue;
        w->n_seen++;
        if (!pq_lat_journal_find(&w->journal, ops, false)) w->waiting[w->n_waiting++] = ops;
        if (w->n_waiting == BATCH) {
            if (out_of_time(w)) break;
            PQ_TRY(flush(ctx, w));
        }
        if (w->n_seen % BATCH == 0) PQ_TRY(good_enough(ctx, w, &enough));
    }
    if (w->n_waiting && !enough && !out_of_time(w)) PQ_TRY(flush(ctx, w));
    st = pq_progress(ctx, "latency", w->o.n_plans, w->o.n_plans);
out:
    pq_free(end);
    return st;
}

static pq_status begin(pq_ctx *ctx, job *w, const pq_latency_opts *opts, char context[65])
{
    pq_status st;
    w->o = *opts;
    if (!w->o.n_plans) w->o.n_plans = DEFAULT_PLANS;
    if (!(w->o.good > 0)) w->o.good = 0.02;
    w->source = opts->source ? *opts->source : pq_latency_engine_source(&w->o);
    w->began = now();
    PQ_TRY(pq_terms_init(ctx, &w->t, opts));
    PQ_TRY(pq_latency_context(ctx, context, opts));
    PQ_TRY(
        pq_lat_journal_open(ctx, &w->journal, context, opts->journal, w->t.n_ops, w->t.n_labels));
    PQ_TRY(pq_alloc(ctx, &w->x, w->t.n_units, 1));
    PQ_TRY(pq_alloc(ctx, &w->full, w->t.n_ops, 1));
    PQ_TRY(pq_alloc(ctx, &w->int8, w->t.n_ops, 1));
    PQ_TRY(pq_alloc(ctx, &w->seen, w->o.n_plans, w->t.n_ops));
    uniform(w, 0, w->full);
    uniform(w, (uint8_t)(w->t.n_labels - 1), w->int8);
out:
    return st;
}

pq_status pq_latency_measure(pq_ctx *ctx, pq_latency **out, const pq_latency_opts *opts)
{
    job w = {0};
    char context[65];
    pq_status st;
    *out = NULL;
    PQ_TRY(begin(ctx, &w, opts, context));
    PQ_TRY(time_ends(ctx, &w));
    PQ_TRY(time_layers(ctx, &w));
    PQ_TRY(time_random(ctx, &w));
    PQ_TRY(pq_latency_fit_all(ctx, out, &w.t, &w.journal));
    memcpy((*out)->context, context, sizeof context);
out:
    pq_terms_clear(&w.t);
    pq_lat_journal_close(&w.journal);
    pq_free(w.x);
    pq_free(w.full);
    pq_free(w.int8);
    pq_free(w.seen);
    return st;
}
