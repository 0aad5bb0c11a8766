/* Measuring assignments of INT8 on the engine. */
#include "sensitivity/meter.h"
#include "sensitivity/proxy.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/parallel.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- what measurements depend on ---- */

/* How outputs are read and inputs made. */
static void add_head(pq_sha256 *h, const pq_meter_opts *o)
{
    const pq_prep *p = o->prep;
    const double prep[] = {p->fit, p->pad, p->bgr, p->channels, o->head ? 1 : 0};
    pq_sha256_add(h, prep, sizeof prep);
    pq_sha256_add(h, p->mean, sizeof p->mean);
    pq_sha256_add(h, p->scale, sizeof p->scale);
    if (!o->head) return;
    const double head[] = {o->head->conf, o->head->iou, o->head->max_det, o->head->family};
    pq_sha256_add(h, head, sizeof head);
    for (int i = 0; o->head->class_map && i < o->head->n_classes; i++)
        pq_sha256_add(h, &o->head->class_map[i], sizeof o->head->class_map[i]);
}

static pq_status find_context(pq_ctx *ctx, const pq_meter_opts *o, char hex[65],
                              bool *rounds_outputs)
{
    pq_engine_info info;
    pq_sha256 h;
    char hash[65];
    pq_status st = o->engine->probe(ctx, &info);
    if (st != PQ_OK) return st;
    *rounds_outputs = info.rounds_outputs;
    pq_sha256_init(&h);
    pq_graph_hash(o->graph, hash);
    pq_sha256_add(&h, hash, 64);
    pq_sha256_add(&h, o->engine->name, strlen(o->engine->name) + 1);
    pq_sha256_add(&h, info.version, strlen(info.version) + 1);
    pq_sha256_add(&h, info.device, strlen(info.device) + 1);
    pq_sha256_add(&h, &o->scheme, sizeof o->scheme);
    pq_sha256_add(&h, &o->base, sizeof o->base);
    for (size_t i = 0; i < o->ranges->n; i++) {
        const pq_range *r = &o->ranges->range[i];
        pq_sha256_add(&h, r->name, strlen(r->name) + 1);
        pq_sha256_add(&h, &r->amax, sizeof r->amax);
        pq_sha256_add(&h, &r->lo, sizeof r->lo);
        pq_sha256_add(&h, &r->hi, sizeof r->hi);
    }
    if (o->corrections) {
        pq_corrections_hash(o->corrections, hash);
        pq_sha256_add(&h, hash, 64);
    }
    for (size_t i = 0; i < o->data->n; i++) {
        const char *name = pq_path_base(o->data->sample[i].path);
        pq_sha256_add(&h, name, strlen(name) + 1);
        pq_sha256_add(&h, &o->data->sample[i].id, sizeof o->data->sample[i].id);
    }
    for (size_t i = 0; o->coco && i < o->coco->n_anns; i++) {
        const pq_coco_ann *a = &o->coco->ann[i];
        const double v[7] = {a->x, a->y, a->w, a->h, a->area, a->cls, a->image};
        pq_sha256_add(&h, v, sizeof v);
    }
    add_head(&h, o);
    pq_sha256_hex(&h, hex);
    return PQ_OK;
}

/* ---- inputs ---- */

static pq_status decode_one(pq_ctx *ctx, void *user, size_t i, int worker)
{
    pq_meter *m = user;
    pq_image img = {0};
    const size_t each = m->input_count / m->batch;
    (void)worker;
    pq_status st = pq_image_load(ctx, &img, m->o.data->sample[i].path);
    if (st == PQ_OK)
        st = pq_preprocess_u8(ctx, m->input + i * each, &m->geometry[i], &img, m->o.prep);
    pq_image_clear(&img);
    return st;
}

static pq_status keep_inputs(pq_ctx *ctx, pq_meter *m)
{
    const size_t bytes = m->n_groups * m->input_count;
    if (bytes > m->cache_bytes / 2) return PQ_OK; /* stream them each time instead */
    pq_status st = pq_alloc(ctx, &m->input, bytes, 1);
    if (st == PQ_OK) st = pq_alloc(ctx, &m->geometry, m->n_groups * m->batch, sizeof *m->geometry);
    if (st == PQ_OK) st = pq_parallel(ctx, "images", m->o.threads, m->o.data->n, decode_one, m);
    m->cache_bytes -= bytes;
    return st;
}

