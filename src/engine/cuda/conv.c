/* Convolutions and products of matrices: weights as the kernels read them, and which kernel. */
#include <math.h>
#include <string.h>

#include "engine/cuda/cuda.h"

/* A weighted step as plain numbers: a product is a 1 x 1 convolution over its rows. */
typedef struct source {
    const float *f; /* or */
    int8_t *q;      /* ours */
    float *scale;   /* ours; with q */
    const float *bias;
    float alpha, beta;
    int c, o, taps, groups; /* c: of one group */
    enum { OIHW, IOHW, ROWS_IN, ROWS_OUT } order;
} source;

static int outputs_of(const cu_session *s, size_t i)
{
    return cu_channels(cu_slot_of(s, s->program->step[i].out[0]));
}

static pq_status read_source(pq_ctx *ctx, source *w, const cu_session *s, size_t i)
{
    const pq_program *p = s->program;
    const pq_node *n = cu_node_of(s, i);
    const pq_window *v = &n->attr.window;
    const bool conv = n->op == PQ_OP_CONV || n->op == PQ_OP_CONV_TRANSPOSE;
    memset(w, 0, sizeof *w);
    w->bias = pq_bias_data(p->graph, n);
    w->alpha = n->op == PQ_OP_GEMM ? n->attr.alpha : 1.0f;
    w->beta = n->op == PQ_OP_GEMM ? n->attr.beta : 1.0f;
    w->groups = conv ? (int)v->groups : 1;
    w->taps = conv ? (int)(v->kernel[0] * v->kernel[1]) : 1;
    w->o = outputs_of(s, i);
    w->c = conv ? cu_channels(cu_slot_of(s, cu_input_of(s, i))) / w->groups
                : (int)(pq_shape_count(&pq_in(p->graph, n, 1)->shape) / w->o);
    w->order = n->op == PQ_OP_CONV                      ? OIHW
               : n->op == PQ_OP_CONV_TRANSPOSE          ? IOHW
               : n->op == PQ_OP_GEMM && n->attr.trans_b ? ROWS_OUT
                                                        : ROWS_IN;
    if (p->step[i].precision == PQ_PREC_INT8) return pq_step_quantize(ctx, &w->q, &w->scale, p, n);
    w->f = pq_weight_data(p->graph, n);
    return PQ_OK;
}

static void free_source(source *w)
{
    pq_free(w->q);
    pq_free(w->scale);
}

static size_t index_of(const source *w, int o, int tap, int c)
{
    const size_t taps = (size_t)w->taps, cg = (size_t)w->c, og = (size_t)(w->o / w->groups);
    const size_t so = (size_t)o, sc = (size_t)c, st = (size_t)tap;
    switch (w->order) {
    case OIHW: return (so * cg + sc) * taps + st;
    case IOHW: return ((so / og * cg + sc) * og + so % og) * taps + st;
    case ROWS_OUT: return so * cg + sc;
    default: return sc * (size_t)w->o + so;
    }
}

/* n weights in the stored type, `step` elements apart. */
static void put(void *to, pq_dtype t, const source *w, size_t from, size_t step, size_t n)
{
    int8_t *q = to;
    uint16_t *h = to;
    float *f = to;
    if (t == PQ_S8)
        for (size_t i = 0; i < n; i++) q[i] = w->q[from + i * step];
    else if (t == PQ_F16)
        for (size_t i = 0; i < n; i++) h[i] = pq_f32_to_f16(w->alpha * w->f[from + i * step]);
    else
        for (size_t i = 0; i < n; i++) f[i] = w->alpha * w->f[from + i * step];
}

/* As float32 for the kernels that compute in it; rounded where the plan says float16. */
static void put_plain(uint8_t *to, size_t at, bool half, const source *w, size_t from)
{
    if (w->q) {
        to[at] = (uint8_t)w->q[from];
        return;
    }
    const float f = w->alpha * w->f[from];
    ((float *)(void *)to)[at] = half ? pq_f16_to_f32(pq_f32_to_f16(f)) : f;
}

