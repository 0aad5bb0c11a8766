/* The part of a session that all engines share. Apart from engine.c, so that a module can have it
 * without the list of engines. */
#include "base/mem.h"
#include "engine/program.h"

static pq_status describe(pq_ctx *ctx, const pq_graph *g, const pq_value_id *v, size_t n,
                          pq_shape **shape, char ***name)
{
    pq_status st;
    PQ_TRY(pq_alloc(ctx, shape, n, sizeof **shape));
    PQ_TRY(pq_alloc(ctx, name, n, sizeof **name));
    for (size_t i = 0; i < n; i++) {
        (*shape)[i] = g->value[v[i]].shape;
        PQ_TRY(pq_strdup(ctx, &(*name)[i], g->value[v[i]].name));
    }
out:
    return st;
}

pq_status pq_session_describe(pq_ctx *ctx, pq_session *s, const pq_engine *engine,
                              const pq_graph *g)
{
    s->engine = engine;
    s->n_inputs = g->n_inputs;
    s->n_outputs = g->n_outputs;
    pq_status st = describe(ctx, g, g->input, g->n_inputs, &s->input_shape, &s->input_name);
    if (st == PQ_OK)
        st = describe(ctx, g, g->output, g->n_outputs, &s->output_shape, &s->output_name);
    return st;
}

void pq_session_forget(pq_session *s)
{
    for (size_t i = 0; s->input_name && i < s->n_inputs; i++) pq_free(s->input_name[i]);
    for (size_t i = 0; s->output_name && i < s->n_outputs; i++) pq_free(s->output_name[i]);
    pq_free(s->input_name);
    pq_free(s->output_name);
    pq_free(s->input_shape);
    pq_free(s->output_shape);
}
