/* Lowering a graph under a plan to steps over slots. The rules are those of plan.h. */
#include "engine/program.h"

#include <string.h>

#include "base/mem.h"
#include "plan/names.h"

typedef struct lowering {
    pq_ctx *ctx;
    pq_program *p;
    pq_binding b;
    const pq_graph *g;
    bool *real32, *real16; /* per value: a reader wants it so */
    const pq_plan_tensor *
        *inherits;          /* per value: unlisted, but stored on the grid of what it moves into */
    pq_node_id *fused_conv; /* per Add: the convolution it rides on, or PQ_NONE */
    bool *rides;            /* per conv: emitted at its Add */
    pq_dtype half;          /* the 16-bit float type of this plan */
} lowering;

/* Operators that move or compare values only, or add them: cheap in bfloat16 and in int8. */
static bool is_light(pq_op op)
{
    switch (op) {
    case PQ_OP_CONCAT:
    case PQ_OP_MAX_POOL:
    case PQ_OP_FOCUS:
    case PQ_OP_ADD: return true;
    default: return false;
    }
}

/* One 16-bit type a plan: that of its base, else of the first node that has one. */
static pq_dtype half_of(const lowering *l)
{
    pq_precision p = l->b.plan->base;
    for (size_t i = 0; i < l->g->n_nodes && p != PQ_PREC_BF16 && p != PQ_PREC_FP16; i++)
        if (!l->g->node[i].dead && l->b.precision[i] != PQ_PREC_INT8) p = l->b.precision[i];
    return p == PQ_PREC_FP16 ? PQ_F16 : PQ_BF16;
}

/* float16 is a GPU's type, where everything runs in it; bfloat16 a CPU's, for what gains by it. */
static pq_dtype real_dtype(const lowering *l, pq_node_id id)
{
    const pq_node *n = &l->g->node[id];
    pq_precision p = l->b.precision[id];
    if (pq_op_is_weighted(n->op) && n->quant_index >= 0)
        return p == PQ_PREC_BF16 ? PQ_BF16 : p == PQ_PREC_FP16 ? PQ_F16 : PQ_F32;
    if (l->b.plan->base == PQ_PREC_FP16) return PQ_F16;
    return l->b.plan->base == PQ_PREC_BF16 && (is_light(n->op) || pq_node_moves(n)) ? PQ_BF16
                                                                                    : PQ_F32;
}

static bool weighted(const lowering *l, pq_node_id id)
{
    const pq_node *n = &l->g->node[id];
    return pq_op_is_weighted(n->op) && n->quant_index >= 0;
}

/* ---- residual sums ---- */

static bool can_ride(const lowering *l, pq_node_id add, int operand)
{
    const pq_node *a = &l->g->node[add];
    const pq_value *y = pq_in(l->g, a, operand), *r = pq_in(l->g, a, 1 - operand);
    if (y->producer == PQ_NONE || r->data || a->in[0] == a->in[1]) return false;
    const pq_node *c = &l->g->node[y->producer];
    if (c->op != PQ_OP_CONV || !weighted(l, y->producer) || c->quant_index < 0) return false;
    if (!pq_shape_equal(&y->shape, &r->shape)) return false;
    if (pq_graph_is_output(l->g, a->in[operand])) return false;
    if (pq_reads_quantized(&l->b, add, operand)) return false;
    /* The sum is formed in the accumulator of an INT8 or float convolution; a float one cannot
     * write the int8 result, but on engines that run float16, which convert as they store. */
    if (l->half != PQ_F16 && l->b.int8[add] && !l->b.int8[y->producer]) return false;
    return pq_graph_count_readers(l->g, a->in[operand]) == 1;
}

static void find_rides(lowering *l)
{
    for (size_t i = 0; i < l->g->n_nodes; i++) {
        const pq_node *n = &l->g->node[i];
        l->fused_conv[i] = PQ_NONE;
        if (n->dead || n->op != PQ_OP_ADD) continue;
        pq_node_id best = PQ_NONE;
        for (int k = 0; k < 2; k++) {
            if (!can_ride(l, (pq_node_id)i, k)) continue;
            pq_node_id c = pq_in(l->g, n, k)->producer;
            if (!l->rides[c] && (best == PQ_NONE || c > best)) best = c;
        }
        l->fused_conv[i] = best;
        if (best != PQ_NONE) l->rides[best] = true;
    }
}