/* ---- which kernel ---- */

bool cu_conv_is_dense(const cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    const pq_node *n = cu_node_of(s, i);
    const pq_slot *in = cu_slot_of(s, step->in[0]);
    if (n->op == PQ_OP_CONV_TRANSPOSE || (n->op == PQ_OP_CONV && n->attr.window.groups != 1))
        return false;
    if (step->precision == PQ_PREC_INT8) return in->dtype == PQ_S8 && in->zero_point == 0;
    return true;
}

static int kind_of(const cu_session *s, size_t i)
{
    const pq_slot_id id = cu_input_of(s, i);
    const pq_slot *in = cu_slot_of(s, id);
    const size_t e = pq_dtype_size(in->dtype);
    const int kind = in->dtype == PQ_S8    ? PQ_CU_KIND_S8
                     : in->dtype == PQ_F16 ? PQ_CU_KIND_F16
                                           : PQ_CU_KIND_F32;
    if (s->step[i].stem != PQ_NONE) return kind;
    /* Chunks are read whole. What lies behind the last channel meets weights of zero, which takes a
     * finite number: integers are, and what a list of places stores. */
    const bool finite =
        in->dtype == PQ_S8 || cu_channels(in) * (int)e % PQ_CU_CHUNK == 0 || cu_pads(s, id);
    if (!cu_conv_is_dense(s, i) || !finite || (size_t)cu_pitch(s, id) * e % PQ_CU_CHUNK ||
        (size_t)(cu_data(s, id) - s->arena) % PQ_CU_CHUNK)
        return -1;
    return kind;
}

static void fill_window(const cu_session *s, size_t i, pq_cu_conv *p)
{
    const pq_step *step = &s->program->step[i];
    const pq_node *n = cu_node_of(s, i);
    const pq_slot_id x = cu_input_of(s, i);
    const pq_slot *in = cu_slot_of(s, x), *out = cu_slot_of(s, step->out[0]);
    const pq_window *w = &n->attr.window;
    p->x = cu_data(s, x);
    p->x_pitch = cu_pitch(s, x) * (int)pq_dtype_size(in->dtype);
    p->in = cu_form(in);
    p->out = cu_pixels(out);
    p->m = p->out.n * p->out.h * p->out.w;
    p->kh = p->kw = p->sh = p->sw = p->dh = p->dw = p->groups = 1;
    if (n->op == PQ_OP_CONV || n->op == PQ_OP_CONV_TRANSPOSE) {
        p->h = (int)in->shape.dim[2], p->w = (int)in->shape.dim[3];
        p->kh = (int)w->kernel[0], p->kw = (int)w->kernel[1];
        p->sh = (int)w->stride[0], p->sw = (int)w->stride[1];
        p->dh = (int)w->dilation[0], p->dw = (int)w->dilation[1];
        p->ph = (int)w->pad[0], p->pw = (int)w->pad[1];
        p->groups = (int)w->groups;
        p->transposed = n->op == PQ_OP_CONV_TRANSPOSE;
        return;
    }
    const pq_slot *o = out; /* rows of a product: one line of pixels, whatever the rank */
    p->out = pq_cu_pixels_of(1, 1, (int)(pq_shape_count(&o->shape) / cu_channels(o)));
    p->m = p->w = p->out.w;
    p->h = 1;
}

static void fill_epilogue(const cu_session *s, size_t i, pq_cu_conv *p)
{
    const pq_step *step = &s->program->step[i];
    const pq_attr *a = &cu_node_of(s, i)->attr;
    const pq_attr *b = step->add == PQ_NONE ? NULL : &s->program->graph->node[step->add].attr;
    const bool gemm = cu_node_of(s, i)->op == PQ_OP_GEMM; /* alpha and beta are the product's */
    p->act = (pq_cu_act){(int)a->act, gemm ? 0 : a->alpha, gemm ? 0 : a->beta};
    if (b) p->sum_act = (pq_cu_act){(int)b->act, b->alpha, b->beta};
    p->exact = step->precision != PQ_PREC_FP16;
    if (step->residual == PQ_NONE) return;
    p->residual = cu_data(s, step->residual);
    p->residual_pitch = cu_pitch(s, step->residual);
    p->residual_vector = cu_vector(s, step->residual);
    p->residual_form = cu_form(cu_slot_of(s, step->residual));
}

