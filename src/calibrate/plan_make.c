/* Ranges and an assignment of precisions into a plan. */
#include <math.h>
#include <string.h>

#include <pquant/calibrate.h>

#include "base/mem.h"
#include "calibrate/layout.h"
#include "plan/names.h"

pq_plan_tensor pq_range_grid(pq_scheme scheme, double amax, double lo, double hi)
{
    pq_plan_tensor t = {.dtype = scheme == PQ_SCHEME_U8 ? PQ_U8 : PQ_S8};
    if (scheme == PQ_SCHEME_S8) {
        t.scale = (float)(amax / 127);
        return t;
    }
    t.scale = (float)((hi - lo) / 255);
    t.zero_point = (int32_t)fmin(255, fmax(0, rint(-lo / (double)t.scale)));
    /* The rounded zero point moves the ends by up to half a step: stretch so that both still fit.
     */
    if (t.zero_point > 0 && t.zero_point < 255)
        t.scale = (float)fmax((double)t.scale, fmax(-lo / t.zero_point, hi / (255 - t.zero_point)));
    return t;
}

/* Union of the ranges that count, per group root. */
static pq_status group_ranges(pq_ctx *ctx, pq_range *hull, const pq_graph *g, const pq_ranges *r,
                              const pq_scale_layout *l)
{
    for (uint32_t v = 0; v < g->n_values; v++) {
        if (!l->listed[v] || !l->defines[v]) continue;
        const pq_range *x = pq_ranges_find(r, g->value[v].name);
        if (!x)
            return pq_fail(ctx, PQ_E_INVALID, "value '%s' has no calibrated range",
                           g->value[v].name);
        pq_range *h = &hull[l->group[v]];
        h->amax = fmaxf(h->amax, x->amax);
        h->lo = fminf(h->lo, x->lo);
        h->hi = fmaxf(h->hi, x->hi);
    }
    return PQ_OK;
}

static pq_status add_tensors(pq_ctx *ctx, pq_plan *p, const pq_graph *g, const pq_ranges *r,
                             const pq_scale_layout *l)
{
    pq_range *hull = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &hull, g->n_values, sizeof *hull));
    PQ_TRY(pq_alloc(ctx, &p->tensor, g->n_values, sizeof *p->tensor));
    PQ_TRY(group_ranges(ctx, hull, g, r, l));
    for (uint32_t v = 0; v < g->n_values; v++) {
        if (!l->listed[v]) continue;
        const pq_range *h = &hull[l->group[v]];
        if (!(h->amax > 0)) { /* none of the group counts: the value's own range does */
            h = pq_ranges_find(r, g->value[v].name);
            if (!h) {
                st = pq_fail(ctx, PQ_E_INVALID, "value '%s' has no calibrated range",
                             g->value[v].name);
                goto out;
            }
        }
        pq_plan_tensor t = pq_range_grid(p->scheme, (double)h->amax, (double)h->lo, (double)h->hi);
        PQ_TRY(pq_strdup(ctx, &t.name, g->value[v].name));
        p->tensor[p->n_tensors++] = t;
    }
out:
    pq_free(hull);
    return st;
}

pq_status pq_plan_make(pq_ctx *ctx, pq_plan **out, const pq_graph *g, const pq_ranges *r,
                       const bool *int8, pq_scheme scheme, pq_precision base)
{
    pq_scale_layout l = {0};
    pq_plan *p = NULL;
    pq_status st;
    size_t at = 0;
    *out = NULL;
    PQ_TRY(pq_plan_float(ctx, &p, g, base));
    if (strcmp(p->graph_hash, r->graph_hash) != 0) {
        st = pq_fail(ctx, PQ_E_INVALID, "ranges belong to graph %.12s, expected this graph, %.12s",
                     r->graph_hash, p->graph_hash);
        goto out;
    }
    p->scheme = scheme;
    PQ_TRY(pq_scale_layout_new(ctx, &l, g, int8));
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->dead) continue;
        if (n->quant_index >= 0 && int8[n->quant_index]) p->node[at].precision = PQ_PREC_INT8;
        at++;
    }
    PQ_TRY(add_tensors(ctx, p, g, r, &l));
    *out = p;
    p = NULL;
out:
    pq_scale_layout_clear(&l);
    pq_plan_free(p);
    return st;
}
