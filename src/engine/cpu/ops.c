/* Everything but convolutions: conversions, Focus, concat, pooling, resizing, sums, activations,
 * box decoding. What has no kernel here runs on the plain evaluator, and bench --layers says so. */
#include <string.h>

#include "base/mem.h"
#include "engine/cpu/cpu.h"
#include "graph/eval.h"

enum { CHUNK = 8192 }; /* elements a thread takes at a time */

static const pq_slot *slot_of(const cpu_session *s, pq_slot_id id)
{
    return &s->stepped.program->slot[id];
}
static void *data_of(const cpu_session *s, pq_slot_id id) { return s->stepped.ptr[id]; }
static const pq_step *step_of(const cpu_session *s, size_t i)
{
    return &s->stepped.program->step[i];
}
static const pq_node *node_of(const cpu_session *s, size_t i)
{
    return &s->stepped.program->graph->node[step_of(s, i)->node];
}
static size_t count_of(const pq_slot *s) { return (size_t)pq_shape_count(&s->shape); }

/* ---- one slot's elements as floats and back ---- */

static const float *load(const cpu_session *s, float *room, const pq_slot *slot, const void *data,
                         size_t at, size_t n)
{
    switch (slot->dtype) {
    case PQ_S8:
    case PQ_U8: s->k->dequantize(room, (const uint8_t *)data + at, n, cpu_grid(slot)); return room;
    case PQ_BF16: s->k->from_bf16(room, (const uint16_t *)data + at, n); return room;
    default: return (const float *)data + at;
    }
}

static void store(const cpu_session *s, const pq_slot *slot, void *data, size_t at, const float *x,
                  size_t n)
{
    switch (slot->dtype) {
    case PQ_S8:
    case PQ_U8: s->k->quantize((uint8_t *)data + at, x, n, cpu_grid(slot)); break;
    case PQ_BF16: s->k->to_bf16((uint16_t *)data + at, x, n); break;
    default:
        if ((float *)data + at != x) memcpy((float *)data + at, x, n * sizeof *x);
    }
}

void cpu_finish(cpu_session *s, size_t i, const float *sum, size_t n)
{
    const pq_step *step = step_of(s, i);
    const pq_attr *a = &node_of(s, i)->attr;
    const pq_attr *b =
        step->add == PQ_NONE ? NULL : &s->stepped.program->graph->node[step->add].attr;
    const pq_slot *out = slot_of(s, step->out[0]);
    const pq_slot *r = step->residual == PQ_NONE ? NULL : slot_of(s, step->residual);
    const void *r_data = r ? data_of(s, step->residual) : NULL;
    void *y = data_of(s, step->out[0]);
#pragma omp parallel for num_threads(s->n_threads) schedule(static)
    for (size_t at = 0; at < n; at += CHUNK) {
        float t[CHUNK], u[CHUNK];
        const size_t m = n - at < CHUNK ? n - at : CHUNK;
        s->k->activate(t, sum + at, m, a->act, a->alpha, a->beta);
        if (r && r->form == PQ_FORM_QUANTIZED)
            s->k->add_scaled(t, t, (const uint8_t *)r_data + at, m, cpu_grid(r));
        else if (r)
            s->k->add(t, t, load(s, u, r, r_data, at, m), m);
        if (b) s->k->activate(t, t, m, b->act, b->alpha, b->beta);
        store(s, out, y, at, t, m);
    }
}

/* ---- elementwise ---- */

static pq_status run_convert(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = step_of(s, i);
    const pq_slot *from = slot_of(s, step->in[0]), *to = slot_of(s, step->out[0]);
    const void *x = data_of(s, step->in[0]);
    void *y = data_of(s, step->out[0]);
    const size_t n = count_of(to);
    (void)ctx;
#pragma omp parallel for num_threads(s->n_threads) schedule(static)
    for (size_t at = 0; at < n; at += CHUNK) {
        float t[CHUNK];
        const size_t m = n - at < CHUNK ? n - at : CHUNK;
        if (from->form == PQ_FORM_QUANTIZED && to->form == PQ_FORM_QUANTIZED)
            s->k->requantize((uint8_t *)y + at, (const uint8_t *)x + at, m, cpu_grid(from),
                             cpu_grid(to));
        else
            store(s, to, y, at, load(s, t, from, x, at, m), m);
    }
    return PQ_OK;
}