static bool is_usual(int act)
{
    return act == PQ_ACT_NONE || act == PQ_ACT_RELU || act == PQ_ACT_SILU;
}

/* May the results be finished in the registers of the tensor cores? Where there is no residual,
 * some places may be of the other type: float16 from integers, integers from float16. */
static void find_plain(pq_cu_conv *p, int kind)
{
    const bool int8 = kind == PQ_CU_KIND_S8;
    p->plain = kind != PQ_CU_KIND_F32 && p->n % 8 == 0 && is_usual(p->act.act);
    p->mixed = false;
    if (p->residual)
        p->plain = p->plain && is_usual(p->sum_act.act) && p->residual_vector &&
                   (int8 ? p->residual_form.scale != 0 : p->residual_form.dtype == PQ_F16);
    for (int k = 0; k < p->n_dest; k++) {
        const pq_cu_dest *d = &p->dest[k];
        const bool levels = d->form.scale != 0, half = d->form.dtype == PQ_F16;
        const bool once = d->pre.scale == 0;
        const bool alike = !d->round16 && (int8 ? levels && d->form.zp == 0 : half && once);
        const bool other =
            !p->residual && once && (int8 ? half : levels && d->form.zp == 0 && d->round16);
        p->plain =
            p->plain && d->vector && d->first % 8 == 0 && d->last % 8 == 0 && (alike || other);
        p->mixed = p->mixed || !alike;
    }
}

/*
 * From which distance to its level on a SiLU by the fast functions may have another than ref's; 0:
 * no bound is known. Those are off by (6 + 1.2 |x|) 2^-23 of a result where x < 0, by 5 units where
 * not (device.cuh: silu_fast), as long as nothing overflows. Of x < 0 the result is at most 0.28,
 * and with 512 levels a unit that is 1.3e-4 of a level; else it is at most the range, 255 levels,
 * and what a residual takes off, 255 of its own: 1.6e-4 of a level, and as much for each level that
 * one of the residual's is worth. 2^-12 is 2.4e-4.
 */
static float tie_of(const cu_session *s, const cu_node *n)
{
    const float *scale = (const float *)(const void *)(s->blob + n->scale_at);
    const float *bias = (const float *)(const void *)(s->blob + n->bias_at);
    const pq_cu_conv *p = &n->p.conv;
    const int last = p->residual ? p->sum_act.act : PQ_ACT_NONE;
    bool bounded = p->plain && n->kind == PQ_CU_KIND_S8 && p->act.act == PQ_ACT_SILU &&
                   (last == PQ_ACT_NONE || last == PQ_ACT_RELU);
    float worth = 0;
    for (int k = 0; k < p->n_dest; k++) {
        const pq_cu_dest *d = &p->dest[k];
        const float inv = d->pre.scale != 0 ? d->pre_inv : d->inv;
        bounded = bounded && (d->form.scale == 0 || inv <= 512);
        if (p->residual) worth = fmaxf(worth, p->residual_form.scale * inv);
    }
    for (int o = 0; o < p->n; o++)
        bounded = bounded && fabsf(scale[o]) < 0x1p38f && fabsf(bias[o]) < 0x1p60f;
    return bounded && worth <= 7 ? 0.5f - 0x1p-12f * (1 + worth) : 0;
}

/* ---- weights ---- */

