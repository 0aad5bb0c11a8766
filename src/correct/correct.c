/* The order of things: equalise, calibrate, then node by node re-encode and reconstruct. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <pquant/correct.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "calibrate/layout.h"
#include "correct/encode.h"
#include "correct/equalize.h"
#include "correct/journal.h"
#include "correct/lockstep.h"
#include "correct/rebuild.h"
#include "graph/eval.h"
#include "plan/names.h"

enum { REACH_IMAGES = 32, IMAGES = 128 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct work {
    pq_ctx *ctx;
    const pq_correct_opts *o;
    const pq_engine *engine;
    const pq_graph *given;
    const pq_dataset *data;
    const pq_prep *prep;
    const pq_head *head;
    pq_graph *g; /* batch 1, equalised */
    pq_ranges *ranges;
    pq_corrections *c;
    pq_plan *plan;
    pq_binding b;
    pq_dataset part; /* the images that are run in lockstep */
    pq_lockstep l;
    pq_spots spots;
    pq_correct_journal journal;
    const pq_encoding **encoding; /* per value */
    size_t *group_size;           /* per value: listed values that share its scale */
} work;

/* ---- equalisation ---- */

static pq_status working_copy(work *w)
{
    pq_status st = pq_graph_copy(w->ctx, &w->g, w->given);
    if (st != PQ_OK) return st;
    if (w->g->value[w->g->input[0]].shape.dim[0] != 1)
        st = pq_graph_set_input_size(w->ctx, w->g, 1, 0, 0);
    return st;
}

static pq_status keep_equal(work *w, const bool *changed)
{
    pq_status st = pq_alloc(w->ctx, &w->c->equal, w->g->n_values, sizeof *w->c->equal);
    for (pq_value_id v = 0; st == PQ_OK && v < w->g->n_values; v++) {
        if (!changed[v]) continue;
        pq_plan_weight *to = &w->c->equal[w->c->n_equal++];
        to->data = (pq_tensor){PQ_F32, w->g->value[v].shape, pq_buf_ref(w->g->value[v].data)};
        st = pq_strdup(w->ctx, &to->name, w->g->value[v].name);
    }
    return st;
}

static pq_status keep_flat(work *w, const pq_equalized *flat)
{
    pq_status st = pq_alloc(w->ctx, &w->c->flat, w->g->n_values, sizeof *w->c->flat);
    for (pq_value_id v = 0; st == PQ_OK && v < w->g->n_values; v++) {
        if (flat[v].bits == flat[v].bits_before) continue;
        pq_equalized *to = &w->c->flat[w->c->n_flat++];
        *to = flat[v];
        st = pq_strdup(w->ctx, &to->value, w->g->value[v].name);
    }
    return st;
}

static pq_status equalize(work *w)
{
    float **reach = NULL;
    bool *changed = NULL;
    pq_equalized *flat = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(w->ctx, &flat, w->g->n_values, sizeof *flat));
    PQ_TRY(pq_alloc(w->ctx, &changed, w->g->n_values, 1));
    PQ_TRY(pq_reach_new(w->ctx, &reach, w->engine, w->g, w->data, w->prep, REACH_IMAGES));
    PQ_TRY(pq_equalize(w->ctx, w->g, reach, changed, flat));
    PQ_TRY(keep_equal(w, changed));
    st = keep_flat(w, flat);
out:
    pq_reach_free(reach, w->g->n_values);
    pq_free(changed);
    pq_free(flat);
    return st;
}

/* ---- preparing the walk ---- */

static pq_status make_plan(work *w)
{
    pq_scale_layout layout = {0};
    bool *all = NULL;
    pq_status st;
    const size_t n = pq_graph_quantizable_count(w->g);
    PQ_TRY(pq_alloc(w->ctx, &all, n, 1));
    if (w->o->int8)
        memcpy(all, w->o->int8, n);
    else
        memset(all, 1, n);
    PQ_TRY(pq_plan_make(w->ctx, &w->plan, w->g, w->ranges, all, w->o->scheme, PQ_PREC_FP32));
    PQ_TRY(pq_plan_bind(w->ctx, &w->b, w->plan, w->g));
    PQ_TRY(pq_scale_layout_new(w->ctx, &layout, w->g, all));
    PQ_TRY(pq_alloc(w->ctx, &w->group_size, w->g->n_values, sizeof *w->group_size));
    for (size_t v = 0; v < w->g->n_values; v++)
        if (layout.listed[v]) w->group_size[layout.group[v]]++;
    for (size_t v = 0; v < w->g->n_values; v++)
        if (layout.group[v] != v) w->group_size[v] = w->group_size[layout.group[v]];
out:
    pq_scale_layout_clear(&layout);
    pq_free(all);
    return st;
}

