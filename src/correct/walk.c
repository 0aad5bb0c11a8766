/* Node by node: the float network and the quantized one side by side; convolutions are re-encoded
 * and reconstructed before they run. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/parallel.h"
#include "calibrate/layout.h"
#include "correct/encode.h"
#include "correct/rebuild.h"
#include "correct/work.h"
#include "graph/eval.h"

typedef struct activation {
    const pq_node *n;
    float *z;
    size_t each;
} activation;

static pq_status activate_one(pq_ctx *ctx, void *user, size_t item, int worker)
{
    const activation *a = user;
    (void)ctx;
    (void)worker;
    pq_eval_acts(a->z + item * a->each, a->each, a->n->attr.act, a->n->attr.alpha, a->n->attr.beta);
    return PQ_OK;
}

static void activate_all(pq_correct_work *w, float *z, const pq_node *n)
{
    activation a = {n, z, (size_t)pq_shape_count(&w->g->value[n->out[0]].shape)};
    if (n->attr.act == PQ_ACT_NONE) return;
    if (pq_parallel(w->ctx, NULL, w->l.threads, w->l.n, activate_one, &a) != PQ_OK)
        for (size_t i = 0; i < w->l.n; i++) (void)activate_one(w->ctx, &a, i, 0);
}

/* ---- one convolution ---- */

static bool own_constants(const pq_correct_work *w, const pq_node *n)
{
    for (int k = 1; k < n->n_in; k++) {
        const pq_value *v = pq_in(w->g, n, k);
        if (v && (!v->data || v->dtype != PQ_F32 || pq_graph_count_readers(w->g, n->in[k]) != 1))
            return false;
    }
    return true;
}

/* Is every reader of v an INT8 convolution that reads it quantized, on a grid of v's own? */
static bool is_read_alone(const pq_correct_work *w, pq_value_id v)
{
    if (!w->b.tensor[v] || w->group_size[v] != 1) return false;
    for (size_t i = 0; i < w->g->n_nodes; i++) {
        const pq_node *n = &w->g->node[i];
        if (!n->dead && n->n_in > 0 && n->in[0] == v && !w->b.int8[i]) return false;
    }
    return true;
}

/* The new range of a re-encoded value, in the ranges and in the plan at hand. */
static void set_range(pq_correct_work *w, pq_value_id v, float lo, float hi)
{
    const char *name = w->g->value[v].name;
    for (size_t i = 0; i < w->ranges->n; i++) {
        pq_range *r = &w->ranges->range[i];
        if (strcmp(r->name, name) != 0) continue;
        r->lo = lo;
        r->hi = r->amax = hi;
        r->rms = r->kurtosis = r->outlier = 0; /* were those of the value before */
    }
    for (size_t i = 0; i < w->plan->n_tensors; i++) {
        pq_plan_tensor *t = &w->plan->tensor[i];
        if (strcmp(t->name, name) != 0) continue;
        const pq_plan_tensor g = pq_range_grid(w->o->scheme, (double)hi, (double)lo, (double)hi);
        t->scale = g.scale;
        t->zero_point = g.zero_point;
    }
}

static pq_status encode(pq_correct_work *w, const pq_node *n, const float *z, pq_correct_entry *e)
{
    const pq_value_id v = n->out[0];
    pq_encoded_range range = {0};
    bool found;
    if (w->o->no_equalize || !pq_encode_applies(w->g, v) || !is_read_alone(w, v)) return PQ_OK;
    const pq_range *plain = pq_ranges_find(w->ranges, w->g->value[v].name);
    if (!plain) return PQ_OK;
    const double began = pq_correct_now();
    pq_status st = pq_encode_find(w->ctx, &found, &e->encoding, &range, w->g, v, z, w->l.n,
                                  w->o->scheme, w->o->seed, plain);
    e->encoding.seconds = pq_correct_now() - began;
    e->lo = range.lo;
    e->hi = range.hi;
    return st;
}

/* Weights and bias in float, with the encodings around the operator. */
typedef struct floats {
    float *weight, *bias;
} floats;

