/* Sessions of our own engines: running steps, and states between them. */
#include "engine/stepped.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "graph/eval.h"

pq_status pq_stepped_init(pq_ctx *ctx, pq_stepped *s, const pq_engine *engine, const pq_graph *g,
                          const pq_plan *plan, const pq_compile_opts *opts)
{
    pq_status st = pq_session_describe(ctx, &s->base, engine, g);
    if (st != PQ_OK) return st;
    s->tap = opts->tap;
    s->tap_user = opts->tap_user;
    st = pq_program_new(ctx, &s->program, g, plan, opts->tap == NULL);
    if (st != PQ_OK) return st;
    const size_t n = s->program->n_slots;
    s->base.n_steps = s->program->n_steps;
    st = pq_alloc(ctx, &s->offset, n, sizeof *s->offset);
    if (st == PQ_OK) st = pq_alloc(ctx, &s->alias, n, sizeof *s->alias);
    for (size_t i = 0; st == PQ_OK && i < n; i++) s->alias[i] = PQ_NONE;
    if (st == PQ_OK) st = pq_alloc(ctx, &s->bytes, n, sizeof *s->bytes);
    if (st == PQ_OK) st = pq_alloc(ctx, &s->ptr, n, sizeof *s->ptr);
    return st;
}

pq_status pq_stepped_allocate(pq_ctx *ctx, pq_stepped *s)
{
    const pq_program *p = s->program;
    int *first = NULL, *last = NULL;
    size_t *size = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &size, p->n_slots, sizeof *size));
    PQ_TRY(pq_alloc(ctx, &first, p->n_slots, sizeof *first));
    PQ_TRY(pq_alloc(ctx, &last, p->n_slots, sizeof *last));
    for (size_t i = 0; i < p->n_slots; i++) {
        s->bytes[i] = p->slot[i].constant ? 0 : s->slot_bytes(s, &p->slot[i]);
        first[i] = p->slot[i].first;
        last[i] = p->slot[i].last;
        size[i] = s->bytes[i];
    }
    for (size_t i = 0; i < p->n_slots;
         i++) { /* a slot and those that follow it in its bytes: one item */
        pq_slot_id root = (pq_slot_id)i;
        while (s->alias[root] != PQ_NONE) root = s->alias[root];
        if (root == i) continue;
        if (last[i] > last[root]) last[root] = last[i];
        size[i] = 0;
    }
    PQ_TRY(pq_memory_plan(ctx, s->offset, &s->base.arena_bytes, size, first, last, p->n_slots));
    for (size_t i = 0; i < p->n_slots; i++) {
        pq_slot_id root = (pq_slot_id)i;
        while (s->alias[root] != PQ_NONE) root = s->alias[root];
        s->offset[i] = s->offset[root];
    }
    st = pq_alloc(ctx, &s->arena, s->base.arena_bytes + 4096,
                  1); /* vector loads may read past the end */
out:
    pq_free(size);
    pq_free(first);
    pq_free(last);
    return st;
}

void pq_stepped_clear(pq_stepped *s)
{
    pq_program_free(s->program);
    pq_free(s->offset);
    pq_free(s->bytes);
    pq_free(s->alias);
    pq_free(s->ptr);
    pq_free(s->arena);
    pq_session_forget(&s->base);
}

static bool is_output_slot(const pq_slot *s, pq_value_id v)
{
    return s->value == v && s->form == PQ_FORM_REAL && s->dtype == PQ_F32;
}

/* Integers and truth values leave the network as floats. */
static bool is_integer_output(const pq_program *p, const pq_slot *s, pq_value_id v)
{
    return s->value == v && s->form == PQ_FORM_REAL && p->graph->value[v].dtype != PQ_F32;
}

void pq_stepped_bind(pq_stepped *s, const pq_tensor *in, pq_tensor *out)
{
    const pq_program *p = s->program;
    const pq_graph *g = p->graph;
    for (size_t i = 0; i < p->n_slots; i++) {
        const pq_slot *slot = &p->slot[i];
        s->ptr[i] =
            slot->constant ? pq_buf_data(g->value[slot->value].data) : s->arena + s->offset[i];
        for (size_t k = 0; out && k < g->n_outputs; k++)
            if (is_output_slot(slot, g->output[k]) && slot->first >= 0 &&
                !s->channels_last(s, slot))
                s->ptr[i] = pq_tensor_data(&out[k]);
        for (size_t k = 0; in && k < g->n_inputs; k++)
            if (is_output_slot(slot, g->input[k])) s->ptr[i] = pq_tensor_data(&in[k]);
    }
}

