/* Which kernel runs a step that is not weighted, and the elementwise ones: conversions, sums,
 * activations. What has no kernel runs on the plain evaluator, and bench --layers says so. */
#include <omp.h>
#include <string.h>

#include "base/mem.h"
#include "engine/cpu/cpu.h"
#include "graph/eval.h"

enum { CHUNK = 8192 }; /* elements a thread takes at a time */

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

void cpu_copy(const cpu_session *s, void *dst, const void *src, size_t bytes)
{
    enum { PART = 16384 };
#pragma omp parallel for num_threads(cpu_threads(s, bytes)) schedule(static)
    for (size_t at = 0; at < bytes; at += PART)
        memcpy((char *)dst + at, (const char *)src + at, bytes - at < PART ? bytes - at : PART);
}

void *cpu_scratch_of_thread(const cpu_session *s, size_t bytes)
{
    return (char *)s->scratch + (size_t)omp_get_thread_num() * ((bytes + 63) / 64 * 64);
}

static void reserve_scratch(cpu_session *s, size_t bytes_a_thread)
{
    const size_t bytes = (size_t)s->n_threads * ((bytes_a_thread + 63) / 64 * 64);
    if (bytes > s->scratch_bytes) s->scratch_bytes = bytes;
}

void cpu_finish(cpu_session *s, size_t i, const float *sum, size_t n)
{
    const pq_step *step = cpu_step_of(s, i);
    const pq_attr *a = &cpu_node_of(s, i)->attr;
    const pq_attr *b =
        step->add == PQ_NONE ? NULL : &s->stepped.program->graph->node[step->add].attr;
    const pq_slot *out = cpu_slot_of(s, step->out[0]);
    const pq_slot *r = step->residual == PQ_NONE ? NULL : cpu_slot_of(s, step->residual);
    const void *r_data = r ? cpu_data_of(s, step->residual) : NULL;
    void *y = cpu_data_of(s, step->out[0]);
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
    const pq_step *step = cpu_step_of(s, i);
    const pq_slot *from = cpu_slot_of(s, step->in[0]), *to = cpu_slot_of(s, step->out[0]);
    const void *x = cpu_data_of(s, step->in[0]);
    void *y = cpu_data_of(s, step->out[0]);
    const size_t n = cpu_count_of(to);
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
    const pq_step *step = cpu_step_of(s, i);
    const pq_slot *to = cpu_slot_of(s, step->out[0]);
    pq_tensor t = {0};
    pq_status st = pq_tensor_new(ctx, &t, PQ_F32, &to->shape);
    if (st != PQ_OK) return st;
    cpu_to_last(s, pq_tensor_data(&t), cpu_data_of(s, step->in[0]), &to->shape);
    store(s, to, cpu_data_of(s, step->out[0]), 0, pq_tensor_data(&t), cpu_count_of(to));
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
    const pq_step *step = cpu_step_of(s, i);
    const pq_node *node = cpu_node_of(s, i);
    const pq_slot *in = cpu_slot_of(s, step->in[0]), *out = cpu_slot_of(s, step->out[0]);
    const void *x = cpu_data_of(s, step->in[0]);
    void *y = cpu_data_of(s, step->out[0]);
    const size_t n = cpu_count_of(out);
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
pq_status cpu_run_binary(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = cpu_step_of(s, i);
    const pq_node *node = cpu_node_of(s, i);
    const pq_slot *a = cpu_slot_of(s, step->in[0]), *b = cpu_slot_of(s, step->in[1]),
                  *out = cpu_slot_of(s, step->out[0]);
    const void *x = cpu_data_of(s, step->in[0]), *z = cpu_data_of(s, step->in[1]);
    void *y = cpu_data_of(s, step->out[0]);
    const size_t n = cpu_count_of(out);
    const bool scalar = cpu_count_of(b) == 1 && n != 1;
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

/* ---- the rest: the plain evaluator ---- */

static pq_status as_plain(pq_ctx *ctx, pq_tensor *out, const cpu_session *s, pq_slot_id id)
{
    const pq_slot *slot = cpu_slot_of(s, id);
    void *data = cpu_data_of(s, id);
    size_t n, c, area, total = cpu_count_of(slot);
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
    const pq_slot *slot = cpu_slot_of(s, id);
    const size_t total = cpu_count_of(slot);
    pq_tensor last = {0};
    if (s->layout[id] == CPU_LAST) {
        pq_status st = pq_tensor_new(ctx, &last, PQ_F32, &slot->shape);
        if (st != PQ_OK) return st;
        cpu_to_last(s, pq_tensor_data(&last), pq_tensor_data(t), &slot->shape);
        t = &last;
    }
    if (t->dtype == PQ_F32)
        store(s, slot, cpu_data_of(s, id), 0, pq_tensor_data(t), total);
    else
        memcpy(cpu_data_of(s, id), pq_tensor_data(t), total * pq_dtype_size(t->dtype));
    pq_tensor_clear(&last);
    return PQ_OK;
}

static pq_status run_plain(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = cpu_step_of(s, i);
    pq_tensor in[64] = {0}, out[64] = {0};
    const pq_tensor *in_ptr[64] = {0};
    pq_status st = PQ_OK;
    PQ_ASSERT(ctx, step->n_in <= 64 && step->n_out <= 64);
    for (int k = 0; k < step->n_in; k++) {
        if (step->in[k] == PQ_NONE) continue;
        PQ_TRY(as_plain(ctx, &in[k], s, step->in[k]));
        in_ptr[k] = &in[k];
    }
    PQ_TRY(pq_eval_node(ctx, s->stepped.program->graph, cpu_node_of(s, i), in_ptr, out));
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
    if (n->attr.coord == PQ_COORD_ASYMMETRIC) return n->attr.nearest == PQ_NEAREST_FLOOR;
    return n->attr.coord == PQ_COORD_HALF_PIXEL &&
           (n->attr.nearest == PQ_NEAREST_ROUND_PREFER_FLOOR ||
            n->attr.nearest == PQ_NEAREST_ROUND_PREFER_CEIL);
}

typedef struct choice {
    cpu_step_fn run;
    const char *impl;
    cpu_layout layout; /* of the outputs */
} choice;

/* Float, or standing for floats: what the kernels take. Integers proper and truth values go through
 * the plain evaluator. */
static bool is_real(const pq_slot *s)
{
    return s->form != PQ_FORM_REAL || s->dtype == PQ_F32 || s->dtype == PQ_BF16;
}

static choice choose_elementwise(const cpu_session *s, const pq_step *step, const pq_node *n,
                                 choice none)
{
    const pq_slot *a = cpu_slot_of(s, step->in[0]);
    pq_act act;
    if (act_of(n, &act) && is_real(a))
        return (choice){run_activation, "pq_activate", s->layout[step->in[0]]};
    if (n->op != PQ_OP_ADD && n->op != PQ_OP_MUL) return none;
    const pq_slot *b = cpu_slot_of(s, step->in[1]);
    const bool real = is_real(a) && is_real(b);
    if (real && n->op == PQ_OP_MUL && !a->constant && b->constant && cpu_count_of(b) == 1 &&
        b->dtype == PQ_F32)
        return (choice){cpu_run_binary, "pq_multiply_scalar", s->layout[step->in[0]]};
    if (real && pq_shape_equal(&a->shape, &b->shape) &&
        s->layout[step->in[0]] == s->layout[step->in[1]])
        return (choice){cpu_run_binary, n->op == PQ_OP_ADD ? "pq_add" : "pq_multiply",
                        s->layout[step->in[0]]};
    return none;
}

static choice choose_node(const cpu_session *s, const pq_step *step, const pq_node *n)
{
    const pq_slot *in = cpu_slot_of(s, step->in[0]), *out = cpu_slot_of(s, step->out[0]);
    const cpu_layout layout = s->layout[step->in[0]];
    const bool image = out->shape.rank == 4 && is_real(out);
    const choice plain = {run_plain, "plain", image ? CPU_LAST : CPU_PLAIN};
    switch (n->op) {
    case PQ_OP_FOCUS:
        if (layout == CPU_PLAIN && in->dtype == PQ_F32 && out->dtype != PQ_BF16 &&
            in->form == PQ_FORM_REAL && in->shape.dim[3] % 2 == 0)
            return (choice){cpu_run_focus, "pq_focus", CPU_LAST};
        return plain;
    case PQ_OP_CONCAT:
        if (all_last(s, step) && n->attr.axis == 1 && out->shape.rank == 4)
            return (choice){cpu_run_concat, "pq_concat", CPU_LAST};
        if (all_last(s, step) && n->attr.axis == 2 && out->shape.rank == 3 &&
            in->form != PQ_FORM_QUANTIZED)
            return (choice){cpu_run_concat_length, "pq_concat", CPU_LAST};
        return plain;
    case PQ_OP_MAX_POOL:
        if (layout == CPU_LAST && in->dtype == out->dtype)
            return (choice){cpu_run_max_pool, "pq_max_pool", CPU_LAST};
        return plain;
    case PQ_OP_RESIZE:
        if (layout == CPU_LAST && in->dtype == out->dtype &&
            whole_factor(n, &in->shape, &out->shape))
            return (choice){cpu_run_upsample, "pq_upsample", CPU_LAST};
        return plain;
    case PQ_OP_RESHAPE:
    case PQ_OP_FLATTEN:
        if (layout == CPU_LAST && in->shape.rank == 4 && out->shape.rank == 3 &&
            in->dtype == out->dtype && in->shape.dim[0] == out->shape.dim[0] &&
            in->shape.dim[1] == out->shape.dim[1])
            return (choice){cpu_run_copy, "pq_copy", CPU_LAST};
        return plain;
    case PQ_OP_TRANSPOSE:
        if (layout == CPU_LAST && in->shape.rank == 3 && in->dtype == out->dtype &&
            n->attr.perm[0] == 0 && n->attr.perm[1] == 2)
            return (choice){cpu_run_copy, "pq_copy", CPU_PLAIN};
        return plain;
    case PQ_OP_GFL_DECODE:
        return all_last(s, step) ? (choice){cpu_run_gfl_decode, "pq_gfl_decode", CPU_PLAIN} : plain;
    default: return choose_elementwise(s, step, n, plain);
    }
}

/* ---- steps that do an earlier one's work ---- */

size_t cpu_sole_producer(const cpu_session *s, pq_slot_id id, size_t reader)
{
    const pq_program *p = s->stepped.program;
    const pq_slot *slot = &p->slot[id];
    size_t readers = 0;
    if (s->stepped.tap || slot->first < 0 || slot->constant || slot->last != (int)reader)
        return SIZE_MAX;
    for (size_t i = (size_t)slot->first; i <= reader; i++) {
        readers += p->step[i].residual == id;
        for (int k = 0; k < p->step[i].n_in; k++) readers += p->step[i].in[k] == id;
    }
    const size_t j = (size_t)slot->first;
    if (readers != 1 || p->step[j].n_out != 1) return SIZE_MAX;
    /* What it read must still be there: a residual block may have summed into those bytes. */
    for (size_t k = 0; k < p->n_slots; k++)
        if (s->stepped.alias[k] == p->step[j].in[0]) return SIZE_MAX;
    return j;
}

void cpu_take_over(cpu_session *s, size_t j, size_t i, int k, const char *impl)
{
    pq_program *p = s->stepped.program;
    const pq_slot_id from = p->step[j].in[0];
    p->slot[p->step[j].out[0]].last = p->slot[p->step[j].out[0]].first;
    p->step[i].in[k] = from;
    if (p->slot[from].last < (int)i) p->slot[from].last = (int)i;
    s->step[j].run = NULL;
    s->step[j].impl = impl;
}

/* Focus quantizes or rounds a float image itself. */
static void merge_conversion(cpu_session *s, size_t i)
{
    const pq_program *p = s->stepped.program;
    const pq_slot *y = cpu_slot_of(s, p->step[i].out[0]);
    const size_t j = cpu_sole_producer(s, p->step[i].in[0], i);
    if (j == SIZE_MAX || !p->step[j].convert) return;
    const pq_slot *x = cpu_slot_of(s, p->step[j].in[0]), *q = cpu_slot_of(s, p->step[j].out[0]);
    if (s->layout[p->step[j].in[0]] != CPU_PLAIN || x->form != PQ_FORM_REAL || x->dtype != PQ_F32 ||
        q->form != y->form || q->dtype != y->dtype || q->scale != y->scale ||
        q->zero_point != y->zero_point || x->shape.dim[3] % 2)
        return;
    cpu_take_over(s, j, i, 0, "in pq_focus");
    s->step[i].run = cpu_run_focus;
    s->step[i].impl = "pq_focus";
    s->layout[p->step[i].out[0]] = CPU_LAST;
}

/* A concat repeats the pixels of a smaller map itself. */
static void merge_upsample(cpu_session *s, size_t i)
{
    const pq_program *p = s->stepped.program;
    for (int k = 0; k < p->step[i].n_in; k++) {
        const size_t j = cpu_sole_producer(s, p->step[i].in[k], i);
        if (j != SIZE_MAX && s->step[j].run == cpu_run_upsample)
            cpu_take_over(s, j, i, k, "in pq_concat");
    }
}

/* A reshape that moves nothing: both names for the same bytes. */
static void merge_copy(cpu_session *s, size_t i)
{
    const pq_program *p = s->stepped.program;
    const pq_slot_id in = p->step[i].in[0], out = p->step[i].out[0];
    const pq_slot *x = cpu_slot_of(s, in), *y = cpu_slot_of(s, out);
    if (x->first >= 0 && !x->constant && x->last == (int)i && y->last != (int)p->n_steps)
        s->stepped.alias[out] = in;
}

static void choose_conversion(cpu_session *s, size_t i)
{
    const pq_step *step = cpu_step_of(s, i);
    const pq_slot *in = cpu_slot_of(s, step->in[0]);
    const bool image = in->first < 0 && in->shape.rank == 4 && s->layout[step->in[0]] == CPU_PLAIN;
    s->step[i].run = image ? run_convert_to_last : run_convert;
    s->step[i].impl = "pq_convert";
    s->layout[step->out[0]] = image ? CPU_LAST : s->layout[step->in[0]];
}

void cpu_choose(cpu_session *s, size_t i)
{
    const pq_step *step = cpu_step_of(s, i);
    if (step->convert) {
        choose_conversion(s, i);
        return;
    }
    const pq_node *n = cpu_node_of(s, i);
    const pq_shape *in = &cpu_slot_of(s, step->in[0])->shape;
    const choice c = choose_node(s, step, n);
    s->step[i].run = c.run;
    s->step[i].impl = c.impl;
    for (int k = 0; k < step->n_out; k++) s->layout[step->out[k]] = c.layout;
    if (n->op == PQ_OP_FOCUS) merge_conversion(s, i);
    if (c.run == cpu_run_concat) merge_upsample(s, i);
    if (c.run == cpu_run_gfl_decode) cpu_merge_scales(s, i);
    if (c.run == cpu_run_copy) merge_copy(s, i);
    if (c.run == cpu_run_max_pool)
        reserve_scratch(s, (size_t)(in->dim[3] * in->dim[1]) *
                               pq_dtype_size(cpu_slot_of(s, step->in[0])->dtype));
}
