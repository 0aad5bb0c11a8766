/* Outputs with open sizes and of integers. */
#include "engine/foreign/outputs.h"

#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "base/mem.h"

static bool is_known(pq_dtype t)
{
    return t == PQ_F32 || t == PQ_S64 || t == PQ_S32 || t == PQ_S8 || t == PQ_U8 || t == PQ_BOOL;
}

pq_status pq_foreign_outputs(pq_ctx *ctx, pq_foreign_output **out, const pq_graph *g)
{
    bool *open = NULL;
    pq_status st;
    *out = NULL;
    for (size_t i = 0; i < g->n_inputs + g->n_outputs; i++) {
        const bool in = i < g->n_inputs;
        const pq_value *v = &g->value[in ? g->input[i] : g->output[i - g->n_inputs]];
        if (in ? v->dtype != PQ_F32 : !is_known(v->dtype))
            return pq_fail(ctx, PQ_E_UNSUPPORTED, "%s '%s' is %s, expected float32",
                           in ? "input" : "output", v->name, pq_dtype_name(v->dtype));
    }
    PQ_TRY(pq_alloc(ctx, &open, g->n_values, sizeof *open));
    PQ_TRY(pq_alloc(ctx, out, g->n_outputs, sizeof **out));
    pq_graph_mark_absent(g, open);
    for (size_t i = 0; i < g->n_outputs; i++) {
        const pq_value_id v = g->output[i];
        (*out)[i].dtype = g->value[v].dtype;
        (*out)[i].taken = open[v] || g->value[v].dtype != PQ_F32;
    }
    st = PQ_OK;
out:
    pq_free(open);
    return st;
}

static float element(pq_dtype t, const void *p, size_t i)
{
    switch (t) {
    case PQ_F32: return ((const float *)p)[i];
    case PQ_S64: return (float)((const int64_t *)p)[i];
    case PQ_S32: return (float)((const int32_t *)p)[i];
    case PQ_S8: return (float)((const int8_t *)p)[i];
    case PQ_BOOL: return (float)(((const uint8_t *)p)[i] != 0);
    default: return (float)((const uint8_t *)p)[i];
    }
}

static pq_status does_not_fit(pq_ctx *ctx, const pq_tensor *to, const char *name,
                              const int64_t *dim, size_t rank)
{
    char came[128], expected[128];
    pq_shape shape = {0};
    if (rank > PQ_MAX_RANK)
        return pq_fail(ctx, PQ_E_ENGINE, "output '%s' came with %zu dimensions, expected %d", name,
                       rank, to->shape.rank);
    shape.rank = (int)rank;
    for (size_t k = 0; k < rank; k++) shape.dim[k] = dim[k];
    return pq_fail(ctx, PQ_E_ENGINE, "output '%s' came as %s, expected at most %s", name,
                   pq_shape_text(&shape, came, sizeof came),
                   pq_shape_text(&to->shape, expected, sizeof expected));
}

pq_status pq_foreign_take(pq_ctx *ctx, pq_tensor *to, const char *name, pq_dtype dtype,
                          const int64_t *dim, size_t rank, const void *from)
{
    float *y = pq_tensor_data(to);
    const size_t all = (size_t)pq_shape_count(&to->shape);
    size_t place[PQ_MAX_RANK] = {0}, n = 1; /* place: of element i along each dimension */
    bool fits = rank == (size_t)to->shape.rank;
    for (size_t k = 0; fits && k < rank; k++) {
        fits = dim[k] >= 0 && dim[k] <= to->shape.dim[k];
        n *= (size_t)dim[k];
    }
    if (!fits) return does_not_fit(ctx, to, name, dim, rank);
    for (size_t i = 0; i < all; i++) y[i] = NAN;
    for (size_t i = 0; i < n; i++) {
        size_t at = 0;
        for (size_t k = 0; k < rank; k++) at = at * (size_t)to->shape.dim[k] + place[k];
        y[at] = element(dtype, from, i);
        for (size_t k = rank; k-- > 0 && ++place[k] == (size_t)dim[k];) place[k] = 0;
    }
    return PQ_OK;
}
