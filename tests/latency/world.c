#include "world.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static pq_status probe(pq_ctx *ctx, pq_engine_info *out)
{
    (void)ctx;
    *out = (pq_engine_info){.version = "1", .device = "none"};
    return PQ_OK;
}

static double mb_of(const world *w, size_t k)
{
    const pq_graph *g = w->small.g;
    const pq_node *n = &g->node[pq_graph_quantizable(g, (int)k)];
    return 4e-6 * (double)pq_shape_count(&g->value[n->out[0]].shape);
}

double world_ms(const world *w, const uint8_t *label)
{
    double ms = WORLD_FULL_MS;
    for (size_t k = 0; k < w->n_ops; k++) {
        ms -= w->save[k][label[k]];
        if (k + 1 < w->n_ops && label[k] != label[k + 1]) ms += w->alpha + w->beta * mb_of(w, k);
    }
    return ms;
}

/* About normal, from labels and call. */
static double noise(const world *w, const uint8_t *label)
{
    pq_rng r = {w->calls};
    double sum = 0;
    for (size_t k = 0; k < w->n_ops; k++) r.s = pq_rng_u64(&r) + label[k];
    for (int i = 0; i < 12; i++) sum += pq_rng_double(&r);
    return sum - 6;
}

static pq_status time_plans(pq_ctx *ctx, void *user, const uint8_t *const *label, size_t n,
                            double *ms)
{
    world *w = user;
    if (++w->calls == w->fail_at) return pq_fail(ctx, PQ_E_ENGINE, "call %zu fails", w->calls);
    for (size_t i = 0; i < n; i++)
        ms[i] = world_ms(w, label[i]) * (1 + w->noise * noise(w, label[i]));
    w->timed += n;
    return PQ_OK;
}

static pq_status time_layers(pq_ctx *ctx, void *user, const uint8_t *label, pq_layer **out,
                             size_t *n)
{
    world *w = user;
    const pq_graph *g = w->small.g;
    pq_rng r = {9 + label[0]};
    if (w->no_layers) return pq_fail(ctx, PQ_E_UNSUPPORTED, "no layers");
    const pq_status st = pq_alloc(ctx, out, w->n_ops, sizeof **out);
    if (st != PQ_OK) return st;
    for (size_t k = 0; k < w->n_ops; k++) {
        const double wrong = 1 + w->layer_error * (2 * pq_rng_double(&r) - 1);
        pq_layer *l = &(*out)[k];
        snprintf(l->node, sizeof l->node, "%s", g->node[pq_graph_quantizable(g, (int)k)].name);
        l->ms = (1 - w->save[k][label[k]]) * wrong;
    }
    *n = w->n_ops;
    return PQ_OK;
}

void world_begin(world *w, int n_labels)
{
    pq_graph_mark_quantizable(w->small.g);
    pq_graph_seal(w->small.g);
    w->n_ops = pq_graph_quantizable_count(w->small.g);
    assert_true(w->n_ops <= WORLD_MOST_OPS);
    w->engine = (pq_engine){.abi = PQ_ENGINE_ABI, .name = "made up", .probe = probe};
    w->source = (pq_latency_source){.user = w, .time = time_plans, .layers = time_layers};
    w->opts = (pq_latency_opts){
        .engine = &w->engine, .graph = w->small.g, .n_labels = n_labels, .source = &w->source};
}

void world_chain(world *w, size_t n, int n_labels)
{
    pq_rng r = {3};
    char name[32];
    memset(w, 0, sizeof *w);
    pq_small_begin(&w->small, PQ_SHAPE(1, 8, 64, 64));
    pq_value_id x = w->small.x;
    for (size_t k = 0; k < n; k++) {
        snprintf(name, sizeof name, "conv%zu", k);
        const int64_t stride = k % 16 == 3 ? 2 : 1;
        x = pq_small_conv(&w->small, name, x,
                          (pq_small_window){8, 8, 1, stride, 0, 1, .bias = true});
    }
    pq_small_outputs(&w->small, &x, 1);
    world_begin(w, n_labels);
    for (size_t k = 0; k < n; k++)
        for (int l = 1; l < n_labels; l++)
            w->save[k][l] = 0.8 * (pq_rng_double(&r) - 0.15) * l / (n_labels - 1);
    w->alpha = 0.05;
    w->beta = 2;
}

void world_end(world *w) { pq_small_end(&w->small); }
