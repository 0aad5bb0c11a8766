/* The output error in place of AP. */
#include "sensitivity/proxy.h"

#include <string.h>

#include "base/mem.h"
#include "evaluate/distance.h"

static pq_status make_references(pq_ctx *ctx, pq_meter *m)
{
    pq_session *s = NULL;
    pq_tensor *out = NULL;
    uint8_t *none = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &none, m->n_ops, sizeof *none));
    PQ_TRY(pq_meter_compile(ctx, &s, m, none, false));
    PQ_TRY(pq_session_outputs(ctx, &out, s));
    const size_t each = pq_outputs_floats(s), fit = m->cache_bytes / 2 / (each * sizeof(float) + 1);
    m->n_references = fit < 1 ? 1 : fit < m->n_groups ? fit : m->n_groups;
    PQ_TRY(pq_alloc(ctx, &m->reference, m->n_references, each * sizeof(float)));
    for (size_t g = 0; g < m->n_references; g++) {
        PQ_TRY(pq_progress(ctx, "references", g, m->n_references));
        PQ_TRY(pq_meter_place(ctx, m, s, NULL, g, out));
        pq_outputs_store(m->reference + g * each, out, s->n_outputs);
    }
    m->cache_bytes -= m->n_references * each * sizeof(float);
    st = pq_progress(ctx, "references", m->n_references, m->n_references);
out:
    if (out) pq_session_outputs_free(out, s);
    pq_session_free(s);
    pq_free(none);
    return st;
}

pq_status pq_proxy_run(pq_ctx *ctx, pq_figures *out, pq_meter *m, pq_session *s, const pq_start *p)
{
    pq_tensor *y = NULL;
    double sum = 0;
    pq_status st = m->reference ? PQ_OK : make_references(ctx, m);
    if (st != PQ_OK) return st;
    PQ_TRY(pq_session_outputs(ctx, &y, s));
    const float *reference = m->reference;
    for (size_t g = 0; g < m->n_references; g++) {
        PQ_TRY(pq_meter_place(ctx, m, s, p, g, y));
        for (size_t i = 0; i < s->n_outputs; i++) {
            const size_t n = (size_t)pq_shape_count(&s->output_shape[i]);
            sum += (1 - pq_outputs_distance(pq_tensor_data(&y[i]), reference, n)) /
                   (double)s->n_outputs;
            reference += n;
        }
    }
    for (int i = 0; i < PQ_FIG_COUNT; i++) out->v[i] = -1;
    out->v[PQ_FIG_AP] = sum / (double)m->n_references;
out:
    if (y) pq_session_outputs_free(y, s);
    return st;
}