static pq_status encoded_weights(pq_correct_work *w, const pq_node *n, const pq_encoding *out,
                                 floats *f)
{
    const pq_value *weight = pq_in(w->g, n, 1), *bias = pq_in(w->g, n, 2);
    const pq_encoding *in = w->encoding[n->in[0]];
    pq_status st = pq_alloc(w->ctx, &f->weight, pq_buf_bytes(weight->data), 1);
    if (st != PQ_OK) return st;
    memcpy(f->weight, pq_buf_data(weight->data), pq_buf_bytes(weight->data));
    if (bias) {
        if ((st = pq_alloc(w->ctx, &f->bias, pq_buf_bytes(bias->data), 1)) != PQ_OK) return st;
        memcpy(f->bias, pq_buf_data(bias->data), pq_buf_bytes(bias->data));
    }
    if (in) pq_encode_columns(f->weight, f->bias, w->g, n, in);
    if (out) pq_encode_rows(f->weight, f->bias, &weight->shape, out);
    return PQ_OK;
}

/* What the operator reads: its reconstruction, else the nearest integers, else float. */
static pq_status final_weights(pq_correct_work *w, const pq_node *n, bool int8, const pq_fix *fix,
                               floats *f)
{
    const pq_shape *shape = &pq_in(w->g, n, 1)->shape;
    const size_t count = (size_t)pq_shape_count(shape);
    int8_t *q = NULL;
    float *scale = NULL;
    pq_status st = PQ_OK;
    if (fix->bias.data.buf)
        memcpy(f->bias, pq_tensor_data(&fix->bias.data), pq_buf_bytes(fix->bias.data.buf));
    if (fix->weight.data.buf)
        memcpy(f->weight, pq_tensor_data(&fix->weight.data), pq_buf_bytes(fix->weight.data.buf));
    else if (int8) {
        PQ_TRY(pq_plan_quantize_weights(w->ctx, &q, &scale, f->weight, shape, 0, NULL));
        const size_t row = count / (size_t)shape->dim[0];
        for (size_t i = 0; i < count; i++) f->weight[i] = (float)q[i] * scale[i / row];
    }
out:
    pq_free(q);
    pq_free(scale);
    return st;
}

static pq_status keep(pq_correct_work *w, const pq_node *n, pq_correct_entry *e)
{
    pq_status st = PQ_OK;
    if (e->encoding.n) {
        pq_encoding *to = &w->c->encoding[w->c->n_encodings++];
        *to = e->encoding;
        e->encoding = (pq_encoding){0};
        w->encoding[n->out[0]] = to;
        PQ_TRY(pq_strdup(w->ctx, &to->value, w->g->value[n->out[0]].name));
    }
    if (e->fix.weight.data.buf || e->fix.bias.data.buf) {
        pq_fix *to = &w->c->fix[w->c->n_fixes++];
        *to = e->fix;
        e->fix = (pq_fix){0};
        PQ_TRY(pq_strdup(w->ctx, &to->node, n->name));
        if (to->weight.data.buf)
            PQ_TRY(pq_strdup(w->ctx, &to->weight.name, w->g->value[n->in[1]].name));
        if (to->bias.data.buf)
            PQ_TRY(pq_strdup(w->ctx, &to->bias.name, w->g->value[n->in[2]].name));
    }
out:
    return st;
}

static pq_status rebuild(pq_correct_work *w, size_t i, const float *z, pq_correct_entry *e,
                         const floats *f)
{
    const pq_node *n = &w->g->node[i];
    const pq_rebuild_opts o = {.x = w->l.actual[n->in[0]],
                               .t = w->b.tensor[n->in[0]],
                               .z = z,
                               .coded = e->encoding.n ? &e->encoding : NULL,
                               .w = f->weight,
                               .bias = f->bias,
                               .n_images = w->l.n,
                               .spots = &w->spots,
                               .seed = w->o->seed * 0x9e3779b97f4a7c15u + i,
                               .round = !w->o->no_adaround,
                               .correct_bias = !w->o->no_bias_correct};
    if (w->o->no_adaround && w->o->no_bias_correct) return PQ_OK;
    if (!w->b.int8[i] || !own_constants(w, n)) return PQ_OK;
    const double began = pq_correct_now();
    const pq_status st = pq_rebuild(w->ctx, &e->fix, w->g, n, &o);
    e->fix.seconds = pq_correct_now() - began;
    return st;
}