/* [c, area] planes of one image to [area, c] pixels; bytes of any element size up to 4. */
#define TO_LAST(name, T)                                                                           \
    static void name(T *restrict dst, const T *restrict src, size_t c, size_t area, size_t begin,  \
                     size_t end)                                                                   \
    {                                                                                              \
        for (size_t p = begin; p < end; p++)                                                       \
            for (size_t k = 0; k < c; k++) dst[p * c + k] = src[k * area + p];                     \
    }
TO_LAST(to_last_f32, float)

#define TO_PLAIN(name, T)                                                                          \
    static void name(T *restrict dst, const T *restrict src, size_t c, size_t area)                \
    {                                                                                              \
        for (size_t k = 0; k < c; k++)                                                             \
            for (size_t p = 0; p < area; p++) dst[k * area + p] = src[p * c + k];                  \
    }
TO_PLAIN(to_plain_f32, float)

static void sizes(const pq_shape *shape, size_t *n, size_t *c, size_t *area)
{
    *n = (size_t)shape->dim[0];
    *c = (size_t)shape->dim[1];
    *area = 1;
    for (int i = 2; i < shape->rank; i++) *area *= (size_t)shape->dim[i];
}

void cpu_to_last(cpu_session *s, float *dst, const float *src, const pq_shape *shape)
{
    size_t n, c, area;
    sizes(shape, &n, &c, &area);
    for (size_t k = 0; k < n; k++) {
#pragma omp parallel for num_threads(s->n_threads) schedule(static)
        for (size_t p = 0; p < area; p += CHUNK)
            to_last_f32(dst + k * c * area, src + k * c * area, c, area, p,
                        p + CHUNK < area ? p + CHUNK : area);
    }
}

/* A plain image into a channels-last slot. */
static pq_status run_convert_to_last(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = step_of(s, i);
    const pq_slot *to = slot_of(s, step->out[0]);
    pq_tensor t = {0};
    pq_status st = pq_tensor_new(ctx, &t, PQ_F32, &to->shape);
    if (st != PQ_OK) return st;
    cpu_to_last(s, pq_tensor_data(&t), data_of(s, step->in[0]), &to->shape);
    store(s, to, data_of(s, step->out[0]), 0, pq_tensor_data(&t), count_of(to));
    pq_tensor_clear(&t);
    return PQ_OK;
}

static bool act_of(const pq_node *n, pq_act *act)
{
    switch (n->op) {
    case PQ_OP_RELU: *act = PQ_ACT_RELU; return true;
    case PQ_OP_LEAKY_RELU: *act = PQ_ACT_LEAKY_RELU; return true;
    case PQ_OP_SIGMOID: *act = PQ_ACT_SIGMOID; return true;
    case PQ_OP_SILU: *act = PQ_ACT_SILU; return true;
    case PQ_OP_HARD_SIGMOID: *act = PQ_ACT_HARD_SIGMOID; return true;
    case PQ_OP_HARD_SWISH: *act = PQ_ACT_HARD_SWISH; return true;
    case PQ_OP_TANH: *act = PQ_ACT_TANH; return true;
    case PQ_OP_CLIP: *act = PQ_ACT_CLIP; return true;
    default: return false;
    }
}

static pq_status run_activation(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = step_of(s, i);
    const pq_node *node = node_of(s, i);
    const pq_slot *in = slot_of(s, step->in[0]), *out = slot_of(s, step->out[0]);
    const void *x = data_of(s, step->in[0]);
    void *y = data_of(s, step->out[0]);
    const size_t n = count_of(out);
    pq_act act = PQ_ACT_NONE;
    (void)ctx;
    act_of(node, &act);
#pragma omp parallel for num_threads(s->n_threads) schedule(static)
    for (size_t at = 0; at < n; at += CHUNK) {
        float t[CHUNK];
        const size_t m = n - at < CHUNK ? n - at : CHUNK;
        s->k->activate(t, load(s, t, in, x, at, m), m, act, node->attr.alpha, node->attr.beta);
        store(s, out, y, at, t, m);
    }
    return PQ_OK;
}