/* 6 GiB, or half of the machine's memory where that is less. */
static size_t default_bytes(void)
{
    const size_t most = (size_t)6 << 30;
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || page <= 0 || (size_t)pages > 2 * (most / (size_t)page)) return most;
    return (size_t)pages / 2 * (size_t)page;
}

/* As many images as fit, evenly spread over those given. */
static pq_status choose_images(work *w)
{
    const size_t room = w->o->max_bytes ? w->o->max_bytes : default_bytes();
    size_t n = w->o->max_images ? w->o->max_images : IMAGES, bytes;
    pq_status st = pq_lockstep_bytes(w->ctx, &bytes, w->g);
    if (st != PQ_OK) return st;
    if (n > w->data->n) n = w->data->n;
    if (bytes && n > room / bytes) n = room / bytes;
    if (n == 0) n = 1;
    st = pq_alloc(w->ctx, &w->part.sample, n, sizeof *w->part.sample);
    w->part.n = st == PQ_OK ? n : 0;
    for (size_t i = 0; i < w->part.n; i++) w->part.sample[i] = w->data->sample[i * w->data->n / n];
    return st;
}

/* All that an operator's correction depends on. */
static void find_context(const work *w, char hex[65])
{
    static const char version[] = "correct 4";
    pq_sha256 h;
    char hash[65];
    pq_sha256_init(&h);
    pq_sha256_add(&h, version, sizeof version);
    pq_graph_hash(w->g, hash);
    pq_sha256_add(&h, hash, 64);
    for (size_t i = 0; i < w->plan->n_nodes; i++)
        pq_sha256_add(&h, &w->plan->node[i].precision, sizeof w->plan->node[i].precision);
    for (size_t i = 0; i < w->plan->n_tensors; i++) {
        const pq_plan_tensor *t = &w->plan->tensor[i];
        pq_sha256_add(&h, t->name, strlen(t->name) + 1);
        pq_sha256_add(&h, &t->scale, sizeof t->scale);
        pq_sha256_add(&h, &t->zero_point, sizeof t->zero_point);
    }
    for (size_t i = 0; i < w->part.n; i++) {
        const char *name = pq_path_base(w->part.sample[i].path);
        pq_sha256_add(&h, name, strlen(name) + 1);
    }
    const bool flag[3] = {w->o->no_equalize, w->o->no_bias_correct, w->o->no_adaround};
    pq_sha256_add(&h, flag, sizeof flag);
    pq_sha256_add(&h, &w->o->scheme, sizeof w->o->scheme);
    pq_sha256_add(&h, &w->o->seed, sizeof w->o->seed);
    pq_sha256_hex(&h, hex);
}

static pq_status prepare(work *w)
{
    char context[65];
    pq_status st;
    PQ_TRY(make_plan(w));
    PQ_TRY(choose_images(w));
    find_context(w, context);
    PQ_TRY(pq_correct_journal_open(w->ctx, &w->journal, w->o->journal, context));
    /* A bias alone serves objects at the background's cost: positions anywhere (decisions.md). */
    const pq_head *head = w->o->no_adaround ? NULL : w->head;
    PQ_TRY(pq_spots_new(w->ctx, &w->spots, w->engine, w->g, &w->part, w->prep, head));
    PQ_TRY(pq_lockstep_new(w->ctx, &w->l, w->engine, w->g, &w->part, w->prep));
    PQ_TRY(pq_alloc(w->ctx, &w->encoding, w->g->n_values, sizeof *w->encoding));
    PQ_TRY(pq_alloc(w->ctx, &w->c->encoding, w->g->n_nodes, sizeof *w->c->encoding));
    st = pq_alloc(w->ctx, &w->c->fix, w->g->n_nodes, sizeof *w->c->fix);
out:
    return st;
}

/* ---- one convolution ---- */

static bool own_constants(const work *w, const pq_node *n)
{
    for (int k = 1; k < n->n_in; k++) {
        const pq_value *v = pq_in(w->g, n, k);
        if (v && (!v->data || v->dtype != PQ_F32 || pq_graph_count_readers(w->g, n->in[k]) != 1))
            return false;
    }
    return true;
}

/* Is every reader of v an INT8 convolution that reads it quantized, on a grid of v's own? */
static bool is_read_alone(const work *w, pq_value_id v)
{
    if (!w->b.tensor[v] || w->group_size[v] != 1) return false;
    for (size_t i = 0; i < w->g->n_nodes; i++) {
        const pq_node *n = &w->g->node[i];
        if (!n->dead && n->n_in > 0 && n->in[0] == v && !w->b.int8[i]) return false;
    }
    return true;
}