static pq_status do_conv(pq_correct_work *w, size_t i)
{
    const pq_node *n = &w->g->node[i];
    const pq_value_id v = n->out[0];
    const pq_plan_tensor *grid[3] = {w->b.int8[i] ? w->b.tensor[n->in[0]] : NULL};
    const pq_lockstep_opts bare = {.no_act = true};
    pq_lockstep_opts run = {.grids = grid};
    pq_correct_entry e = {0};
    floats f = {0};
    float *z = NULL;
    bool found;
    pq_status st;
    PQ_TRY(pq_lockstep_run(w->ctx, &w->l, i, w->l.exact, &bare, &z));
    PQ_TRY(pq_correct_journal_find(w->ctx, &w->journal, w->g, n, &e, &found));
    if (!found) PQ_TRY(encode(w, n, z, &e));
    if (e.encoding.n) set_range(w, v, e.lo, e.hi);
    PQ_TRY(encoded_weights(w, n, e.encoding.n ? &e.encoding : NULL, &f));
    if (!found) {
        PQ_TRY(rebuild(w, i, z, &e, &f));
        PQ_TRY(pq_correct_journal_add(w->ctx, &w->journal, n, &e));
    }
    PQ_TRY(final_weights(w, n, w->b.int8[i], &e.fix, &f));
    run.weight = f.weight;
    run.bias = f.bias;
    PQ_TRY(pq_lockstep_run(w->ctx, &w->l, i, w->l.actual, &run, &w->l.actual[v]));
    activate_all(w, z, n);
    w->l.exact[v] = z;
    z = NULL;
    st = keep(w, n, &e);
out:
    pq_free(z);
    pq_free(f.weight);
    pq_free(f.bias);
    pq_correct_entry_clear(&e);
    return st;
}

/* ---- the walk ---- */

static pq_status do_other(pq_correct_work *w, size_t i)
{
    const pq_node *n = &w->g->node[i];
    const pq_lockstep_opts plain = {0};
    const pq_plan_tensor *grid[64] = {0};
    const pq_lockstep_opts run = {.grids = grid};
    float *out[64] = {0};
    bool same = true;
    pq_status st;
    if (n->n_in > 64 || n->n_out > 64)
        return pq_fail(w->ctx, PQ_E_UNSUPPORTED, "node '%s': %d inputs, expected up to 64", n->name,
                       n->n_in);
    for (int k = 0; k < n->n_in; k++) {
        if (n->in[k] == PQ_NONE || w->g->value[n->in[k]].data) continue;
        if (pq_reads_quantized(&w->b, (pq_node_id)i, k)) grid[k] = w->b.tensor[n->in[k]];
        same = same && !grid[k] && w->l.exact[n->in[k]] == w->l.actual[n->in[k]];
    }
    PQ_TRY(pq_lockstep_run(w->ctx, &w->l, i, w->l.exact, &plain, out));
    for (int k = 0; k < n->n_out; k++) w->l.exact[n->out[k]] = w->l.actual[n->out[k]] = out[k];
    if (same) goto out;
    for (int k = 0; k < n->n_out; k++) w->l.actual[n->out[k]] = NULL;
    PQ_TRY(pq_lockstep_run(w->ctx, &w->l, i, w->l.actual, &run, out));
    for (int k = 0; k < n->n_out; k++) w->l.actual[n->out[k]] = out[k];
out:
    return st;
}

pq_status pq_correct_walk(pq_correct_work *w)
{
    size_t done = 0, total = 0;
    pq_status st = PQ_OK;
    for (size_t i = 0; i < w->g->n_nodes; i++) total += w->l.needed[i];
    for (size_t i = 0; i < w->g->n_nodes; i++) {
        const pq_node *n = &w->g->node[i];
        if (!w->l.needed[i]) continue;
        PQ_TRY(pq_progress(w->ctx, "correct", done++, total));
        PQ_TRY(n->op == PQ_OP_CONV && n->quant_index >= 0 ? do_conv(w, i) : do_other(w, i));
        pq_lockstep_leave(&w->l, i);
    }
    st = pq_progress(w->ctx, "correct", total, total);
out:
    return st;
}
