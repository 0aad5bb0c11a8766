/* The order of things: equalise, calibrate, then node by node re-encode and reconstruct; after each
 * of these see whether it helped. */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <pquant/correct.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "calibrate/layout.h"
#include "correct/equalize.h"
#include "correct/work.h"

enum { REACH_IMAGES = 32, IMAGES = 128 };

double pq_correct_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- equalisation ---- */

pq_status pq_correct_copy(const pq_correct_work *w, pq_graph **out)
{
    pq_status st = pq_graph_copy(w->ctx, out, w->given);
    if (st != PQ_OK) return st;
    if ((*out)->value[(*out)->input[0]].shape.dim[0] != 1)
        st = pq_graph_set_input_size(w->ctx, *out, 1, 0, 0);
    return st;
}

static pq_status keep_equal(pq_correct_work *w, const bool *changed)
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

static pq_status keep_flat(pq_correct_work *w, const pq_equalized *flat)
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

static pq_status equalize(pq_correct_work *w)
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

static pq_status make_plan(pq_correct_work *w)
{
    pq_scale_layout layout = {0};
    bool *all = NULL;
    pq_status st;
    PQ_TRY(pq_correct_int8(w, &all));
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

/* Image i of those that corrections are fitted on. */
static const pq_sample *fitted(const pq_correct_work *w, size_t i)
{
    return &w->data->sample[w->apart.n ? i / (PQ_APART - 1) * PQ_APART + i % (PQ_APART - 1) : i];
}

/* As many of these as fit, evenly spread. */
static pq_status choose_images(pq_correct_work *w)
{
    const size_t room = w->o->max_bytes ? w->o->max_bytes : default_bytes();
    const size_t all = w->data->n - w->apart.n;
    size_t n = w->o->max_images ? w->o->max_images : IMAGES, bytes;
    pq_status st = pq_lockstep_bytes(w->ctx, &bytes, w->g);
    if (st != PQ_OK) return st;
    if (n > all) n = all;
    if (bytes && n > room / bytes) n = room / bytes;
    if (n == 0) n = 1;
    st = pq_alloc(w->ctx, &w->part.sample, n, sizeof *w->part.sample);
    w->part.n = st == PQ_OK ? n : 0;
    for (size_t i = 0; i < w->part.n; i++) w->part.sample[i] = *fitted(w, i * all / n);
    return st;
}

/* All that an operator's correction depends on. */
static void find_context(const pq_correct_work *w, char hex[65])
{
    static const char version[] = "correct 5";
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

static pq_status prepare(pq_correct_work *w)
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

pq_status pq_correct(pq_ctx *ctx, pq_corrections **out, pq_ranges **ranges, const pq_engine *engine,
                     const pq_graph *g, const pq_dataset *data, const pq_prep *prep,
                     const pq_head *head, const pq_correct_opts *opts)
{
    pq_correct_work w = {.ctx = ctx,
                         .o = opts,
                         .engine = engine,
                         .given = g,
                         .data = data,
                         .prep = prep,
                         .head = head};
    const bool any = !opts->no_equalize || !opts->no_bias_correct || !opts->no_adaround;
    double began = pq_correct_now();
    pq_range *before = NULL;
    pq_status st;
    *out = NULL;
    *ranges = NULL;
    PQ_TRY(pq_alloc(ctx, &w.c, 1, sizeof *w.c));
    pq_graph_hash(g, w.c->graph_hash);
    w.c->scheme = opts->scheme;
    PQ_TRY(pq_correct_copy(&w, &w.g));
    PQ_TRY(pq_correct_open_judge(&w));
    if (!opts->no_equalize) PQ_TRY(equalize(&w));
    pq_graph_seal(w.g);
    w.c->seconds[0] = pq_correct_now() - began;
    PQ_TRY(pq_correct_calibrate(&w));
    PQ_TRY(pq_correct_check_equal(&w));
    w.c->seconds[1] = pq_correct_now() - began - w.c->seconds[0];
    if (any) {
        PQ_TRY(prepare(&w));
        PQ_TRY(pq_alloc(ctx, &before, w.ranges->n, sizeof *before));
        memcpy(before, w.ranges->range, w.ranges->n * sizeof *before);
        PQ_TRY(pq_correct_walk(&w));
        PQ_TRY(pq_correct_check_walk(&w, before));
    }
    w.c->seconds[2] = pq_correct_now() - began - w.c->seconds[0] - w.c->seconds[1];
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
    pq_judge_clear(&w.judge);
    pq_free(before);
    pq_free(w.apart.sample);
    pq_free(w.part.sample);
    pq_free(w.encoding);
    pq_free(w.group_size);
    return st;
}