/* Add or Mul of two equal shapes, or of a map and one number. */
static pq_status run_binary(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = step_of(s, i);
    const pq_node *node = node_of(s, i);
    const pq_slot *a = slot_of(s, step->in[0]), *b = slot_of(s, step->in[1]),
                  *out = slot_of(s, step->out[0]);
    const void *x = data_of(s, step->in[0]), *z = data_of(s, step->in[1]);
    void *y = data_of(s, step->out[0]);
    const size_t n = count_of(out);
    const bool scalar = count_of(b) == 1 && n != 1;
    (void)ctx;
#pragma omp parallel for num_threads(s->n_threads) schedule(static)
    for (size_t at = 0; at < n; at += CHUNK) {
        float t[CHUNK], u[CHUNK];
        const size_t m = n - at < CHUNK ? n - at : CHUNK;
        const float *l = load(s, t, a, x, at, m);
        if (scalar)
            s->k->multiply_scalar(t, l, *(const float *)z, m);
        else if (node->op == PQ_OP_ADD)
            s->k->add(t, l, load(s, u, b, z, at, m), m);
        else
            s->k->multiply(t, l, load(s, u, b, z, at, m), m);
        s->k->activate(t, t, m, node->attr.act, node->attr.alpha, node->attr.beta);
        store(s, out, y, at, t, m);
    }
    return PQ_OK;
}

/* ---- data movement, channels last ---- */

static pq_status run_focus(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = step_of(s, i);
    const pq_slot *out = slot_of(s, step->out[0]);
    const pq_slot_id from = s->step[i].from == PQ_NONE ? step->in[0] : s->step[i].from;
    const pq_shape *in = &slot_of(s, from)->shape;
    const int64_t c = in->dim[1], h = in->dim[2], w = in->dim[3];
    const float *x = data_of(s, from);
    void *y = data_of(s, step->out[0]);
    const size_t row = (size_t)(2 * w * c);
    (void)ctx;
#pragma omp parallel for num_threads(s->n_threads) schedule(static)
    for (int64_t r = 0; r < in->dim[0] * (h / 2); r++) {
        const float *top = x + r / (h / 2) * c * h * w + r % (h / 2) * 2 * w;
        if (out->form == PQ_FORM_QUANTIZED)
            s->k->focus_row_q8((uint8_t *)y + (size_t)r * row, top, top + w, c, w, (size_t)(h * w),
                               cpu_grid(out));
        else
            s->k->focus_row((float *)y + (size_t)r * row, top, top + w, c, w, (size_t)(h * w));
    }
    return PQ_OK;
}

/* Along channels (axis 1 of channels last): each pixel takes its inputs' channels in turn. */
static pq_status run_concat(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = step_of(s, i);
    const pq_slot *out = slot_of(s, step->out[0]);
    const size_t e = pq_dtype_size(out->dtype), pitch = (size_t)out->shape.dim[1] * e;
    const size_t pixels = count_of(out) / (size_t)out->shape.dim[1];
    uint8_t *y = data_of(s, step->out[0]);
    (void)ctx;
#pragma omp parallel for num_threads(s->n_threads) schedule(static)
    for (size_t p0 = 0; p0 < pixels; p0 += 64) {
        const size_t p1 = p0 + 64 < pixels ? p0 + 64 : pixels;
        size_t at = 0;
        for (int k = 0; k < step->n_in; k++) {
            const pq_slot *in = slot_of(s, step->in[k]);
            const size_t c = (size_t)in->shape.dim[1];
            const uint8_t *x = data_of(s, step->in[k]);
            const bool as_is = in->form != PQ_FORM_QUANTIZED ||
                               (in->scale == out->scale && in->zero_point == out->zero_point);
            for (size_t p = p0; p < p1; p++) {
                if (as_is)
                    memcpy(y + p * pitch + at, x + p * c * e, c * e);
                else
                    s->k->requantize(y + p * pitch + at, x + p * c, c, cpu_grid(in), cpu_grid(out));
            }
            at += c * e;
        }
    }
    return PQ_OK;
}

/* Along length (axis 2 of [n, c, l] channels last): whole blocks follow each other. */
static pq_status run_concat_length(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = step_of(s, i);
    const pq_slot *out = slot_of(s, step->out[0]);
    const size_t e = pq_dtype_size(out->dtype), c = (size_t)out->shape.dim[1];
    uint8_t *y = data_of(s, step->out[0]);
    (void)ctx;
    for (int64_t n = 0; n < out->shape.dim[0]; n++)
        for (int k = 0; k < step->n_in; k++) {
            const size_t bytes = (size_t)slot_of(s, step->in[k])->shape.dim[2] * c * e;
            memcpy(y, (const uint8_t *)data_of(s, step->in[k]) + (size_t)n * bytes, bytes);
            y += bytes;
        }
    return PQ_OK;
}

