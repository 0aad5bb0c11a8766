/* The plain engine: the truth that the others are tested against. Slow and exact. */
#include "engine/ref/ref.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "engine/engines.h"
#include "engine/stepped.h"
#include "graph/eval.h"

typedef struct ref_session {
    pq_stepped stepped;
    ref_weights *weights; /* per step */
    int8_t **q;           /* per step, owned */
    float **scale, **rounded;
} ref_session;

static pq_status probe(pq_ctx *ctx, pq_engine_info *out)
{
    (void)ctx;
    *out = (pq_engine_info){.version = PQ_VERSION_STRING,
                            .device = "plain C",
                            .precisions = 1u << PQ_PREC_FP32 | 1u << PQ_PREC_FP16 |
                                          1u << PQ_PREC_BF16 | 1u << PQ_PREC_INT8,
                            .scheme = PQ_SCHEME_U8,
                            .taps = true};
    return PQ_OK;
}

static bool accepts(const pq_graph *g, const pq_node *n, pq_precision p, const char **why)
{
    (void)g;
    (void)p;
    *why = "no such operator";
    return n->op == PQ_OP_CONV || n->op == PQ_OP_CONV_TRANSPOSE || pq_eval_supports(n->op);
}

static size_t slot_bytes(const pq_stepped *s, const pq_slot *slot)
{
    (void)s;
    return (size_t)pq_shape_count(&slot->shape) * pq_dtype_size(slot->dtype);
}

static bool channels_last(const pq_stepped *s, const pq_slot *slot)
{
    (void)s;
    (void)slot;
    return false;
}

static float load(const pq_slot *s, const void *data, size_t i)
{
    double v = pq_element(s->dtype, data, i);
    return s->form == PQ_FORM_QUANTIZED ? (float)((int)v - s->zero_point) * s->scale : (float)v;
}

/* Real values of a slot as a tensor: in place where it is stored so, else a copy. */
static pq_status as_tensor(pq_ctx *ctx, pq_tensor *out, const pq_slot *s, void *data)
{
    const size_t n = (size_t)pq_shape_count(&s->shape);
    pq_status st;
    if (s->form != PQ_FORM_QUANTIZED && s->dtype != PQ_BF16 && s->dtype != PQ_F16) {
        *out = (pq_tensor){.dtype = s->dtype, .shape = s->shape};
        return pq_buf_wrap(ctx, &out->buf, data, n * pq_dtype_size(s->dtype), NULL, NULL);
    }
    if ((st = pq_tensor_new(ctx, out, PQ_F32, &s->shape)) != PQ_OK) return st;
    float *f = pq_tensor_data(out);
    for (size_t i = 0; i < n; i++) f[i] = load(s, data, i);
    return PQ_OK;
}

static void store_all(const pq_slot *s, void *dst, const pq_tensor *t)
{
    const size_t n = (size_t)pq_shape_count(&s->shape);
    if (s->form != PQ_FORM_QUANTIZED && s->dtype == t->dtype)
        memcpy(dst, pq_tensor_data(t), n * pq_dtype_size(t->dtype));
    else
        for (size_t i = 0; i < n; i++)
            pq_ref_store(dst, i, s, ((const float *)pq_tensor_data(t))[i]);
}

static pq_status convert(pq_ctx *ctx, ref_session *s, const pq_step *step)
{
    const pq_program *p = s->stepped.program;
    const pq_slot *from = &p->slot[step->in[0]], *to = &p->slot[step->out[0]];
    const void *src = s->stepped.ptr[step->in[0]];
    void *dst = s->stepped.ptr[step->out[0]];
    (void)ctx;
    for (size_t i = 0, n = (size_t)pq_shape_count(&to->shape); i < n; i++)
        pq_ref_store(dst, i, to, load(from, src, i));
    return PQ_OK;
}

static pq_status weighted(pq_ctx *ctx, ref_session *s, size_t i)
{
    const pq_program *p = s->stepped.program;
    const pq_step *step = &p->step[i];
    const pq_node *n = &p->graph->node[step->node];
    const pq_attr *sum = step->add == PQ_NONE ? NULL : &p->graph->node[step->add].attr;
    const pq_slot *in = &p->slot[step->in[0]], *out = &p->slot[step->out[0]];
    const ref_epilogue e = {.act = n->attr.act,
                            .alpha = n->attr.alpha,
                            .beta = n->attr.beta,
                            .sum_act = sum ? sum->act : PQ_ACT_NONE,
                            .sum_alpha = sum ? sum->alpha : 0,
                            .sum_beta = sum ? sum->beta : 0,
                            .residual = step->residual == PQ_NONE ? NULL : &p->slot[step->residual],
                            .residual_data =
                                step->residual == PQ_NONE ? NULL : s->stepped.ptr[step->residual]};
    void *x = s->stepped.ptr[step->in[0]], *y = s->stepped.ptr[step->out[0]];
    pq_tensor real = {0};
    pq_slot real_in = *in;
    pq_status st = PQ_OK;
    if (in->dtype == PQ_BF16 || in->dtype == PQ_F16) {
        if ((st = as_tensor(ctx, &real, in, x)) != PQ_OK) return st;
        x = pq_tensor_data(&real);
        real_in.dtype = PQ_F32;
    }
    if (n->op == PQ_OP_CONV || n->op == PQ_OP_CONV_TRANSPOSE)
        st = pq_ref_conv(ctx, n, &s->weights[i], &e, &real_in, x, out, y);
    else
        st = pq_ref_matmul(ctx, p->graph, n, &s->weights[i], &e, &real_in, x, out, y);
    pq_tensor_clear(&real);
    return st;
}

