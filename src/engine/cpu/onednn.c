/* Weighted nodes as oneDNN primitives: activations NHWC, weights packed once. A product [m, k] x
 * [k, n] is a 1x1 convolution over m pixels. Where the processor's u8 x s8 instruction saturates
 * (no VNNI), integer convolutions run on our own exact rows instead. */
#include <math.h>
#include <string.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "engine/cpu/cpu.h"

typedef struct geometry {
    int64_t n, c, h, w, o, oh, ow, groups;
    pq_window window;
    bool transposed;
} geometry;

enum { MOST_ARGS = 12 };

struct cpu_conv {
    geometry g;
    const char *impl;
    dnnl_primitive_t primitive;
    dnnl_memory_t src, dst, owned[MOST_ARGS];
    int n_owned, n_args;
    dnnl_exec_arg_t arg[MOST_ARGS];
    bool sum_inside;   /* the residual stands in dst when the primitive starts */
    bool apart;        /* float result to scratch, then cpu_finish */
    int16_t *weight16; /* own exact rows */
    float *multiplier, *bias;
};

const char *cpu_conv_impl(const cpu_conv *c) { return c->impl; }
bool cpu_conv_sums_in_place(const cpu_conv *c) { return c->sum_inside; }

void cpu_conv_free(cpu_conv *c)
{
    if (!c) return;
    if (c->primitive) dnnl_primitive_destroy(c->primitive);
    if (c->src) dnnl_memory_destroy(c->src);
    if (c->dst) dnnl_memory_destroy(c->dst);
    for (int i = 0; i < c->n_owned; i++) dnnl_memory_destroy(c->owned[i]);
    pq_free(c->weight16);
    pq_free(c->multiplier);
    pq_free(c->bias);
    pq_free(c);
}

static geometry find_geometry(const pq_program *p, const pq_step *step, const pq_node *n)
{
    const pq_shape *in = &p->slot[step->in[0]].shape, *out = &p->slot[step->out[0]].shape;
    geometry g = {.window = n->attr.window, .transposed = n->op == PQ_OP_CONV_TRANSPOSE};
    if (n->op == PQ_OP_CONV || n->op == PQ_OP_CONV_TRANSPOSE) {
        g.n = in->dim[0], g.c = in->dim[1], g.h = in->dim[2], g.w = in->dim[3];
        g.o = out->dim[1], g.oh = out->dim[2], g.ow = out->dim[3];
        g.groups = n->attr.window.groups;
        return g;
    }
    g.n = g.h = g.oh = g.groups = 1;
    g.o = out->dim[out->rank - 1];
    g.w = g.ow = pq_shape_count(out) / g.o;
    g.c = pq_shape_count(in) / g.w;
    for (int i = 0; i < 2; i++) g.window.kernel[i] = g.window.stride[i] = g.window.dilation[i] = 1;
    return g;
}

/* Position in the graph's weight of (output channel o, input channel c of its group, ky, kx). */
static size_t weight_at(const geometry *g, const pq_node *n, int64_t o, int64_t c, int64_t k)
{
    const int64_t area = g->window.kernel[0] * g->window.kernel[1], cg = g->c / g->groups,
                  og = g->o / g->groups;
    switch (n->op) {
    case PQ_OP_CONV_TRANSPOSE: return (size_t)(((o / og * cg + c) * og + o % og) * area + k);
    case PQ_OP_MATMUL: return (size_t)(c * g->o + o);
    case PQ_OP_GEMM: return (size_t)(n->attr.trans_b ? o * g->c + c : c * g->o + o);
    default: return (size_t)((o * cg + c) * area + k);
    }
}

/* Weights as [groups][o][c][kh][kw], elements of `size` bytes. */
static void order_weights(void *dst, const void *src, size_t size, const geometry *g,
                          const pq_node *n)
{
    const int64_t area = g->window.kernel[0] * g->window.kernel[1], cg = g->c / g->groups;
    size_t at = 0;
    for (int64_t o = 0; o < g->o; o++)
        for (int64_t c = 0; c < cg; c++)
            for (int64_t k = 0; k < area; k++, at++)
                memcpy((char *)dst + at * size, (const char *)src + weight_at(g, n, o, c, k) * size,
                       size);
}