/* The bytes are right already, under another shape. */
static pq_status run_copy(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = step_of(s, i);
    (void)ctx;
    if (data_of(s, step->out[0]) != data_of(s, step->in[0]))
        memcpy(data_of(s, step->out[0]), data_of(s, step->in[0]),
               count_of(slot_of(s, step->out[0])) * pq_dtype_size(slot_of(s, step->out[0])->dtype));
    return PQ_OK;
}

static void pool_max(const cpu_session *s, pq_dtype t, void *dst, const void *x, size_t c)
{
    switch (t) {
    case PQ_S8: s->k->max_s8(dst, x, c); break;
    case PQ_U8: s->k->max_u8(dst, x, c); break;
    default: s->k->max_f32(dst, x, c);
    }
}

static pq_status run_max_pool(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = step_of(s, i);
    const pq_window *v = &node_of(s, i)->attr.window;
    const pq_slot *in = slot_of(s, step->in[0]), *out = slot_of(s, step->out[0]);
    const int64_t c = in->shape.dim[1], h = in->shape.dim[2], w = in->shape.dim[3],
                  oh = out->shape.dim[2], ow = out->shape.dim[3];
    const size_t pixel = (size_t)c * pq_dtype_size(in->dtype);
    const char *x = data_of(s, step->in[0]);
    char *y = data_of(s, step->out[0]);
    (void)ctx;
#pragma omp parallel for num_threads(s->n_threads) schedule(static)
    for (int64_t r = 0; r < out->shape.dim[0] * oh; r++) {
        const char *image = x + (size_t)(r / oh * h * w) * pixel;
        for (int64_t ox = 0; ox < ow; ox++) {
            char *to = y + (size_t)(r * ow + ox) * pixel;
            bool first = true;
            for (int64_t ky = 0; ky < v->kernel[0]; ky++) {
                const int64_t iy = r % oh * v->stride[0] + ky * v->dilation[0] - v->pad[0];
                for (int64_t kx = 0; kx < v->kernel[1] && iy >= 0 && iy < h; kx++) {
                    const int64_t ix = ox * v->stride[1] + kx * v->dilation[1] - v->pad[1];
                    if (ix < 0 || ix >= w) continue;
                    const char *from = image + (size_t)(iy * w + ix) * pixel;
                    if (first)
                        memcpy(to, from, pixel);
                    else
                        pool_max(s, in->dtype, to, from, (size_t)c);
                    first = false;
                }
            }
        }
    }
    return PQ_OK;
}

/* Nearest by a whole factor: each pixel is repeated. */
static pq_status run_upsample(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = step_of(s, i);
    const pq_slot *in = slot_of(s, step->in[0]), *out = slot_of(s, step->out[0]);
    const int64_t h = in->shape.dim[2], w = in->shape.dim[3], oh = out->shape.dim[2],
                  ow = out->shape.dim[3];
    const size_t pixel = (size_t)in->shape.dim[1] * pq_dtype_size(in->dtype);
    const char *x = data_of(s, step->in[0]);
    char *y = data_of(s, step->out[0]);
    (void)ctx;
#pragma omp parallel for num_threads(s->n_threads) schedule(static)
    for (int64_t r = 0; r < out->shape.dim[0] * oh; r++) {
        const char *row = x + (size_t)((r / oh * h + r % oh * h / oh) * w) * pixel;
        for (int64_t ox = 0; ox < ow; ox++)
            memcpy(y + (size_t)(r * ow + ox) * pixel, row + (size_t)(ox * w / ow) * pixel, pixel);
    }
    return PQ_OK;
}

/* ---- box decoding ---- */