/* The new range of a re-encoded value, in the ranges and in the plan at hand. */
static void set_range(work *w, pq_value_id v, float lo, float hi)
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

static pq_status encode(work *w, const pq_node *n, const float *z, pq_correct_entry *e)
{
    const pq_value_id v = n->out[0];
    pq_encoded_range range = {0};
    bool found;
    if (w->o->no_equalize || !pq_encode_applies(w->g, v) || !is_read_alone(w, v)) return PQ_OK;
    const pq_range *plain = pq_ranges_find(w->ranges, w->g->value[v].name);
    if (!plain) return PQ_OK;
    const double began = now();
    pq_status st = pq_encode_find(w->ctx, &found, &e->encoding, &range, w->g, v, z, w->l.n,
                                  w->o->scheme, w->o->seed, plain);
    e->encoding.seconds = now() - began;
    e->lo = range.lo;
    e->hi = range.hi;
    return st;
}

/* Weights and bias in float, with the encodings around the operator. */
typedef struct floats {
    float *weight, *bias;
} floats;

static pq_status encoded_weights(work *w, const pq_node *n, const pq_encoding *out, floats *f)
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
static pq_status final_weights(work *w, const pq_node *n, bool int8, const pq_fix *fix, floats *f)
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

static void activate_all(work *w, float *z, const pq_node *n);

static pq_status keep(work *w, const pq_node *n, pq_correct_entry *e)
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

static pq_status rebuild(work *w, size_t i, const float *z, pq_correct_entry *e, const floats *f)
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
    const double began = now();
    const pq_status st = pq_rebuild(w->ctx, &e->fix, w->g, n, &o);
    e->fix.seconds = now() - began;
    return st;
}

static pq_status do_conv(work *w, size_t i)
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

static pq_status do_other(work *w, size_t i)
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

static pq_status walk(work *w)
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

static void activate_all(work *w, float *z, const pq_node *n)
{
    activation a = {n, z, (size_t)pq_shape_count(&w->g->value[n->out[0]].shape)};
    if (n->attr.act == PQ_ACT_NONE) return;
    if (pq_parallel(w->ctx, NULL, w->l.threads, w->l.n, activate_one, &a) != PQ_OK)
        for (size_t i = 0; i < w->l.n; i++) (void)activate_one(w->ctx, &a, i, 0);
}

pq_status pq_correct(pq_ctx *ctx, pq_corrections **out, pq_ranges **ranges, const pq_engine *engine,
                     const pq_graph *g, const pq_dataset *data, const pq_prep *prep,
                     const pq_head *head, const pq_correct_opts *opts)
{
    work w = {.ctx = ctx,
              .o = opts,
              .engine = engine,
              .given = g,
              .data = data,
              .prep = prep,
              .head = head};
    const bool any = !opts->no_equalize || !opts->no_bias_correct || !opts->no_adaround;
    double began = now();
    pq_status st;
    *out = NULL;
    *ranges = NULL;
    PQ_TRY(pq_alloc(ctx, &w.c, 1, sizeof *w.c));
    pq_graph_hash(g, w.c->graph_hash);
    w.c->scheme = opts->scheme;
    PQ_TRY(working_copy(&w));
    if (!opts->no_equalize) PQ_TRY(equalize(&w));
    pq_graph_seal(w.g);
    w.c->seconds[0] = now() - began;
    PQ_TRY(pq_calibrate(ctx, &w.ranges, engine, w.g, data, prep, &opts->calibrate));
    w.c->seconds[1] = now() - began - w.c->seconds[0];
    if (any) {
        PQ_TRY(prepare(&w));
        PQ_TRY(walk(&w));
    }
    w.c->seconds[2] = now() - began - w.c->seconds[0] - w.c->seconds[1];
    memcpy(w.ranges->graph_hash, w.c->graph_hash, sizeof w.ranges->graph_hash);
    *out = w.c;
    *ranges = w.ranges;
    w.c = NULL;
    w.ranges = NULL;
out:
    pq_lockstep_clear(&w.l);
    pq_spots_clear(&w.spots);
    pq_correct_journal_close(&w.journal);
    pq_binding_clear(&w.b);
    pq_plan_free(w.plan);
    pq_ranges_free(w.ranges);
    pq_corrections_free(w.c);
    pq_graph_free(w.g);
    pq_free(w.part.sample);
    pq_free(w.encoding);
    pq_free(w.group_size);
    return st;
}