static size_t channel_of(const geometry *g, const pq_node *n, int64_t o)
{
    return (size_t)(n->op == PQ_OP_CONV_TRANSPOSE ? o % (g->o / g->groups) : o);
}

static dnnl_data_type_t data_type(pq_dtype t)
{
    switch (t) {
    case PQ_S8: return dnnl_s8;
    case PQ_U8: return dnnl_u8;
    case PQ_BF16: return dnnl_bf16;
    default: return dnnl_f32;
    }
}

/* ---- attributes ---- */

static dnnl_status_t append_act(dnnl_post_ops_t po, pq_act act, float alpha, float beta)
{
    switch (act) {
    case PQ_ACT_NONE: return dnnl_success;
    case PQ_ACT_RELU: return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_relu, 0, 0);
    case PQ_ACT_LEAKY_RELU: return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_relu, alpha, 0);
    case PQ_ACT_CLIP: return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_clip, alpha, beta);
    case PQ_ACT_SIGMOID: return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_logistic, 0, 0);
    case PQ_ACT_SILU: return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_swish, 1, 0);
    case PQ_ACT_HARD_SIGMOID:
        return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_hardsigmoid, alpha, beta);
    case PQ_ACT_HARD_SWISH:
        return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_hardswish, 1.0f / 6, 0.5f);
    case PQ_ACT_TANH: return dnnl_post_ops_append_eltwise(po, dnnl_eltwise_tanh, 0, 0);
    }
    return dnnl_unimplemented;
}

static pq_status make_attr(pq_ctx *ctx, dnnl_primitive_attr_t *out, const pq_program *p,
                           const pq_step *step, const geometry *g, bool apart)
{
    const pq_slot *x = &p->slot[step->in[0]], *y = &p->slot[step->out[0]];
    const pq_attr *a = &p->graph->node[step->node].attr;
    dnnl_post_ops_t po = NULL;
    pq_status st = PQ_OK;
    *out = NULL;
    CPU_DNNL(ctx, dnnl_primitive_attr_create(out));
    CPU_DNNL(ctx, dnnl_post_ops_create(&po));
    if (step->precision == PQ_PREC_INT8) {
        CPU_DNNL(ctx, dnnl_primitive_attr_set_scales_mask(*out, DNNL_ARG_SRC, 0));
        CPU_DNNL(ctx, dnnl_primitive_attr_set_scales_mask(*out, DNNL_ARG_WEIGHTS,
                                                          g->groups > 1 ? 3 : 1));
        if (x->zero_point)
            CPU_DNNL(ctx, dnnl_primitive_attr_set_zero_points_mask(*out, DNNL_ARG_SRC, 0));
        if (y->form == PQ_FORM_QUANTIZED && !apart) {
            CPU_DNNL(ctx, dnnl_primitive_attr_set_scales_mask(*out, DNNL_ARG_DST, 0));
            if (y->zero_point)
                CPU_DNNL(ctx, dnnl_primitive_attr_set_zero_points_mask(*out, DNNL_ARG_DST, 0));
        }
    }
    if (!apart) {
        CPU_DNNL(ctx, append_act(po, a->act, a->alpha, a->beta));
        if (step->residual != PQ_NONE) {
            const pq_slot *r = &p->slot[step->residual];
            const bool q = r->form == PQ_FORM_QUANTIZED;
            CPU_DNNL(ctx, dnnl_post_ops_append_sum(po, q ? r->scale : 1.0f, q ? r->zero_point : 0,
                                                   data_type(r->dtype)));
            const pq_attr *s = &p->graph->node[step->add].attr;
            CPU_DNNL(ctx, append_act(po, s->act, s->alpha, s->beta));
        }
        CPU_DNNL(ctx, dnnl_primitive_attr_set_post_ops(*out, po));
    }
out:
    if (po) dnnl_post_ops_destroy(po);
    return st;
}