static void decode_rows(const cpu_session *s, const pq_attr *a, const float *cls, const float *reg,
                        float *scores, float *boxes, const pq_shape *c, const pq_shape *r,
                        int level, size_t begin, size_t n)
{
    const size_t classes = (size_t)c->dim[1];
    const int bins = (int)(r->dim[1] / 4);
    const int64_t w = c->dim[3];
    const float stride = (float)a->strides[level];
    s->k->activate(scores, cls, n * classes, PQ_ACT_SIGMOID, 0, 0);
    if (s->min_score <= 0) {
        s->k->dfl_boxes(boxes, reg, n, bins, stride, (int64_t)begin % w, (int64_t)begin / w, w);
        return;
    }
    for (size_t k = 0; k < n; k++) {
        float best = 0;
        for (size_t j = 0; j < classes; j++)
            best = scores[k * classes + j] > best ? scores[k * classes + j] : best;
        if (best > s->min_score)
            s->k->dfl_boxes(boxes + 4 * k, reg + 4 * (size_t)bins * k, 1, bins, stride,
                            (int64_t)(begin + k) % w, (int64_t)(begin + k) / w, w);
        else
            memset(boxes + 4 * k, 0, 4 * sizeof *boxes);
    }
}

static pq_status run_gfl_decode(pq_ctx *ctx, cpu_session *s, size_t i)
{
    enum { ROWS = 64 };
    const pq_step *step = step_of(s, i);
    const pq_attr *a = &node_of(s, i)->attr;
    const pq_shape *os = &slot_of(s, step->out[0])->shape;
    float *scores = data_of(s, step->out[0]), *boxes = data_of(s, step->out[1]);
    const size_t anchors = (size_t)os->dim[1], classes = (size_t)os->dim[2];
    size_t base = 0;
    (void)ctx;
    for (int level = 0; level < a->levels; level++) {
        const pq_shape *c = &slot_of(s, step->in[level])->shape,
                       *r = &slot_of(s, step->in[a->levels + level])->shape;
        const float *cls = data_of(s, step->in[level]),
                    *reg = data_of(s, step->in[a->levels + level]);
        const size_t area = (size_t)(c->dim[2] * c->dim[3]), blocks = (area + ROWS - 1) / ROWS;
        const size_t n_images = (size_t)c->dim[0], bins4 = (size_t)r->dim[1];
#pragma omp parallel for num_threads(s->n_threads) schedule(static)
        for (size_t k = 0; k < n_images * blocks; k++) {
            const size_t image = k / blocks, begin = k % blocks * ROWS;
            const size_t n = area - begin < ROWS ? area - begin : ROWS;
            const size_t to = image * anchors + base + begin, from = image * area + begin;
            decode_rows(s, a, cls + from * classes, reg + from * bins4, scores + to * classes,
                        boxes + to * 4, c, r, level, begin, n);
        }
        base += area;
    }
    return PQ_OK;
}

/* ---- the rest: the plain evaluator ---- */

static pq_status as_plain(pq_ctx *ctx, pq_tensor *out, const cpu_session *s, pq_slot_id id)
{
    const pq_slot *slot = slot_of(s, id);
    void *data = data_of(s, id);
    size_t n, c, area, total = count_of(slot);
    pq_tensor real = {0};
    pq_status st;
    if (slot->constant ||
        (slot->form != PQ_FORM_QUANTIZED && slot->dtype != PQ_BF16 && s->layout[id] == CPU_PLAIN)) {
        *out = (pq_tensor){.dtype = slot->dtype, .shape = slot->shape};
        return pq_buf_wrap(ctx, &out->buf, data, total * pq_dtype_size(slot->dtype), NULL, NULL);
    }
    if ((st = pq_tensor_new(ctx, out, PQ_F32, &slot->shape)) != PQ_OK) return st;
    const float *x = load(s, pq_tensor_data(out), slot, data, 0, total);
    if (s->layout[id] == CPU_PLAIN) return PQ_OK;
    if ((st = pq_tensor_new(ctx, &real, PQ_F32, &slot->shape)) != PQ_OK) return st;
    sizes(&slot->shape, &n, &c, &area);
    for (size_t k = 0; k < n; k++)
        to_plain_f32((float *)pq_tensor_data(&real) + k * c * area, x + k * c * area, c, area);
    pq_tensor_clear(out);
    *out = real;
    return PQ_OK;
}