/* ---- which forms are wanted ---- */

static void find_wants(lowering *l)
{
    const pq_graph *g = l->g;
    for (size_t i = 0; i < g->n_outputs; i++) l->real32[g->output[i]] = true;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->dead) continue;
        int n_data = weighted(l, (pq_node_id)i) ? 1 : n->n_in;
        for (int k = 0; k < n_data; k++) {
            pq_value_id v = n->in[k];
            if (v == PQ_NONE || g->value[v].data || pq_reads_quantized(&l->b, (pq_node_id)i, k))
                continue;
            if (l->b.int8[i] && (n->op == PQ_OP_CONCAT || pq_node_moves(n)))
                l->inherits[v] = l->b.tensor[n->out[0]];
            else if (l->fused_conv[i] != PQ_NONE && g->value[v].producer == l->fused_conv[i])
                continue; /* stays in the accumulator */
            else if (real_dtype(l, (pq_node_id)i) != PQ_F32)
                l->real16[v] = true;
            else
                l->real32[v] = true;
        }
    }
}

/* ---- slots and steps ---- */

static pq_status add_slot(lowering *l, pq_slot_id *out, const pq_slot *s)
{
    pq_program *p = l->p;
    if (p->n_slots == p->room_slots) {
        size_t room = p->room_slots ? 2 * p->room_slots : 256;
        pq_status st = pq_grow(l->ctx, &p->slot, p->n_slots, room, sizeof *p->slot);
        if (st != PQ_OK) return st;
        p->room_slots = room;
    }
    p->slot[p->n_slots] = *s;
    *out = (pq_slot_id)p->n_slots++;
    return PQ_OK;
}

static pq_status add_step(lowering *l, pq_step **out, const pq_step *s)
{
    pq_program *p = l->p;
    pq_status st;
    if (p->n_steps == p->room_steps) {
        size_t room = p->room_steps ? 2 * p->room_steps : 256;
        if ((st = pq_grow(l->ctx, &p->step, p->n_steps, room, sizeof *p->step)) != PQ_OK) return st;
        p->room_steps = room;
    }
    pq_step *to = &p->step[p->n_steps];
    *to = *s;
    if ((st = pq_arena_alloc(l->ctx, p->arena, &to->in, (size_t)s->n_in + 1, sizeof *to->in)) !=
        PQ_OK)
        return st;
    if ((st = pq_arena_alloc(l->ctx, p->arena, &to->out, (size_t)s->n_out, sizeof *to->out)) !=
        PQ_OK)
        return st;
    p->n_steps++;
    *out = to;
    return PQ_OK;
}

static pq_slot real_slot(const lowering *l, pq_value_id v, pq_dtype dtype)
{
    const pq_value *value = &l->g->value[v];
    return (pq_slot){.value = v,
                     .form = PQ_FORM_REAL,
                     .dtype = value->dtype == PQ_F32 && !value->data ? dtype : value->dtype,
                     .shape = value->shape,
                     .constant = value->data != NULL};
}

static pq_slot quantized_slot(const lowering *l, pq_value_id v, const pq_plan_tensor *t)
{
    pq_slot s = real_slot(l, v, PQ_F32);
    s.form = PQ_FORM_QUANTIZED;
    s.dtype = t->dtype;
    s.scale = t->scale;
    s.zero_point = t->zero_point;
    return s;
}

static bool same(const pq_slot *a, const pq_slot *b)
{
    return a->value == b->value && a->form == b->form && a->dtype == b->dtype &&
           (a->form != PQ_FORM_QUANTIZED ||
            (memcmp(&a->scale, &b->scale, sizeof a->scale) == 0 && a->zero_point == b->zero_point));
}

static pq_slot_id find_slot(const lowering *l, const pq_slot *want)
{
    for (size_t i = l->p->n_slots; i-- > 0;)
        if (same(&l->p->slot[i], want)) return (pq_slot_id)i;
    return PQ_NONE;
}