static pq_status other(pq_ctx *ctx, ref_session *s, const pq_step *step)
{
    const pq_program *p = s->stepped.program;
    const pq_node *n = &p->graph->node[step->node];
    pq_tensor in[64] = {0}, out[64] = {0};
    const pq_tensor *in_ptr[64] = {0};
    pq_status st;
    PQ_ASSERT(ctx, step->n_in <= 64 && step->n_out <= 64);
    for (int k = 0; k < step->n_in; k++) {
        if (step->in[k] == PQ_NONE) continue;
        PQ_TRY(as_tensor(ctx, &in[k], &p->slot[step->in[k]], s->stepped.ptr[step->in[k]]));
        in_ptr[k] = &in[k];
    }
    PQ_TRY(pq_eval_node(ctx, p->graph, n, in_ptr, out));
    for (int k = 0; k < step->n_out; k++)
        store_all(&p->slot[step->out[k]], s->stepped.ptr[step->out[k]], &out[k]);
out:
    for (int k = 0; k < step->n_in && k < 64; k++) pq_tensor_clear(&in[k]);
    for (int k = 0; k < step->n_out && k < 64; k++) pq_tensor_clear(&out[k]);
    return st;
}

static pq_status run_step(pq_ctx *ctx, pq_stepped *stepped, size_t i)
{
    ref_session *s = (ref_session *)stepped;
    const pq_step *step = &stepped->program->step[i];
    if (step->convert) return convert(ctx, s, step);
    if (s->weights[i].f || s->weights[i].q) return weighted(ctx, s, i);
    return other(ctx, s, step);
}

static void destroy(pq_session *session)
{
    ref_session *s = (ref_session *)session;
    for (size_t i = 0; s->stepped.program && i < s->stepped.program->n_steps; i++) {
        if (s->q) pq_free(s->q[i]);
        if (s->scale) pq_free(s->scale[i]);
        if (s->rounded) pq_free(s->rounded[i]);
    }
    pq_free(s->q);
    pq_free(s->scale);
    pq_free(s->rounded);
    pq_free(s->weights);
    pq_stepped_clear(&s->stepped);
    pq_free(s);
}

static pq_status prepare(pq_ctx *ctx, ref_session *s, size_t i)
{
    const pq_program *p = s->stepped.program;
    const pq_step *step = &p->step[i];
    if (step->convert) return PQ_OK;
    const pq_node *n = &p->graph->node[step->node];
    if (n->quant_index < 0 || n->op == PQ_OP_MAX_POOL) return PQ_OK;
    ref_weights *w = &s->weights[i];
    pq_status st = PQ_OK;
    w->bias = pq_bias_data(p->graph, n);
    if (step->precision == PQ_PREC_INT8) {
        st = pq_step_quantize(ctx, &s->q[i], &s->scale[i], p, n);
        w->q = s->q[i];
        w->scale = s->scale[i];
        return st;
    }
    w->f = pq_weight_data(p->graph, n);
    if (step->precision == PQ_PREC_BF16 || step->precision == PQ_PREC_FP16) {
        const bool half = step->precision == PQ_PREC_FP16;
        const size_t count = (size_t)pq_shape_count(&pq_in(p->graph, n, 1)->shape);
        if ((st = pq_alloc(ctx, &s->rounded[i], count, sizeof(float))) != PQ_OK) return st;
        for (size_t k = 0; k < count; k++)
            s->rounded[i][k] = half ? pq_f16_to_f32(pq_f32_to_f16(w->f[k]))
                                    : pq_bf16_to_f32(pq_f32_to_bf16(w->f[k]));
        w->f = s->rounded[i];
    }
    return st;
}

static pq_status compile(pq_ctx *ctx, pq_session **out, const pq_graph *g, const pq_plan *plan,
                         const pq_compile_opts *opts)
{
    ref_session *s = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &s, 1, sizeof *s));
    s->stepped.base.engine = &pq_engine_ref;
    s->stepped.run_step = run_step;
    s->stepped.slot_bytes = slot_bytes;
    s->stepped.channels_last = channels_last;
    PQ_TRY(pq_stepped_init(ctx, &s->stepped, &pq_engine_ref, g, plan, opts));
    if (opts->outline) goto done;
    const size_t n = s->stepped.program->n_steps;
    PQ_TRY(pq_alloc(ctx, &s->weights, n, sizeof *s->weights));
    PQ_TRY(pq_alloc(ctx, &s->q, n, sizeof *s->q));
    PQ_TRY(pq_alloc(ctx, &s->scale, n, sizeof *s->scale));
    PQ_TRY(pq_alloc(ctx, &s->rounded, n, sizeof *s->rounded));
    for (size_t i = 0; i < n; i++) PQ_TRY(prepare(ctx, s, i));
    PQ_TRY(pq_stepped_allocate(ctx, &s->stepped));
done:
    *out = &s->stepped.base;
    s = NULL;
out:
    if (s) destroy(&s->stepped.base);
    return st;
}

const pq_engine pq_engine_ref = {.abi = PQ_ENGINE_ABI,
                                 .name = "ref",
                                 .probe = probe,
                                 .accepts = accepts,
                                 .compile = compile,
                                 .run = pq_stepped_run,
                                 .destroy = destroy,
                                 .common_prefix = pq_stepped_prefix,
                                 .state_bytes = pq_stepped_state_bytes,
                                 .run_part = pq_stepped_part};