/* Rows of output channels for conv_mma: [first + o][tap][chunks]. */
static void pack_rows(const cu_session *s, const cu_node *n, const source *w, pq_dtype t, int first)
{
    const pq_cu_conv *p = &n->p.conv;
    for (int o = 0; o < w->o; o++) {
        uint8_t *row =
            s->blob + n->weight_at + (size_t)(first + o) * (size_t)p->k_row * PQ_CU_CHUNK;
        for (int tap = 0; tap < w->taps; tap++) {
            const size_t from = index_of(w, o, tap, 0), next = index_of(w, o, tap, 1);
            put(row + (size_t)tap * (size_t)p->chunks * PQ_CU_CHUNK, t, w, from, next - from,
                (size_t)w->c);
        }
    }
}

static void pack_plain(const cu_session *s, const cu_node *n, const source *w, bool half,
                       bool depthwise)
{
    uint8_t *to = s->blob + n->weight_at;
    const size_t wide = (size_t)pq_cu_ceil(w->o, 8) * 8;
    for (int o = 0; o < w->o; o++)
        for (int tap = 0; tap < w->taps; tap++)
            for (int c = 0; c < w->c; c++)
                put_plain(to,
                          depthwise ? (size_t)tap * wide + (size_t)o
                                    : ((size_t)o * (size_t)w->taps + (size_t)tap) * (size_t)w->c +
                                          (size_t)c,
                          half, w, index_of(w, o, tap, c));
}

/* Scales and biases of one convolution behind `first` channels. */
static void pack_channels(const cu_session *s, const cu_node *n, const source *w, int first,
                          float in_scale)
{
    float *bias = (float *)(void *)(s->blob + n->bias_at) + first;
    float *scale = (float *)(void *)(s->blob + n->scale_at) + first;
    const int og = w->o / w->groups;
    for (int o = 0; o < w->o; o++) {
        bias[o] = w->bias ? w->beta * w->bias[o] : 0.0f;
        if (!w->q) continue;
        /* ref: in_scale * weight_scale, then alpha */
        scale[o] = in_scale * w->scale[w->order == IOHW ? o % og : o];
        if (w->order == ROWS_IN || w->order == ROWS_OUT) scale[o] *= w->alpha;
    }
}

/* ---- steps ---- */

/* Channels of a group of convolutions, each beginning at a multiple of eight. */
static int total_outputs(const cu_session *s, size_t leader)
{
    int n = 0;
    for (size_t j = leader; j < s->program->n_steps; j++)
        if (s->step[j].leader == leader) n = pq_cu_ceil(n, 8) * 8 + outputs_of(s, j);
    return n;
}

/* Of a node that is complete for conv_mma. */
static void make_stem(const cu_session *s, cu_node *n)
{
    const bool int8 = n->kind == PQ_CU_KIND_S8;
    pq_cu_stem *p = &n->p.stem;
    const pq_cu_stem_kernel k = int8 ? pq_cu_stem_s8(p->conv.n) : pq_cu_stem_f16(p->conv.n);
    p->image = cu_staging_of(s, s->program->step[n->step].in[0]);
    p->in = cu_stem_input(s, n->step);
    n->impl = int8 ? "stem s8" : "stem f16";
    n->kind = -1;
    n->kernel = k.kernel;
    n->block = (unsigned)k.threads;
    n->smem = (unsigned)k.smem;
    n->grid[0] = (unsigned)pq_cu_ceil(p->conv.out.w, k.cols);
    n->grid[1] = (unsigned)pq_cu_ceil(p->conv.out.h, k.rows);
    n->grid[2] = (unsigned)p->conv.out.n;
}