/* ---- primitive ---- */

typedef struct descs {
    dnnl_memory_desc_t src, weights, bias, dst;
} descs;

static void free_descs(descs *d)
{
    if (d->src) dnnl_memory_desc_destroy(d->src);
    if (d->weights) dnnl_memory_desc_destroy(d->weights);
    if (d->bias) dnnl_memory_desc_destroy(d->bias);
    if (d->dst) dnnl_memory_desc_destroy(d->dst);
}

static pq_status make_descs(pq_ctx *ctx, descs *d, const geometry *g, dnnl_data_type_t src,
                            dnnl_data_type_t weights, dnnl_data_type_t dst, bool bias)
{
    const dnnl_dims_t sd = {g->n, g->c, g->h, g->w}, dd = {g->n, g->o, g->oh, g->ow}, bd = {g->o};
    const int64_t kh = g->window.kernel[0], kw = g->window.kernel[1];
    const dnnl_dims_t wd = {g->o, g->c, kh, kw},
                      wg = {g->groups, g->o / g->groups, g->c / g->groups, kh, kw};
    pq_status st = PQ_OK;
    CPU_DNNL(ctx, dnnl_memory_desc_create_with_tag(&d->src, 4, sd, src, dnnl_nhwc));
    CPU_DNNL(ctx, dnnl_memory_desc_create_with_tag(&d->dst, 4, dd, dst, dnnl_nhwc));
    CPU_DNNL(ctx, dnnl_memory_desc_create_with_tag(&d->weights, g->groups > 1 ? 5 : 4,
                                                   g->groups > 1 ? wg : wd, weights,
                                                   dnnl_format_tag_any));
    if (bias) CPU_DNNL(ctx, dnnl_memory_desc_create_with_tag(&d->bias, 1, bd, dnnl_f32, dnnl_a));
out:
    return st;
}

/* NULL in *out where oneDNN has no such convolution. */
static dnnl_status_t describe(dnnl_primitive_desc_t *out, cpu_session *s, const geometry *g,
                              const descs *d, dnnl_primitive_attr_t attr)
{
    const pq_window *w = &g->window;
    const dnnl_dims_t strides = {w->stride[0], w->stride[1]},
                      dilates = {w->dilation[0] - 1, w->dilation[1] - 1},
                      lo = {w->pad[0], w->pad[1]};
    dnnl_dims_t hi;
    for (int i = 0; i < 2; i++) { /* what the output size implies: ceil mode or odd sizes */
        const int64_t in = i ? g->w : g->h, o = i ? g->ow : g->oh,
                      reach = w->dilation[i] * (w->kernel[i] - 1) + 1;
        hi[i] = g->transposed ? (in - 1) * w->stride[i] + reach - lo[i] - o
                              : (o - 1) * w->stride[i] + reach - in - lo[i];
    }
    *out = NULL;
    return g->transposed ? dnnl_deconvolution_forward_primitive_desc_create(
                               out, s->engine, dnnl_forward_inference, dnnl_deconvolution_direct,
                               d->src, d->weights, d->bias, d->dst, strides, dilates, lo, hi, attr)
                         : dnnl_convolution_forward_primitive_desc_create(
                               out, s->engine, dnnl_forward_inference, dnnl_convolution_direct,
                               d->src, d->weights, d->bias, d->dst, strides, dilates, lo, hi, attr);
}

static const char *impl_of(dnnl_primitive_desc_t pd)
{
    const char *name = "";
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&name);
    return name;
}

static bool is_slow(dnnl_primitive_desc_t pd)
{
    return strncmp(impl_of(pd), "ref", 3) == 0 || strncmp(impl_of(pd), "gemm:ref", 8) == 0;
}

/* Of 1 x 1 convolutions oneDNN has two AMX kernels. The one that it takes where the other cannot do
 * the activation (SiLU) loses to VNNI below 512 input channels, up to 2.5 times: docs/engines.md.
 */