static pq_status store_plain(pq_ctx *ctx, cpu_session *s, pq_slot_id id, const pq_tensor *t)
{
    const pq_slot *slot = slot_of(s, id);
    const size_t total = count_of(slot);
    pq_tensor last = {0};
    if (s->layout[id] == CPU_LAST) {
        pq_status st = pq_tensor_new(ctx, &last, PQ_F32, &slot->shape);
        if (st != PQ_OK) return st;
        cpu_to_last(s, pq_tensor_data(&last), pq_tensor_data(t), &slot->shape);
        t = &last;
    }
    if (t->dtype == PQ_F32)
        store(s, slot, data_of(s, id), 0, pq_tensor_data(t), total);
    else
        memcpy(data_of(s, id), pq_tensor_data(t), total * pq_dtype_size(t->dtype));
    pq_tensor_clear(&last);
    return PQ_OK;
}

static pq_status run_plain(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = step_of(s, i);
    pq_tensor in[64] = {0}, out[64] = {0};
    const pq_tensor *in_ptr[64] = {0};
    pq_status st = PQ_OK;
    PQ_ASSERT(ctx, step->n_in <= 64 && step->n_out <= 64);
    for (int k = 0; k < step->n_in; k++) {
        if (step->in[k] == PQ_NONE) continue;
        PQ_TRY(as_plain(ctx, &in[k], s, step->in[k]));
        in_ptr[k] = &in[k];
    }
    PQ_TRY(pq_eval_node(ctx, s->stepped.program->graph, node_of(s, i), in_ptr, out));
    for (int k = 0; k < step->n_out; k++) PQ_TRY(store_plain(ctx, s, step->out[k], &out[k]));
out:
    for (int k = 0; k < step->n_in && k < 64; k++) pq_tensor_clear(&in[k]);
    for (int k = 0; k < step->n_out && k < 64; k++) pq_tensor_clear(&out[k]);
    return st;
}

/* ---- choosing ---- */

static bool all_last(const cpu_session *s, const pq_step *step)
{
    for (int k = 0; k < step->n_in; k++)
        if (step->in[k] == PQ_NONE || s->layout[step->in[k]] != CPU_LAST) return false;
    return true;
}

static bool whole_factor(const pq_node *n, const pq_shape *in, const pq_shape *out)
{
    if (n->attr.resize != PQ_RESIZE_NEAREST || in->rank != 4 || in->dim[0] != out->dim[0] ||
        in->dim[1] != out->dim[1])
        return false;
    for (int i = 2; i < 4; i++)
        if (out->dim[i] % in->dim[i]) return false;
    /* Repeating is what these give for whole factors. */
    return n->attr.coord == PQ_COORD_ASYMMETRIC ? n->attr.nearest == PQ_NEAREST_FLOOR
                                                : n->attr.coord == PQ_COORD_HALF_PIXEL;
}

typedef struct choice {
    cpu_step_fn run;
    const char *impl;
    cpu_layout layout; /* of the outputs */
} choice;

static choice choose_elementwise(const cpu_session *s, const pq_step *step, const pq_node *n,
                                 choice none)
{
    const pq_slot *a = slot_of(s, step->in[0]);
    pq_act act;
    if (act_of(n, &act) && a->dtype != PQ_S64 && a->dtype != PQ_S32)
        return (choice){run_activation, "pq_activate", s->layout[step->in[0]]};
    if (n->op != PQ_OP_ADD && n->op != PQ_OP_MUL) return none;
    const pq_slot *b = slot_of(s, step->in[1]);
    const bool real =
        a->dtype != PQ_S64 && a->dtype != PQ_S32 && b->dtype != PQ_S64 && b->dtype != PQ_S32;
    if (real && n->op == PQ_OP_MUL && !a->constant && b->constant && count_of(b) == 1 &&
        b->dtype == PQ_F32)
        return (choice){run_binary, "pq_multiply_scalar", s->layout[step->in[0]]};
    if (real && pq_shape_equal(&a->shape, &b->shape) &&
        s->layout[step->in[0]] == s->layout[step->in[1]])
        return (choice){run_binary, n->op == PQ_OP_ADD ? "pq_add" : "pq_multiply",
                        s->layout[step->in[0]]};
    return none;
}