static pq_status tap(pq_ctx *ctx, pq_stepped *s, pq_slot_id id)
{
    const pq_slot *slot = &s->program->slot[id];
    if (slot->form != PQ_FORM_REAL || slot->dtype != PQ_F32) return PQ_OK;
    pq_tap_view v = {s->program->graph->value[slot->value].name, s->ptr[id], slot->shape,
                     s->channels_last(s, slot)};
    return s->tap(ctx, s->tap_user, &v);
}

static pq_status run_steps(pq_ctx *ctx, pq_stepped *s, size_t from, size_t to)
{
    const pq_program *p = s->program;
    pq_status st = from == 0 && s->begin ? s->begin(ctx, s) : PQ_OK;
    if (s->tap && from == 0)
        for (size_t i = 0; i < p->n_slots && st == PQ_OK; i++)
            if (p->slot[i].first < 0 && !p->slot[i].constant) st = tap(ctx, s, (pq_slot_id)i);
    for (size_t i = from; i < to && st == PQ_OK; i++) {
        st = s->run_step(ctx, s, i);
        for (int k = 0; s->tap && st == PQ_OK && k < p->step[i].n_out; k++)
            st = tap(ctx, s, p->step[i].out[k]);
    }
    return st;
}

static void copy_output(float *dst, const float *src, const pq_shape *s, bool channels_last)
{
    const size_t n = (size_t)pq_shape_count(s);
    if (!channels_last) {
        memcpy(dst, src, n * sizeof *dst);
        return;
    }
    const size_t c = (size_t)s->dim[1];
    const size_t area = (size_t)(s->dim[2] * (s->rank == 4 ? s->dim[3] : 1));
    for (size_t i = 0; i < n; i++)
        dst[i] = src[(i / area / c * area + i % area) * c + i / area % c];
}

static void copy_integers(float *dst, const pq_slot *slot, void *src)
{
    const size_t n = (size_t)pq_shape_count(&slot->shape);
    const bool has_absent = slot->dtype == PQ_S64 || slot->dtype == PQ_S32;
    for (size_t i = 0; i < n; i++) {
        const int64_t wide = slot->dtype == PQ_S64 ? ((const int64_t *)src)[i] : 0;
        const int32_t narrow = slot->dtype == PQ_S32 ? ((const int32_t *)src)[i] : 0;
        dst[i] = has_absent && (wide == PQ_ABSENT || narrow == PQ_ABSENT_32)
                     ? NAN
                     : (float)pq_element(slot->dtype, src, i);
    }
}

/* An output stored NHWC, or that is an input of the network, or an output twice, is copied at the
 * end. */
static void copy_outputs(pq_stepped *s, pq_tensor *out)
{
    const pq_program *p = s->program;
    for (size_t k = 0; k < p->graph->n_outputs; k++)
        for (size_t i = 0; i < p->n_slots; i++) {
            const pq_slot *slot = &p->slot[i];
            if (is_integer_output(p, slot, p->graph->output[k]))
                copy_integers(pq_tensor_data(&out[k]), slot, s->ptr[i]);
            else if (is_output_slot(slot, p->graph->output[k]) &&
                     s->ptr[i] != pq_tensor_data(&out[k]))
                copy_output(pq_tensor_data(&out[k]), s->ptr[i], &slot->shape,
                            s->channels_last(s, slot));
        }
}

pq_status pq_stepped_run(pq_ctx *ctx, pq_session *session, const pq_tensor *in, size_t n_in,
                         pq_tensor *out, size_t n_out)
{
    pq_stepped *s = (pq_stepped *)session;
    (void)n_in;
    (void)n_out;
    pq_stepped_bind(s, in, out);
    pq_status st = run_steps(ctx, s, 0, s->program->n_steps);
    if (st == PQ_OK) copy_outputs(s, out);
    return st;
}

/* ---- states ---- */

static bool same_slot(const pq_slot *a, const pq_slot *b)
{
    return a->value == b->value && a->form == b->form && a->dtype == b->dtype &&
           a->constant == b->constant && memcmp(&a->scale, &b->scale, sizeof a->scale) == 0 &&
           a->zero_point == b->zero_point;
}