static pq_status build_dense(pq_ctx *ctx, cu_session *s, size_t i, int kind)
{
    static const pq_dtype stored[] = {PQ_F16, PQ_S8, PQ_F32};
    static const char *const impl[] = {"mma f16", "mma s8", "simt f32"};
    const pq_dtype t = stored[kind];
    cu_node *n;
    source w = {0};
    int first = 0;
    pq_status st;
    PQ_TRY(cu_add_node(ctx, &n, s, i, impl[kind], NULL, 0));
    pq_cu_conv *p = &n->p.conv;
    n->kind = kind;
    fill_window(s, i, p);
    fill_epilogue(s, i, p);
    PQ_TRY(read_source(ctx, &w, s, i));
    p->c = w.c;
    p->n = total_outputs(s, i);
    p->chunks = pq_cu_ceil(p->c * (int)pq_dtype_size(t), PQ_CU_CHUNK);
    p->k_chunks = p->chunks * w.taps;
    p->by_chunks = pq_cu_div_by(p->chunks);
    p->by_kw = pq_cu_div_by(p->kw);
    p->k_row = pq_cu_ceil(p->k_chunks, 16) * 16; /* whole stages of every shape */
    p->split = 1;
    const size_t channels = (size_t)pq_cu_ceil(p->n, 8) * 8;
    PQ_TRY(cu_blob_add(ctx, s, &n->weight_at, channels * (size_t)p->k_row * PQ_CU_CHUNK));
    PQ_TRY(cu_blob_add(ctx, s, &n->scale_at, channels * sizeof(float)));
    PQ_TRY(cu_blob_add(ctx, s, &n->bias_at, channels * sizeof(float)));
    for (size_t j = i; j < s->program->n_steps; j++) {
        if (s->step[j].leader != i) continue;
        if (j != i) {
            free_source(&w);
            PQ_TRY(read_source(ctx, &w, s, j));
        }
        first = pq_cu_ceil(first, 8) * 8;
        pack_rows(s, n, &w, t, first);
        pack_channels(s, n, &w, first, p->in.scale);
        p->n_dest += cu_dests(s, j, first, p->dest + p->n_dest);
        first += w.o;
    }
    find_plain(p, kind);
    p->tie = tie_of(s, n);
    if (s->step[i].stem != PQ_NONE) make_stem(s, n);
out:
    free_source(&w);
    return st;
}

static pq_status build_plain(pq_ctx *ctx, cu_session *s, size_t i)
{
    const bool half = s->program->step[i].precision == PQ_PREC_FP16;
    const pq_cu_kernels *k = pq_cu_kernels_get();
    cu_node *n;
    source w = {0};
    pq_status st;
    PQ_TRY(read_source(ctx, &w, s, i));
    const int64_t pixels = pq_shape_count(&cu_slot_of(s, s->program->step[i].out[0])->shape) / w.o;
    const bool depthwise = w.order == OIHW && w.groups == w.o && w.c == 1 && w.taps <= 500 &&
                           cu_vector(s, s->program->step[i].in[0]);
    PQ_TRY(cu_add_node(ctx, &n, s, i, depthwise ? "depthwise" : "direct",
                       depthwise ? k->depthwise : k->direct, pixels * pq_cu_ceil(w.o, 8)));
    pq_cu_conv *p = &n->p.conv;
    fill_window(s, i, p);
    fill_epilogue(s, i, p);
    p->c = w.c;
    p->n = w.o;
    const size_t wide = (size_t)pq_cu_ceil(w.o, 8) * 8;
    PQ_TRY(cu_blob_add(ctx, s, &n->weight_at,
                       wide * (size_t)w.taps * (size_t)w.c * (w.q ? 1 : sizeof(float))));
    PQ_TRY(cu_blob_add(ctx, s, &n->scale_at, wide * sizeof(float)));
    PQ_TRY(cu_blob_add(ctx, s, &n->bias_at, wide * sizeof(float)));
    pack_plain(s, n, &w, half, depthwise);
    pack_channels(s, n, &w, 0, p->in.scale);
    p->n_dest = cu_dests(s, i, 0, p->dest);
out:
    free_source(&w);
    return st;
}

pq_status cu_build_conv(pq_ctx *ctx, cu_session *s, size_t i)
{
    const int kind = kind_of(s, i);
    if (kind >= 0) return build_dense(ctx, s, i, kind);
    /* Those that were to run as one turn out to lie unaligned: each for itself. */
    pq_status st = PQ_OK;
    for (size_t j = i; j < s->program->n_steps && st == PQ_OK; j++)
        if (s->step[j].leader == i) st = build_plain(ctx, s, j);
    return st;
}