/* The slot a conversion to `want` starts from: the value's own quantized form for what reads x^
 * (and for requantizing), else its real form. */
static pq_slot_id find_source(const lowering *l, const pq_slot *want)
{
    const pq_plan_tensor *own = l->b.tensor[want->value];
    pq_slot_id best = PQ_NONE;
    for (size_t i = 0; i < l->p->n_slots; i++) {
        const pq_slot *s = &l->p->slot[i];
        if (s->value != want->value) continue;
        bool is_own = own && s->form == PQ_FORM_QUANTIZED && s->scale == own->scale &&
                      s->zero_point == own->zero_point;
        if (want->form == PQ_FORM_DEQUANTIZED && is_own) return (pq_slot_id)i;
        if (want->form == PQ_FORM_QUANTIZED && is_own && s->scale != want->scale)
            return (pq_slot_id)i;
        if (s->form == PQ_FORM_REAL) best = (pq_slot_id)i;
    }
    return best;
}

static pq_status need(lowering *l, pq_slot_id *out, const pq_slot *want)
{
    pq_step *step;
    pq_status st;
    *out = find_slot(l, want);
    if (*out != PQ_NONE) return PQ_OK;
    if (want->constant) return add_slot(l, out, want);
    pq_slot_id from = find_source(l, want);
    if (want->form == PQ_FORM_DEQUANTIZED && from != PQ_NONE &&
        l->p->slot[from].form == PQ_FORM_REAL) { /* x^ of a value stored real: quantize first */
        pq_slot q = quantized_slot(l, want->value, l->b.tensor[want->value]);
        if ((st = need(l, &from, &q)) != PQ_OK) return st;
    }
    PQ_ASSERT(l->ctx, from != PQ_NONE);
    if ((st = add_slot(l, out, want)) != PQ_OK) return st;
    pq_step s = {.convert = true,
                 .node = PQ_NONE,
                 .add = PQ_NONE,
                 .residual = PQ_NONE,
                 .n_in = 1,
                 .n_out = 1,
                 .precision = PQ_PREC_FP32};
    if ((st = add_step(l, &step, &s)) != PQ_OK) return st;
    step->in[0] = from;
    step->out[0] = *out;
    return PQ_OK;
}

/* The slot in which node i reads its input k. */
static pq_status need_input(lowering *l, pq_slot_id *out, pq_node_id i, int k, bool integers)
{
    const pq_node *n = &l->g->node[i];
    pq_value_id v = n->in[k];
    pq_slot want;
    *out = PQ_NONE;
    if (v == PQ_NONE) return PQ_OK;
    const pq_plan_tensor *t = l->b.tensor[v];
    /* Beginnings, sizes and the like stand beside the data of what moves it: never quantized. */
    if (l->g->value[v].dtype != PQ_F32 || (k > 0 && pq_node_moves(n))) {
        want = real_slot(l, v, PQ_F32);
        return need(l, out, &want);
    }
    if (pq_reads_quantized(&l->b, i, k)) {
        want = quantized_slot(l, v, t);
        if (!integers) {
            want = real_slot(l, v, real_dtype(l, i));
            want.form = PQ_FORM_DEQUANTIZED;
        } else if (l->b.int8[i] &&
                   pq_node_moves(n)) { /* on the output's grid, so that bytes just move */
            want = quantized_slot(l, v, l->b.tensor[n->out[0]]);
        }
    } else if (integers && (n->op == PQ_OP_CONCAT || pq_node_moves(n))) {
        want = quantized_slot(l, v, l->b.tensor[n->out[0]]);
    } else {
        want = real_slot(l, v, real_dtype(l, i));
    }
    /* x^ on another grid goes through its own quantized form first. */
    if (want.form == PQ_FORM_QUANTIZED && t && pq_reads_quantized(&l->b, i, k)) {
        pq_slot own = quantized_slot(l, v, t);
        pq_slot_id own_id;
        pq_status st = need(l, &own_id, &own);
        if (st != PQ_OK) return st;
    }
    return need(l, out, &want);
}