static dnnl_status_t leave_slow_amx(dnnl_primitive_desc_t *pd, cpu_session *s, const geometry *g,
                                    const descs *d, dnnl_primitive_attr_t attr)
{
    enum { PAYS = 512 };
    dnnl_primitive_desc_t other;
    if (g->c >= PAYS || strcmp(impl_of(*pd), "jit_1x1:avx512_core_amx") != 0) return dnnl_success;
    dnnl_status_t ds = describe(&other, s, g, d, attr);
    while (ds == dnnl_success && strcmp(impl_of(other), "brgconv_1x1:avx512_core_vnni") != 0)
        ds = dnnl_primitive_desc_next_impl(other);
    if (ds == dnnl_success) {
        dnnl_primitive_desc_t slow = *pd;
        *pd = other;
        other = slow;
    }
    return other ? dnnl_primitive_desc_destroy(other) : dnnl_success;
}

/* ---- arguments ---- */

static pq_status own(pq_ctx *ctx, cpu_conv *c, int arg, dnnl_memory_t m)
{
    PQ_ASSERT(ctx, c->n_owned < MOST_ARGS && c->n_args < MOST_ARGS);
    c->owned[c->n_owned++] = m;
    c->arg[c->n_args++] = (dnnl_exec_arg_t){arg, m};
    return PQ_OK;
}

static pq_status add_vector(pq_ctx *ctx, cpu_session *s, cpu_conv *c, int arg,
                            dnnl_data_type_t type, const void *data, int64_t n)
{
    dnnl_memory_desc_t md = NULL;
    dnnl_memory_t m = NULL;
    void *to = NULL;
    const dnnl_dims_t dims = {n};
    pq_status st;
    CPU_DNNL(ctx, dnnl_memory_desc_create_with_tag(&md, 1, dims, type, dnnl_a));
    CPU_DNNL(ctx, dnnl_memory_create(&m, md, s->engine, DNNL_MEMORY_ALLOCATE));
    CPU_DNNL(ctx, dnnl_memory_get_data_handle(m, &to));
    memcpy(to, data, (size_t)n * 4);
    st = own(ctx, c, arg, m);
    m = NULL;
out:
    if (m) dnnl_memory_destroy(m);
    if (md) dnnl_memory_desc_destroy(md);
    return st;
}

static pq_status pack_weights(pq_ctx *ctx, cpu_session *s, cpu_conv *c, dnnl_primitive_desc_t pd,
                              void *data, bool int8)
{
    const geometry *g = &c->g;
    const int64_t kh = g->window.kernel[0], kw = g->window.kernel[1];
    const dnnl_dims_t wd = {g->o, g->c, kh, kw},
                      wg = {g->groups, g->o / g->groups, g->c / g->groups, kh, kw};
    const_dnnl_memory_desc_t want = dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    dnnl_memory_desc_t md = NULL;
    dnnl_memory_t from = NULL, to = NULL;
    dnnl_primitive_desc_t rpd = NULL;
    dnnl_primitive_t reorder = NULL;
    pq_status st;
    CPU_DNNL(ctx, dnnl_memory_desc_create_with_tag(
                      &md, g->groups > 1 ? 5 : 4, g->groups > 1 ? wg : wd,
                      int8 ? dnnl_s8 : dnnl_f32, g->groups > 1 ? dnnl_goihw : dnnl_oihw));
    CPU_DNNL(ctx, dnnl_memory_create(&from, md, s->engine, data));
    CPU_DNNL(ctx, dnnl_memory_create(&to, want, s->engine, DNNL_MEMORY_ALLOCATE));
    CPU_DNNL(ctx, dnnl_reorder_primitive_desc_create(&rpd, md, s->engine, want, s->engine, NULL));
    CPU_DNNL(ctx, dnnl_primitive_create(&reorder, rpd));
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    CPU_DNNL(ctx, dnnl_primitive_execute(reorder, s->stream, 2, args));
    CPU_DNNL(ctx, dnnl_stream_wait(s->stream));
    s->stepped.base.weight_bytes += dnnl_memory_desc_get_size(want);
    st = own(ctx, c, DNNL_ARG_WEIGHTS, to);
    to = NULL;
out:
    if (reorder) dnnl_primitive_destroy(reorder);
    if (rpd) dnnl_primitive_desc_destroy(rpd);
    if (from) dnnl_memory_destroy(from);
    if (to) dnnl_memory_destroy(to);
    if (md) dnnl_memory_desc_destroy(md);
    return st;
}

