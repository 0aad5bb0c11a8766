/* Compiling plans and timing them. */
#include "latency/source.h"

#include <pquant/bench.h>

#include "base/mem.h"

enum { DEFAULT_RUNS = 20, LAYER_RUNS = 9 };

static pq_status compile(pq_ctx *ctx, pq_session **out, const pq_latency_opts *o,
                         const uint8_t *label)
{
    const pq_compile_opts opts = {.threads = o->threads};
    pq_plan *plan = NULL;
    *out = NULL;
    pq_status st = o->plan(ctx, o->plan_user, label, &plan);
    if (st == PQ_OK) st = pq_compile(ctx, out, o->engine, o->graph, plan, &opts);
    pq_plan_free(plan);
    return st;
}

static pq_status time_plans(pq_ctx *ctx, void *user, const uint8_t *const *label, size_t n,
                            double *ms)
{
    const pq_latency_opts *o = user;
    pq_bench_row *row = NULL;
    pq_session **s = NULL;
    pq_tensor *in = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &row, n, sizeof *row));
    PQ_TRY(pq_alloc(ctx, &s, n, sizeof *s));
    for (size_t i = 0; i < n; i++) {
        PQ_TRY(compile(ctx, &s[i], o, label[i]));
        row[i] = (pq_bench_row){.session = s[i], .engine = o->engine->name, .precision = ""};
    }
    PQ_TRY(pq_bench_input(ctx, &in, s[0]));
    const pq_bench_opts bench = {.runs = o->runs > 0 ? o->runs : DEFAULT_RUNS,
                                 .warm_up = 3,
                                 .input = in,
                                 .n_inputs = s[0]->n_inputs};
    PQ_TRY(pq_bench(ctx, row, n, &bench));
    for (size_t i = 0; i < n; i++) ms[i] = row[i].paired * row[0].ms.median;
out:
    if (in) pq_bench_input_free(in, s[0]);
    for (size_t i = 0; s && i < n; i++) pq_session_free(s[i]);
    pq_free(s);
    pq_free(row);
    return st;
}

static pq_status time_layers(pq_ctx *ctx, void *user, const uint8_t *label, pq_layer **out,
                             size_t *n)
{
    const pq_latency_opts *o = user;
    pq_session *s = NULL;
    pq_tensor *in = NULL;
    pq_status st;
    *out = NULL;
    PQ_TRY(compile(ctx, &s, o, label));
    PQ_TRY(pq_bench_input(ctx, &in, s));
    st = pq_bench_layers(ctx, out, n, s, in, s->n_inputs, LAYER_RUNS);
out:
    if (in) pq_bench_input_free(in, s);
    pq_session_free(s);
    return st;
}

pq_latency_source pq_latency_engine_source(pq_latency_opts *opts)
{
    return (pq_latency_source){
        .user = opts, .time = time_plans, .layers = opts->engine->layers ? time_layers : NULL};
}
