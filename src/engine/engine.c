/* The list of engines, and the checks in front of each call. */
#include <pquant/engine.h>

#include <string.h>

#include "base/mem.h"
#include "engine/engines.h"
#include "engine/program.h"

static const pq_engine *const engines[] = {&pq_engine_cpu,         &pq_engine_ref,
                                           &pq_engine_cuda_module, &pq_engine_openvino,
                                           &pq_engine_onnxruntime, NULL};

const pq_engine *const *pq_engines(void) { return engines; }

pq_status pq_engine_find(pq_ctx *ctx, const pq_engine **out, const char *name)
{
    char known[256] = "";
    *out = NULL;
    for (size_t i = 0; engines[i]; i++) {
        if (strcmp(engines[i]->name, name) == 0) {
            *out = engines[i];
            return PQ_OK;
        }
        strncat(known, i ? ", " : "", sizeof known - strlen(known) - 1);
        strncat(known, engines[i]->name, sizeof known - strlen(known) - 1);
    }
    return pq_fail(ctx, PQ_E_INVALID, "engine '%s', expected one of %s", name, known);
}

/* What no engine takes: images come as floats, convolutions have weights. */
static pq_status check_graph(pq_ctx *ctx, const pq_graph *g)
{
    for (size_t i = 0; i < g->n_inputs; i++) {
        const pq_value *v = &g->value[g->input[i]];
        if (v->dtype != PQ_F32)
            return pq_fail(ctx, PQ_E_UNSUPPORTED, "input '%s' is %s, expected float32", v->name,
                           pq_dtype_name(v->dtype));
    }
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (!n->dead && (n->op == PQ_OP_CONV || n->op == PQ_OP_CONV_TRANSPOSE) &&
            !pq_in(g, n, 1)->data)
            return pq_fail(ctx, PQ_E_UNSUPPORTED, "node '%s' (%s): weights are not constant",
                           n->name, pq_op_name(n->op));
    }
    return PQ_OK;
}

pq_status pq_compile(pq_ctx *ctx, pq_session **out, const pq_engine *engine, const pq_graph *g,
                     const pq_plan *plan, const pq_compile_opts *opts)
{
    const pq_compile_opts none = {0};
    const char *why = "";
    pq_binding b;
    *out = NULL;
    if (engine->abi != PQ_ENGINE_ABI)
        return pq_fail(ctx, PQ_E_INVALID, "engine interface version %u, expected %u", engine->abi,
                       PQ_ENGINE_ABI);
    pq_status st = check_graph(ctx, g);
    if (st != PQ_OK) return st;
    st = pq_plan_bind(ctx, &b, plan, g);
    for (size_t i = 0; st == PQ_OK && i < g->n_nodes; i++)
        if (!g->node[i].dead && !engine->accepts(g, &g->node[i], b.precision[i], &why))
            st = pq_fail(ctx, PQ_E_UNSUPPORTED,
                         "node '%s' (%s): engine '%s' cannot run it as %s: %s", g->node[i].name,
                         pq_op_name(g->node[i].op), engine->name, pq_precision_name(b.precision[i]),
                         why);
    pq_binding_clear(&b);
    return st == PQ_OK ? engine->compile(ctx, out, g, plan, opts ? opts : &none) : st;
}

static pq_status check(pq_ctx *ctx, const char *what, const pq_tensor *t, size_t n, char **name,
                       const pq_shape *shape, size_t expected)
{
    char a[96], b[96];
    if (n != expected)
        return pq_fail(ctx, PQ_E_INVALID, "%zu %ss, expected %zu", n, what, expected);
    for (size_t i = 0; i < n; i++)
        if (t[i].dtype != PQ_F32 || !t[i].buf || !pq_shape_equal(&t[i].shape, &shape[i]))
            return pq_fail(ctx, PQ_E_INVALID, "%s '%s': %s %s, expected float32 %s", what, name[i],
                           pq_dtype_name(t[i].dtype), pq_shape_text(&t[i].shape, a, sizeof a),
                           pq_shape_text(&shape[i], b, sizeof b));
    return PQ_OK;
}

pq_status pq_run(pq_ctx *ctx, pq_session *s, const pq_tensor *in, size_t n_in, pq_tensor *out,
                 size_t n_out)
{
    pq_status st = check(ctx, "input", in, n_in, s->input_name, s->input_shape, s->n_inputs);
    if (st == PQ_OK)
        st = check(ctx, "output", out, n_out, s->output_name, s->output_shape, s->n_outputs);
    return st == PQ_OK ? s->engine->run(ctx, s, in, n_in, out, n_out) : st;
}