static pq_status add_scales(pq_ctx *ctx, cpu_session *s, cpu_conv *c, const pq_step *step,
                            const pq_node *n, const float *scale)
{
    const pq_slot *x = &s->stepped.program->slot[step->in[0]],
                  *y = &s->stepped.program->slot[step->out[0]];
    const geometry *g = &c->g;
    const int64_t o = g->o;
    float *per_channel = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &per_channel, (size_t)o, sizeof *per_channel));
    for (int64_t i = 0; i < o; i++) per_channel[i] = scale[channel_of(g, n, i)];
    PQ_TRY(add_vector(ctx, s, c, DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC, dnnl_f32, &x->scale, 1));
    PQ_TRY(
        add_vector(ctx, s, c, DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, dnnl_f32, per_channel, o));
    if (x->zero_point)
        PQ_TRY(add_vector(ctx, s, c, DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, dnnl_s32,
                          &x->zero_point, 1));
    if (y->form == PQ_FORM_QUANTIZED && !c->apart) {
        PQ_TRY(add_vector(ctx, s, c, DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST, dnnl_f32, &y->scale, 1));
        if (y->zero_point)
            PQ_TRY(add_vector(ctx, s, c, DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_DST, dnnl_s32,
                              &y->zero_point, 1));
    }
out:
    pq_free(per_channel);
    return st;
}

static pq_status make_primitive(pq_ctx *ctx, cpu_session *s, cpu_conv *c, const pq_step *step,
                                void *weights)
{
    const pq_program *p = s->stepped.program;
    const pq_slot *x = &p->slot[step->in[0]], *y = &p->slot[step->out[0]];
    const bool int8 = step->precision == PQ_PREC_INT8;
    const dnnl_data_type_t wt = int8                              ? dnnl_s8
                                : step->precision == PQ_PREC_BF16 ? dnnl_bf16
                                                                  : dnnl_f32;
    const bool mixed = step->residual != PQ_NONE && p->slot[step->residual].dtype != y->dtype;
    dnnl_primitive_desc_t pd = NULL;
    pq_status st = PQ_OK;
    /* First everything inside the primitive; where oneDNN has that only as its reference loops,
     * float sums from it and the epilogue by our kernels. */
    for (int apart = mixed; apart < 2; apart++) {
        descs d = {0};
        dnnl_primitive_attr_t attr = NULL;
        const bool last = apart == 1 || (step->residual == PQ_NONE && y->form != PQ_FORM_QUANTIZED);
        st = make_descs(ctx, &d, &c->g, data_type(x->dtype), wt,
                        apart ? dnnl_f32 : data_type(y->dtype), c->bias != NULL);
        if (st == PQ_OK) st = make_attr(ctx, &attr, p, step, &c->g, apart);
        dnnl_status_t ds = st == PQ_OK ? describe(&pd, s, &c->g, &d, attr) : dnnl_success;
        if (pd && ds == dnnl_success) ds = leave_slow_amx(&pd, s, &c->g, &d, attr);
        if (attr) dnnl_primitive_attr_destroy(attr);
        free_descs(&d);
        if (st != PQ_OK) goto out;
        c->apart = apart;
        if (ds == dnnl_success && (last || !is_slow(pd))) break;
        if (pd && !last) dnnl_primitive_desc_destroy(pd), pd = NULL;
        if (!pd && last) {
            st = pq_fail(ctx, PQ_E_ENGINE, "oneDNN has no such convolution: status %d", (int)ds);
            goto out;
        }
    }
    c->sum_inside = !c->apart && step->residual != PQ_NONE;
    CPU_DNNL(ctx, dnnl_primitive_create(&c->primitive, pd));
    c->impl = impl_of(pd);
    CPU_DNNL(ctx,
             dnnl_memory_create(&c->src, dnnl_primitive_desc_query_md(pd, dnnl_query_src_md, 0),
                                s->engine, DNNL_MEMORY_NONE));
    CPU_DNNL(ctx,
             dnnl_memory_create(&c->dst, dnnl_primitive_desc_query_md(pd, dnnl_query_dst_md, 0),
                                s->engine, DNNL_MEMORY_NONE));
    c->arg[c->n_args++] = (dnnl_exec_arg_t){DNNL_ARG_SRC, c->src};
    c->arg[c->n_args++] = (dnnl_exec_arg_t){DNNL_ARG_DST, c->dst};
    st = pack_weights(ctx, s, c, pd, weights, int8);
out:
    if (pd) dnnl_primitive_desc_destroy(pd);
    return st;
}