static choice choose_node(const cpu_session *s, const pq_step *step, const pq_node *n)
{
    const pq_slot *in = slot_of(s, step->in[0]), *out = slot_of(s, step->out[0]);
    const cpu_layout layout = s->layout[step->in[0]];
    const choice plain = {run_plain, "plain", out->shape.rank == 4 ? CPU_LAST : CPU_PLAIN};
    switch (n->op) {
    case PQ_OP_FOCUS:
        if (layout == CPU_PLAIN && in->dtype == PQ_F32 && out->dtype != PQ_BF16 &&
            in->form == PQ_FORM_REAL && in->shape.dim[3] % 2 == 0)
            return (choice){run_focus, "pq_focus", CPU_LAST};
        return plain;
    case PQ_OP_CONCAT:
        if (all_last(s, step) && n->attr.axis == 1 && out->shape.rank == 4)
            return (choice){run_concat, "pq_concat", CPU_LAST};
        if (all_last(s, step) && n->attr.axis == 2 && out->shape.rank == 3 &&
            in->form != PQ_FORM_QUANTIZED)
            return (choice){run_concat_length, "pq_concat", CPU_LAST};
        return plain;
    case PQ_OP_MAX_POOL:
        if (layout == CPU_LAST && in->dtype != PQ_BF16 && in->dtype == out->dtype)
            return (choice){run_max_pool, "pq_max_pool", CPU_LAST};
        return plain;
    case PQ_OP_RESIZE:
        if (layout == CPU_LAST && in->dtype == out->dtype &&
            whole_factor(n, &in->shape, &out->shape))
            return (choice){run_upsample, "pq_upsample", CPU_LAST};
        return plain;
    case PQ_OP_RESHAPE:
    case PQ_OP_FLATTEN:
        if (layout == CPU_LAST && in->shape.rank == 4 && out->shape.rank == 3 &&
            in->dtype == out->dtype && in->shape.dim[0] == out->shape.dim[0] &&
            in->shape.dim[1] == out->shape.dim[1])
            return (choice){run_copy, "pq_copy", CPU_LAST};
        return plain;
    case PQ_OP_TRANSPOSE:
        if (layout == CPU_LAST && in->shape.rank == 3 && in->dtype == out->dtype &&
            n->attr.perm[0] == 0 && n->attr.perm[1] == 2)
            return (choice){run_copy, "pq_copy", CPU_PLAIN};
        return plain;
    case PQ_OP_GFL_DECODE:
        return all_last(s, step) ? (choice){run_gfl_decode, "pq_gfl_decode", CPU_PLAIN} : plain;
    default: return choose_elementwise(s, step, n, plain);
    }
}

/* Focus of a quantized image: quantize while taking it apart, and drop the conversion before. */
static void merge_focus(cpu_session *s, size_t i)
{
    pq_program *p = s->stepped.program;
    const pq_step *step = &p->step[i];
    if (i == 0 || !p->step[i - 1].convert || p->step[i - 1].out[0] != step->in[0]) return;
    const pq_slot_id image = p->step[i - 1].in[0];
    const pq_slot *x = &p->slot[image], *q = &p->slot[step->in[0]], *y = &p->slot[step->out[0]];
    if (s->layout[image] != CPU_PLAIN || x->form != PQ_FORM_REAL || x->dtype != PQ_F32 ||
        y->form != PQ_FORM_QUANTIZED || q->last != (int)i || q->scale != y->scale ||
        q->zero_point != y->zero_point || x->shape.dim[3] % 2)
        return;
    s->step[i].from = image;
    s->step[i - 1].run = NULL;
    s->step[i - 1].impl = "in pq_focus";
    if (p->slot[image].last < (int)i) p->slot[image].last = (int)i;
    s->step[i].run = run_focus;
    s->step[i].impl = "pq_focus";
    s->layout[step->out[0]] = CPU_LAST;
}

void cpu_choose(cpu_session *s, size_t i)
{
    const pq_step *step = step_of(s, i);
    cpu_step *to = &s->step[i];
    to->from = PQ_NONE;
    if (step->convert) {
        const pq_slot *in = slot_of(s, step->in[0]);
        const bool image =
            in->first < 0 && in->shape.rank == 4 && s->layout[step->in[0]] == CPU_PLAIN;
        to->run = image ? run_convert_to_last : run_convert;
        to->impl = "pq_convert";
        s->layout[step->out[0]] = image ? CPU_LAST : s->layout[step->in[0]];
        return;
    }
    const pq_node *n = node_of(s, i);
    const choice c = choose_node(s, step, n);
    to->run = c.run;
    to->impl = c.impl;
    for (int k = 0; k < step->n_out; k++) s->layout[step->out[k]] = c.layout;
    if (n->op == PQ_OP_FOCUS) merge_focus(s, i);
}