static bool same_ref(const pq_program *a, const pq_program *b, pq_slot_id x, pq_slot_id y)
{
    return x == y && (x == PQ_NONE || same_slot(&a->slot[x], &b->slot[y]));
}

static bool same_constants(const pq_program *a, const pq_program *b, pq_node_id id)
{
    const pq_node *n = &a->graph->node[id];
    for (int k = 1; k < n->n_in; k++) {
        if (n->in[k] == PQ_NONE) continue;
        const pq_buf *x = a->graph->value[n->in[k]].data, *y = b->graph->value[n->in[k]].data;
        const pq_buf *sx = a->weight_scale[n->in[k]].buf, *sy = b->weight_scale[n->in[k]].buf;
        if (x != y && (!x || !y || pq_buf_bytes(x) != pq_buf_bytes(y) ||
                       memcmp(pq_buf_data(x), pq_buf_data(y), pq_buf_bytes(x)) != 0))
            return false;
        if (sx != sy &&
            (!sx || !sy || memcmp(pq_buf_data(sx), pq_buf_data(sy), pq_buf_bytes(sx)) != 0))
            return false;
    }
    return true;
}

static bool same_step(const pq_program *a, const pq_program *b, size_t i)
{
    const pq_step *x = &a->step[i], *y = &b->step[i];
    if (x->convert != y->convert || x->node != y->node || x->add != y->add ||
        x->precision != y->precision || x->n_in != y->n_in || x->n_out != y->n_out ||
        !same_ref(a, b, x->residual, y->residual))
        return false;
    for (int k = 0; k < x->n_in; k++)
        if (!same_ref(a, b, x->in[k], y->in[k])) return false;
    for (int k = 0; k < x->n_out; k++)
        if (!same_ref(a, b, x->out[k], y->out[k])) return false;
    return x->convert || same_constants(a, b, x->node);
}

static bool live(const pq_program *p, size_t slot, size_t step)
{
    const pq_slot *s = &p->slot[slot];
    return !s->constant && s->first < (int)step && s->last >= (int)step;
}

size_t pq_stepped_prefix(const pq_session *base, const pq_session *session)
{
    const pq_program *a = ((const pq_stepped *)base)->program;
    const pq_program *b = ((const pq_stepped *)session)->program;
    size_t n = 0;
    while (n < a->n_steps && n < b->n_steps && same_step(a, b, n)) n++;
    for (; n > 0; n--) {
        bool ok = true;
        for (size_t i = 0; ok && i < b->n_slots; i++)
            if (live(b, i, n))
                ok = i < a->n_slots && same_slot(&a->slot[i], &b->slot[i]) && live(a, i, n);
        if (ok) break;
    }
    return n;
}

static size_t padded(size_t n) { return (n + 63) / 64 * 64; }

size_t pq_stepped_state_bytes(const pq_session *session, size_t step)
{
    const pq_stepped *s = (const pq_stepped *)session;
    size_t total = 0;
    for (size_t i = 0; i < s->program->n_slots; i++)
        if (live(s->program, i, step)) total += padded(s->bytes[i]);
    return total;
}

pq_status pq_stepped_part(pq_ctx *ctx, pq_session *session, size_t from, size_t to,
                          const pq_session *owner_session, const void *state, void *new_state,
                          const pq_tensor *in, size_t n_in, pq_tensor *out, size_t n_out)
{
    pq_stepped *s = (pq_stepped *)session;
    const pq_stepped *owner = (const pq_stepped *)owner_session;
    const pq_program *p = s->program;
    size_t at = 0;
    (void)n_in;
    (void)n_out;
    pq_stepped_bind(s, from ? NULL : in, out);
    for (size_t i = 0; from && i < owner->program->n_slots; i++) {
        if (!live(owner->program, i, from)) continue;
        if (i < p->n_slots && live(p, i, from))
            memcpy(s->ptr[i], (const uint8_t *)state + at, owner->bytes[i]);
        at += padded(owner->bytes[i]);
    }
    pq_status st = run_steps(ctx, s, from, to);
    if (st != PQ_OK) return st;
    at = 0;
    for (size_t i = 0; new_state && i < p->n_slots; i++) {
        if (!live(p, i, to)) continue;
        memcpy((uint8_t *)new_state + at, s->ptr[i], s->bytes[i]);
        at += padded(s->bytes[i]);
    }
    if (out && to == p->n_steps) copy_outputs(s, out);
    return PQ_OK;
}