/* ---- own exact rows ---- */

static bool exact_integers(void) { return pq_cpu_get()->avx512_vnni || pq_cpu_get()->avx_vnni; }

static pq_status make_rows(pq_ctx *ctx, cpu_conv *c, const int8_t *q, const float *scale,
                           float in_scale, const pq_node *n)
{
    const geometry *g = &c->g;
    const int64_t area = g->window.kernel[0] * g->window.kernel[1], cg = g->c / g->groups;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &c->weight16, (size_t)(g->o * area * cg), sizeof *c->weight16));
    PQ_TRY(pq_alloc(ctx, &c->multiplier, (size_t)g->o, sizeof *c->multiplier));
    for (int64_t o = 0; o < g->o; o++) {
        c->multiplier[o] = in_scale * scale[channel_of(g, n, o)];
        for (int64_t k = 0; k < area; k++)
            for (int64_t i = 0; i < cg; i++)
                c->weight16[(o * area + k) * cg + i] = q[weight_at(g, n, o, i, k)];
    }
    c->apart = true;
    c->impl = "pq_conv_row";
out:
    return st;
}

static pq_status run_rows(pq_ctx *ctx, cpu_session *s, cpu_conv *c, const pq_slot *in,
                          const void *x)
{
    const geometry *g = &c->g;
    const pq_conv_q8 v = {g->c, g->h, g->w, g->o, g->oh, g->ow, g->groups, &g->window};
    bool no_memory = false;
#pragma omp parallel num_threads(s->n_threads)
    {
        pq_ctx *mine = NULL;
        int32_t *sum = NULL;
        if (pq_ctx_new(&mine) != PQ_OK ||
            pq_alloc(mine, &sum, (size_t)(g->ow * g->o), sizeof *sum) != PQ_OK) {
#pragma omp atomic write
            no_memory = true;
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < g->n * g->oh; r++) {
            if (!sum) continue;
            const uint8_t *image = (const uint8_t *)x + r / g->oh * g->h * g->w * g->c;
            s->k->conv_row(sum, &v, image, in->dtype == PQ_S8, in->zero_point, c->weight16,
                           r % g->oh);
            float *to = s->scratch + r * g->ow * g->o;
            for (int64_t i = 0; i < g->ow; i++)
                for (int64_t o = 0; o < g->o; o++)
                    to[i * g->o + o] = fmaf((float)sum[i * g->o + o], c->multiplier[o],
                                            c->bias ? c->bias[o] : 0.0f);
        }
        pq_free(sum);
        pq_ctx_free(mine);
    }
    return no_memory ? pq_fail(ctx, PQ_E_NOMEM, "no memory for the sums of a row") : PQ_OK;
}

/* ---- the three calls ---- */