static void load_group(pq_meter *m, size_t group)
{
    const pq_prep *p = m->o.prep;
    const uint8_t *from = m->input + group * m->input_count;
    float *to = pq_tensor_data(&m->in);
    const size_t plane = (size_t)(p->h * p->w);
    for (size_t c = 0; c < m->input_count / plane; c++) {
        const float mean = p->mean[c % 3], scale = p->scale[c % 3] != 0 ? p->scale[c % 3] : 1;
        for (size_t i = 0; i < plane; i++)
            to[c * plane + i] = ((float)from[c * plane + i] - mean) * scale;
    }
}

/* Inputs too large to keep are decoded again. */
pq_status pq_meter_load(pq_ctx *ctx, pq_meter *m, size_t group)
{
    const size_t first = group * m->batch, left = m->o.data->n - first;
    const size_t n = left < m->batch ? left : m->batch, each = m->input_count / m->batch;
    pq_status st = PQ_OK;
    if (m->input) {
        load_group(m, group);
        return PQ_OK;
    }
    float *to = pq_tensor_data(&m->in);
    memset(to, 0, m->input_count * sizeof *to);
    for (size_t i = 0; i < n && st == PQ_OK; i++) {
        pq_image img = {0};
        st = pq_image_load(ctx, &img, m->o.data->sample[first + i].path);
        if (st == PQ_OK) st = pq_preprocess(ctx, to + i * each, NULL, &img, m->o.prep);
        pq_image_clear(&img);
    }
    return st;
}

/* ---- meter ---- */

pq_status pq_meter_new(pq_ctx *ctx, pq_meter **out, const pq_meter_opts *opts)
{
    pq_meter *m = NULL;
    char context[65];
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &m, 1, sizeof *m));
    m->o = *opts;
    if (m->o.threads <= 0) m->o.threads = pq_ctx_threads(ctx);
    m->cache_bytes = opts->max_cache_bytes ? opts->max_cache_bytes : (size_t)5 << 28;
    const pq_shape *shape = &opts->graph->value[opts->graph->input[0]].shape;
    m->batch = (size_t)shape->dim[0];
    m->n_groups = (opts->data->n + m->batch - 1) / m->batch;
    m->input_count = (size_t)pq_shape_count(shape);
    m->n_ops = pq_graph_quantizable_count(opts->graph);
    PQ_TRY(find_context(ctx, opts, context, &m->rounds_outputs));
    PQ_TRY(pq_journal_open(ctx, &m->journal, context, opts->journal));
    PQ_TRY(pq_tensor_new(ctx, &m->in, PQ_F32, shape));
    PQ_TRY(keep_inputs(ctx, m));
    *out = m;
    m = NULL;
out:
    pq_meter_free(m);
    return st;
}

void pq_meter_free(pq_meter *m)
{
    if (!m) return;
    pq_journal_close(&m->journal);
    pq_tensor_clear(&m->in);
    pq_free(m->input);
    pq_free(m->geometry);
    pq_free(m->reference);
    pq_free(m);
}

size_t pq_meter_count(const pq_meter *m) { return m->n_measured; }

void pq_meter_bits(const pq_meter *m, const bool *int8, char *bits)
{
    for (size_t i = 0; i < m->n_ops; i++) bits[i] = int8[i] ? '1' : '0';
    bits[m->n_ops] = 0;
}

pq_status pq_meter_plan(pq_ctx *ctx, pq_plan **out, const pq_meter *m, const bool *int8)
{
    pq_status st = pq_plan_make(ctx, out, m->o.graph, m->o.ranges, int8, m->o.scheme, m->o.base);
    if (st == PQ_OK && m->rounds_outputs)
        st = pq_plan_round_outputs(ctx, *out, m->o.graph, m->o.ranges);
    if (st == PQ_OK) st = pq_correct_plan(ctx, *out, m->o.corrections, m->o.graph);
    if (st == PQ_OK) return PQ_OK;
    pq_plan_free(*out);
    *out = NULL;
    return st;
}

pq_status pq_meter_compile(pq_ctx *ctx, pq_session **out, const pq_meter *m, const bool *int8,
                           bool outline)
{
    const pq_compile_opts opts = {.threads = m->o.threads,
                                  .min_score = m->o.head ? (float)m->o.head->conf : 0,
                                  .outline = outline};
    pq_plan *plan = NULL;
    *out = NULL;
    pq_status st = pq_meter_plan(ctx, &plan, m, int8);
    if (st == PQ_OK) st = pq_compile(ctx, out, m->o.engine, m->o.graph, plan, &opts);
    pq_plan_free(plan);
    return st;
}