static pq_slot output_slot(const lowering *l, pq_node_id i, pq_value_id v, bool int8_sum)
{
    const pq_plan_tensor *t = l->b.tensor[v] ? l->b.tensor[v] : l->inherits[v];
    const bool real = l->real32[v] || l->real16[v] || !t;
    if (int8_sum && !real) return quantized_slot(l, v, t);
    pq_dtype d = real_dtype(l, i);
    if (d != PQ_F32 && !l->real16[v] && !(t && !l->real32[v])) d = PQ_F32;
    return real_slot(l, v, d);
}

static pq_status emit_weighted(lowering *l, pq_node_id conv, pq_node_id add)
{
    const pq_graph *g = l->g;
    const pq_node *c = &g->node[conv];
    const pq_value_id result = add == PQ_NONE ? c->out[0] : g->node[add].out[0];
    pq_slot_id in, residual = PQ_NONE, out;
    pq_step *step;
    pq_status st;
    const bool int8 = l->b.int8[conv];
    PQ_TRY(need_input(l, &in, conv, 0, int8));
    if (add != PQ_NONE) {
        int other = g->node[add].in[0] == c->out[0] ? 1 : 0;
        PQ_TRY(need_input(l, &residual, add, other, int8 && l->b.int8[add]));
    }
    pq_slot s = output_slot(l, add == PQ_NONE ? conv : add, result, int8);
    if (int8 && s.form == PQ_FORM_REAL && s.dtype == PQ_BF16 && residual != PQ_NONE)
        s.dtype = PQ_F32;
    PQ_TRY(add_slot(l, &out, &s));
    pq_step t = {.node = conv,
                 .add = add,
                 .residual = residual,
                 .n_in = 1,
                 .n_out = 1,
                 .precision = l->b.precision[conv]};
    PQ_TRY(add_step(l, &step, &t));
    step->in[0] = in;
    step->out[0] = out;
out:
    return st;
}

static pq_status emit_node(lowering *l, pq_node_id i)
{
    const pq_node *n = &l->g->node[i];
    pq_status st = PQ_OK;
    pq_slot_id in[64];
    pq_step *step;
    /* In the INT8 domain these run on integers; the others read x^ as floats and are quantized
     * after. */
    const bool integers = l->b.int8[i] && (is_light(n->op) || pq_node_moves(n));
    PQ_ASSERT(l->ctx, n->n_in <= 64);
    for (int k = 0; k < n->n_in; k++) PQ_TRY(need_input(l, &in[k], i, k, integers));
    pq_step t = {.node = i,
                 .add = PQ_NONE,
                 .residual = PQ_NONE,
                 .n_in = n->n_in,
                 .n_out = n->n_out,
                 .precision = integers                     ? PQ_PREC_INT8
                              : real_dtype(l, i) != PQ_F32 ? l->b.plan->base
                                                           : PQ_PREC_FP32};
    PQ_TRY(add_step(l, &step, &t));
    for (int k = 0; k < n->n_in; k++) step->in[k] = in[k];
    for (int k = 0; k < n->n_out; k++) {
        pq_slot s = integers ? quantized_slot(l, n->out[k], l->b.tensor[n->out[k]])
                             : real_slot(l, n->out[k], real_dtype(l, i));
        if (s.dtype == PQ_F16 && !l->real16[n->out[k]] && l->real32[n->out[k]])
            s.dtype = PQ_F32; /* only wanted so */
        PQ_TRY(add_slot(l, &step->out[k], &s));
    }
out:
    return st;
}

static pq_status emit_all(lowering *l)
{
    const pq_graph *g = l->g;
    pq_status st = PQ_OK;
    pq_slot_id id;
    for (size_t i = 0; i < g->n_inputs; i++) {
        pq_slot s = real_slot(l, g->input[i], PQ_F32);
        PQ_TRY(add_slot(l, &id, &s));
    }
    for (size_t i = 0; i < g->n_nodes; i++) {
        if (g->node[i].dead || l->rides[i]) continue;
        if (l->fused_conv[i] != PQ_NONE)
            PQ_TRY(emit_weighted(l, l->fused_conv[i], (pq_node_id)i));
        else if (weighted(l, (pq_node_id)i))
            PQ_TRY(emit_weighted(l, (pq_node_id)i, PQ_NONE));
        else
            PQ_TRY(emit_node(l, (pq_node_id)i));
    }
    for (size_t i = 0; i < g->n_outputs; i++) {
        pq_slot s = real_slot(l, g->output[i], PQ_F32);
        PQ_TRY(need(l, &id, &s));
    }
out:
    return st;
}