static pq_status make_bias(pq_ctx *ctx, cpu_conv *c, const pq_program *p, const pq_node *n)
{
    const float *b = pq_bias_data(p->graph, n);
    if (!b) return PQ_OK;
    pq_status st = pq_alloc(ctx, &c->bias, (size_t)c->g.o, sizeof *c->bias);
    if (st != PQ_OK) return st;
    const size_t have = (size_t)pq_shape_count(&pq_in(p->graph, n, 2)->shape);
    for (size_t i = 0; i < (size_t)c->g.o; i++)
        c->bias[i] = b[have == 1 ? 0 : i] * (n->op == PQ_OP_GEMM ? n->attr.beta : 1.0f);
    return PQ_OK;
}

pq_status cpu_conv_new(pq_ctx *ctx, cpu_conv **out, cpu_session *s, size_t i)
{
    const pq_program *p = s->stepped.program;
    const pq_step *step = &p->step[i];
    const pq_node *n = &p->graph->node[step->node];
    const pq_slot *x = &p->slot[step->in[0]];
    const bool int8 = step->precision == PQ_PREC_INT8;
    cpu_conv *c = NULL;
    int8_t *q = NULL;
    float *scale = NULL;
    void *ordered = NULL;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &c, 1, sizeof *c));
    c->g = find_geometry(p, step, n);
    const geometry *g = &c->g;
    const size_t count = (size_t)pq_shape_count(&pq_in(p->graph, n, 1)->shape);
    PQ_TRY(make_bias(ctx, c, p, n));
    if (int8) {
        PQ_TRY(pq_step_quantize(ctx, &q, &scale, p, n));
        if (n->op == PQ_OP_GEMM)
            for (int64_t o = 0; o < g->o; o++) scale[o] *= n->attr.alpha;
    }
    if (int8 && !exact_integers() && !g->transposed) {
        st = make_rows(ctx, c, q, scale, x->scale, n);
    } else {
        PQ_TRY(pq_alloc(ctx, &ordered, count, int8 ? 1 : sizeof(float)));
        order_weights(ordered, int8 ? (const void *)q : pq_weight_data(p->graph, n),
                      int8 ? 1 : sizeof(float), g, n);
        if (!int8 && n->op == PQ_OP_GEMM)
            for (size_t k = 0; k < count; k++) ((float *)ordered)[k] *= n->attr.alpha;
        PQ_TRY(make_primitive(ctx, s, c, step, ordered));
        if (c->bias) PQ_TRY(add_vector(ctx, s, c, DNNL_ARG_BIAS, dnnl_f32, c->bias, g->o));
        if (int8) PQ_TRY(add_scales(ctx, s, c, step, n, scale));
    }
    if (c->apart) {
        const size_t bytes = (size_t)(g->n * g->o * g->oh * g->ow) * sizeof(float);
        if (bytes > s->scratch_bytes) s->scratch_bytes = bytes;
    }
    *out = c;
    c = NULL;
out:
    pq_free(q);
    pq_free(scale);
    pq_free(ordered);
    cpu_conv_free(c);
    return pq_prefix(ctx, st, "node '%s'", n->name);
}

pq_status cpu_conv_run(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_program *p = s->stepped.program;
    const pq_step *step = &p->step[i];
    cpu_conv *c = s->step[i].conv;
    void *x = s->stepped.ptr[step->in[0]], *y = s->stepped.ptr[step->out[0]];
    pq_status st = PQ_OK;
    if (c->weight16) {
        PQ_TRY(run_rows(ctx, s, c, &p->slot[step->in[0]], x));
    } else {
        if (c->sum_inside && s->stepped.ptr[step->residual] != y)
            memcpy(y, s->stepped.ptr[step->residual], s->stepped.bytes[step->out[0]]);
        CPU_DNNL(ctx, dnnl_memory_set_data_handle(c->src, x));
        CPU_DNNL(ctx, dnnl_memory_set_data_handle(c->dst, c->apart ? (void *)s->scratch : y));
        CPU_DNNL(ctx, dnnl_primitive_execute(c->primitive, s->stream, c->n_args, c->arg));
    }
    if (c->apart) cpu_finish(s, i, s->scratch, (size_t)(c->g.n * c->g.o * c->g.oh * c->g.ow));
out:
    return st;
}