/* Detections of all kept groups: from the prefix's states where they exist, from the images
 * elsewhere. */
static pq_status detect_kept(pq_ctx *ctx, pq_meter *m, pq_session *s, const pq_start *p,
                             pq_detections *list)
{
    pq_tensor *out = NULL;
    int64_t *id = NULL;
    pq_status st;
    PQ_TRY(pq_session_outputs(ctx, &out, s));
    PQ_TRY(pq_alloc(ctx, &id, m->batch, sizeof *id));
    for (size_t g = 0; g < m->n_groups; g++) {
        const size_t first = g * m->batch, left = m->o.data->n - first;
        const size_t n = left < m->batch ? left : m->batch;
        if (p && p->at && g < p->n_states) {
            PQ_TRY(s->engine->run_part(ctx, s, p->at, s->n_steps, p->session,
                                       p->state + g * p->state_bytes, NULL, NULL, 0, out,
                                       s->n_outputs));
        } else {
            load_group(m, g);
            PQ_TRY(pq_run(ctx, s, &m->in, 1, out, s->n_outputs));
        }
        for (size_t i = 0; i < n; i++) id[i] = m->o.data->sample[first + i].id;
        PQ_TRY(pq_head_decode(ctx, list, m->o.head, out, s->n_outputs, n, m->geometry + first, id));
    }
out:
    pq_session_outputs_free(out, s);
    pq_free(id);
    return st;
}

pq_status pq_meter_run(pq_ctx *ctx, pq_figures *out, pq_meter *m, pq_session *s, const pq_start *p,
                       const char *bits)
{
    pq_detections list = {0};
    const double began = now();
    pq_status st =
        !m->o.head ? pq_proxy_run(ctx, out, m, s, p)
        : m->input ? detect_kept(ctx, m, s, p, &list)
                   : pq_detect_dataset(ctx, &list, s, m->o.data, m->o.prep, m->o.head, "measure");
    if (st == PQ_OK && m->o.head) st = pq_evaluate(ctx, out, m->o.coco, list.at, list.n);
    pq_detections_clear(&list);
    if (st != PQ_OK) return st;
    m->n_measured++;
    return pq_journal_add(ctx, &m->journal, bits, out, now() - began);
}

pq_status pq_meter_measure(pq_ctx *ctx, pq_figures *out, pq_meter *m, const bool *int8)
{
    pq_session *s = NULL;
    char *bits = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &bits, m->n_ops + 1, 1));
    pq_meter_bits(m, int8, bits);
    const pq_figures *known = pq_journal_find(&m->journal, bits);
    if (known) {
        *out = *known;
        goto out;
    }
    PQ_TRY(pq_meter_compile(ctx, &s, m, int8, false));
    st = pq_meter_run(ctx, out, m, s, NULL, bits);
out:
    pq_session_free(s);
    pq_free(bits);
    return st;
}

/* ---- prefixes ---- */

void pq_start_clear(pq_start *p)
{
    pq_session_free(p->session);
    pq_free(p->state);
    memset(p, 0, sizeof *p);
}

pq_status pq_start_advance(pq_ctx *ctx, pq_meter *m, pq_start *p, size_t to)
{
    const pq_engine *e = p->session->engine;
    uint8_t *next = NULL;
    pq_status st = PQ_OK;
    if (to == p->at || !m->input) return PQ_OK;
    const size_t bytes = e->state_bytes(p->session, to),
                 fit = bytes ? m->cache_bytes / 2 / bytes : 0;
    const size_t n = fit < m->n_groups ? fit : m->n_groups;
    PQ_TRY(pq_alloc(ctx, &next, n, bytes));
    for (size_t g = 0; g < n; g++) {
        const bool have = p->at && g < p->n_states;
        if (!have) load_group(m, g);
        PQ_TRY(e->run_part(ctx, p->session, have ? p->at : 0, to, p->session,
                           have ? p->state + g * p->state_bytes : NULL, next + g * bytes, &m->in, 1,
                           NULL, 0));
    }
    pq_free(p->state);
    p->state = next;
    next = NULL;
    p->state_bytes = bytes;
    p->n_states = n;
    p->at = to;
out:
    pq_free(next);
    return st;
}