static void find_lifetimes(pq_program *p)
{
    for (size_t i = 0; i < p->n_slots; i++) p->slot[i].first = p->slot[i].last = -1;
    for (size_t i = 0; i < p->n_steps; i++) {
        const pq_step *s = &p->step[i];
        for (int k = 0; k < s->n_in; k++)
            if (s->in[k] != PQ_NONE) p->slot[s->in[k]].last = (int)i;
        if (s->residual != PQ_NONE) p->slot[s->residual].last = (int)i;
        for (int k = 0; k < s->n_out; k++)
            p->slot[s->out[k]].first = p->slot[s->out[k]].last = (int)i;
    }
    for (size_t k = 0; k < p->graph->n_outputs; k++)
        for (size_t i = 0; i < p->n_slots; i++)
            if (p->slot[i].value == p->graph->output[k] && p->slot[i].form == PQ_FORM_REAL &&
                (p->slot[i].dtype == PQ_F32 || p->graph->value[p->slot[i].value].dtype != PQ_F32))
                p->slot[i].last = (int)p->n_steps;
}

static pq_status take_weights(lowering *l)
{
    pq_program *p = l->p;
    pq_status st = pq_graph_copy(l->ctx, &p->graph, l->g);
    if (st != PQ_OK) return st;
    st = pq_alloc(l->ctx, &p->weight_scale, l->g->n_values, sizeof *p->weight_scale);
    if (st != PQ_OK) return st;
    p->graph->hash[0] = 0;
    for (size_t i = 0; i < l->g->n_values; i++) {
        const pq_plan_weight *w = l->b.weight[i];
        if (!w) continue;
        pq_buf_unref(p->graph->value[i].data);
        p->graph->value[i].data = pq_buf_ref(w->data.buf);
        p->weight_scale[i] = w->scale;
        pq_buf_ref(w->scale.buf);
    }
    return PQ_OK;
}

pq_status pq_program_new(pq_ctx *ctx, pq_program **out, const pq_graph *g, const pq_plan *plan,
                         bool fuse_sums)
{
    lowering l = {.ctx = ctx, .g = g};
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &l.p, 1, sizeof *l.p));
    PQ_TRY(pq_arena_new(ctx, &l.p->arena));
    PQ_TRY(pq_plan_bind(ctx, &l.b, plan, g));
    PQ_TRY(pq_alloc(ctx, &l.real32, g->n_values, 1));
    PQ_TRY(pq_alloc(ctx, &l.real16, g->n_values, 1));
    PQ_TRY(pq_alloc(ctx, &l.inherits, g->n_values, sizeof *l.inherits));
    PQ_TRY(pq_alloc(ctx, &l.fused_conv, g->n_nodes, sizeof *l.fused_conv));
    PQ_TRY(pq_alloc(ctx, &l.rides, g->n_nodes, 1));
    PQ_TRY(take_weights(&l));
    l.half = half_of(&l);
    if (fuse_sums)
        find_rides(&l);
    else
        for (size_t i = 0; i < g->n_nodes; i++) l.fused_conv[i] = PQ_NONE;
    find_wants(&l);
    PQ_TRY(emit_all(&l));
    find_lifetimes(l.p);
    *out = l.p;
    l.p = NULL;
out:
    pq_binding_clear(&l.b);
    pq_free(l.real32);
    pq_free(l.real16);
    pq_free(l.inherits);
    pq_free(l.fused_conv);
    pq_free(l.rides);
    pq_program_free(l.p);
    return st;
}

void pq_program_free(pq_program *p)
{
    if (!p) return;
    for (size_t i = 0; p->weight_scale && p->graph && i < p->graph->n_values; i++)
        pq_buf_unref(p->weight_scale[i].buf);
    pq_free(p->weight_scale);
    pq_graph_free(p->graph);
    pq_free(p->slot);
    pq_free(p->step);
    pq_arena_free(p->arena);
    pq_free(p);
}