/* Does the picture's copy lie within the input? */
static bool picture_fits(const pq_picture *p, const int64_t dim[4])
{
    return p->data && p->w > 0 && p->h > 0 && p->fit_w > 0 && p->fit_h > 0 && p->left >= 0 &&
           p->top >= 0 && p->left + (int64_t)p->fit_w <= dim[3] &&
           p->top + (int64_t)p->fit_h <= dim[2] && (p->channels == dim[1] || p->channels == 3) &&
           (p->across && p->down ? true : p->fit_w == p->w && p->fit_h == p->h);
}

static bool has_shape(const pq_session *s, int output, int64_t anchors, int64_t last)
{
    return output >= 0 && (size_t)output < s->n_outputs && s->output_shape[output].rank == 3 &&
           s->output_shape[output].dim[0] == s->input_shape[0].dim[0] &&
           s->output_shape[output].dim[1] == anchors && s->output_shape[output].dim[2] == last;
}

pq_status pq_run_pictures(pq_ctx *ctx, pq_session *s, const pq_pictures *in,
                          const pq_suppression *how, pq_found *out, uint32_t *n_out)
{
    if (!s->engine->pictures)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "engine '%s' does not prepare pictures",
                       s->engine->name);
    const int64_t *dim = s->input_shape[0].dim;
    if (s->n_inputs != 1 || s->input_shape[0].rank != 4 || (dim[1] != 1 && dim[1] != 3) ||
        (int64_t)in->n > dim[0])
        return pq_fail(
            ctx, PQ_E_INVALID,
            "%zu pictures for input '%s', expected one input of as many images, of 1 or 3 "
            "channels",
            in->n, s->input_name[0]);
    for (size_t i = 0; i < in->n; i++)
        if (!picture_fits(&in->at[i], dim))
            return pq_fail(ctx, PQ_E_INVALID,
                           "picture %zu: %d x %d in %d channels at %d, %d, expected within %lld x "
                           "%lld",
                           i, in->at[i].fit_w, in->at[i].fit_h, in->at[i].channels, in->at[i].left,
                           in->at[i].top, (long long)dim[3], (long long)dim[2]);
    if (how->max_det < 1 || how->n_classes < 1 || how->anchors * how->n_classes > INT32_MAX ||
        !(how->yolox ? has_shape(s, how->scores_at, how->anchors, 5 + (int64_t)how->n_classes)
                     : has_shape(s, how->scores_at, how->anchors, how->n_classes) &&
                           has_shape(s, how->boxes_at, how->anchors, 4)))
        return pq_fail(ctx, PQ_E_INVALID,
                       "outputs without %lld anchors of %d classes, or at most %d boxes",
                       (long long)how->anchors, how->n_classes, how->max_det);
    return s->engine->pictures(ctx, s, in, how, out, n_out);
}

void pq_session_free(pq_session *s)
{
    if (s) s->engine->destroy(s);
}

pq_status pq_engine_tensor(pq_ctx *ctx, pq_tensor *out, const pq_engine *engine,
                           const pq_shape *shape)
{
    const int64_t n = pq_shape_count(shape);
    if (!engine->memory || n <= 0 || (uint64_t)n > SIZE_MAX / sizeof(float))
        return pq_tensor_new(ctx, out, PQ_F32, shape);
    *out = (pq_tensor){.dtype = PQ_F32, .shape = *shape};
    return engine->memory(ctx, &out->buf, (size_t)n * sizeof(float));
}

pq_status pq_session_outputs(pq_ctx *ctx, pq_tensor **out, pq_session *s)
{
    pq_status st = pq_alloc(ctx, out, s->n_outputs, sizeof **out);
    for (size_t i = 0; st == PQ_OK && i < s->n_outputs; i++)
        st = pq_engine_tensor(ctx, &(*out)[i], s->engine, &s->output_shape[i]);
    if (st != PQ_OK) {
        pq_session_outputs_free(*out, s);
        *out = NULL;
    }
    return st;
}

void pq_session_outputs_free(pq_tensor *out, const pq_session *s)
{
    for (size_t i = 0; out && i < s->n_outputs; i++) pq_tensor_clear(&out[i]);
    pq_free(out);
}
