/* Measuring assignments of INT8 on the engine. */
#include "sensitivity/meter.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/parallel.h"

double pq_meter_now(void)
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
    pq_sha256_add(&h, &o->half, sizeof o->half);
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
    const size_t image = m->order[m->held + i / m->batch] * m->batch + i % m->batch;
    (void)worker;
    if (image >= m->o.data->n) { /* the last group's rest */
        memset(m->input + i * each, 0, each);
        return PQ_OK;
    }
    pq_status st = pq_image_load(ctx, &img, m->o.data->sample[image].path);
    if (st == PQ_OK)
        st = pq_preprocess_u8(ctx, m->input + i * each, &m->geometry[i], &img, m->o.prep);
    pq_image_clear(&img);
    return st;
}

/* As many places as half the cache takes, all if it can, decoded side by side. */
static pq_status hold(pq_ctx *ctx, pq_meter *m, size_t from)
{
    const size_t left = m->n_groups - from;
    m->held = from;
    m->n_valid = 0;
    const size_t n = left < m->n_held ? left : m->n_held;
    pq_status st = pq_parallel(ctx, "images", m->o.threads, n * m->batch, decode_one, m);
    if (st == PQ_OK) m->n_valid = n;
    return st;
}

static pq_status keep_inputs(pq_ctx *ctx, pq_meter *m)
{
    const size_t fit = m->cache_bytes / 2 / m->input_count;
    m->n_held = fit < 1 ? 1 : fit < m->n_groups ? fit : m->n_groups;
    pq_status st = pq_alloc(ctx, &m->input, m->n_held, m->input_count);
    if (st == PQ_OK) st = pq_alloc(ctx, &m->geometry, m->n_held * m->batch, sizeof *m->geometry);
    if (st != PQ_OK) return st;
    m->cache_bytes -=
        m->n_held * m->input_count < m->cache_bytes ? m->n_held * m->input_count : m->cache_bytes;
    return m->n_groups ? hold(ctx, m, 0) : PQ_OK;
}

pq_status pq_meter_hold(pq_ctx *ctx, pq_meter *m, size_t place)
{
    const bool held = place >= m->held && place < m->held + m->n_valid;
    return held ? PQ_OK : hold(ctx, m, place);
}

pq_status pq_meter_load(pq_ctx *ctx, pq_meter *m, size_t place)
{
    pq_status st = pq_meter_hold(ctx, m, place);
    if (st != PQ_OK) return st;
    const pq_prep *p = m->o.prep;
    const uint8_t *from = m->input + (place - m->held) * m->input_count;
    float *to = pq_tensor_data(&m->in);
    const size_t plane = (size_t)(p->h * p->w);
    for (size_t c = 0; c < m->input_count / plane; c++) {
        const float mean = p->mean[c % 3], scale = p->scale[c % 3] != 0 ? p->scale[c % 3] : 1;
        for (size_t i = 0; i < plane; i++)
            to[c * plane + i] = ((float)from[c * plane + i] - mean) * scale;
    }
    return PQ_OK;
}

/* Places a golden section apart, round and round: any first of them lie all over the set. */
static pq_status spread(pq_ctx *ctx, pq_meter *m)
{
    const size_t n = m->n_groups;
    pq_status st = pq_alloc(ctx, &m->order, n, sizeof *m->order);
    if (st != PQ_OK) return st;
    size_t step = (size_t)(0.618 * (double)n) + 1;
    for (;; step++) { /* with no divisor of n, so that every group comes once */
        size_t a = n, b = step;
        while (b) {
            const size_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a <= 1) break;
    }
    for (size_t i = 0; i < n; i++) m->order[i] = i * step % n;
    return PQ_OK;
}

/* ---- meter ---- */

enum { least_screened = 8, most_screened = 32 }; /* images */

static size_t places_of(const pq_meter *m, size_t images)
{
    const size_t n = (images + m->batch - 1) / m->batch;
    return n < m->n_groups ? n : m->n_groups;
}

void pq_meter_plan_screening(pq_meter *m, const pq_measured *base, const pq_measured *int8,
                             size_t n_units, double seconds)
{
    size_t images = m->o.screen_images ? m->o.screen_images : pq_journal_screened(&m->journal);
    if (!images && base->n_images && int8->n_images) {
        /* A unit runs half of the network: what comes before it is there already. */
        const double each =
            (base->seconds / (double)base->n_images + int8->seconds / (double)int8->n_images) *
            (double)n_units / 2;
        const double fit = each > 0 ? seconds / each : most_screened;
        images = fit < least_screened  ? least_screened
                 : fit > most_screened ? most_screened
                                       : (size_t)fit;
    }
    if (images) m->n_screened = places_of(m, images);
}

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
    PQ_TRY(pq_engine_tensor(ctx, &m->in, opts->engine, shape));
    PQ_TRY(spread(ctx, m));
    PQ_TRY(keep_inputs(ctx, m));
    m->n_screened = places_of(m, opts->screen_images ? opts->screen_images : most_screened);
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
    pq_free(m->order);
    pq_free(m->reference);
    pq_detections_clear(&m->base);
    pq_eval_free(m->base_matches);
    pq_free(m);
}

size_t pq_meter_count(const pq_meter *m) { return m->n_measured; }

bool pq_meter_known(const pq_meter *m, size_t i, uint8_t *label, pq_measured *out)
{
    for (size_t k = 0; k < m->journal.n; k++) {
        const pq_entry *e = &m->journal.entry[k];
        if (e->screen || !e->measured.whole || strlen(e->bits) != m->n_ops || i-- > 0) continue;
        for (size_t op = 0; op < m->n_ops; op++)
            label[op] = e->bits[op] == '1'   ? PQ_LABEL_INT8
                        : e->bits[op] == 'h' ? PQ_LABEL_HALF
                                             : PQ_LABEL_FULL;
        *out = e->measured;
        return true;
    }
    return false;
}

double pq_meter_set_deadline(pq_meter *m, double deadline)
{
    const double old = m->o.deadline;
    m->o.deadline = deadline;
    return old;
}

bool pq_meter_late(const pq_meter *m)
{
    const double each = m->n_measured ? m->seconds / (double)m->n_measured : 0;
    return m->o.deadline > 0 && pq_meter_now() + each > m->o.deadline;
}

void pq_meter_bits(const pq_meter *m, const uint8_t *label, char *bits)
{
    for (size_t i = 0; i < m->n_ops; i++) bits[i] = "0h1"[label[i]];
    bits[m->n_ops] = 0;
}

/* Where half precision is in use, everything that is neither INT8 nor named FP32 has it. */
static void name_precisions(pq_plan *p, const pq_meter *m, const uint8_t *label)
{
    size_t at = 0;
    for (size_t i = 0; i < m->o.graph->n_nodes; i++) {
        const pq_node *n = &m->o.graph->node[i];
        if (n->dead) continue;
        if (n->quant_index >= 0 && label[n->quant_index] == PQ_LABEL_FULL)
            p->node[at].precision = PQ_PREC_FP32;
        at++;
    }
}

pq_status pq_meter_plan(pq_ctx *ctx, pq_plan **out, const pq_meter *m, const uint8_t *label)
{
    bool *int8 = NULL, half = false;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &int8, m->n_ops, 1));
    for (size_t i = 0; i < m->n_ops; i++) {
        int8[i] = label[i] == PQ_LABEL_INT8;
        half = half || label[i] == PQ_LABEL_HALF;
    }
    PQ_TRY(pq_plan_make(ctx, out, m->o.graph, m->o.ranges, int8, m->o.scheme,
                        half ? m->o.half : PQ_PREC_FP32));
    if (half) name_precisions(*out, m, label);
    if (m->rounds_outputs) PQ_TRY(pq_plan_round_outputs(ctx, *out, m->o.graph, m->o.ranges));
    st = pq_correct_plan(ctx, *out, m->o.corrections, m->o.graph);
out:
    pq_free(int8);
    if (st != PQ_OK) {
        pq_plan_free(*out);
        *out = NULL;
    }
    return st;
}

pq_status pq_meter_compile(pq_ctx *ctx, pq_session **out, const pq_meter *m, const uint8_t *label,
                           bool outline)
{
    const pq_compile_opts opts = {.threads = m->o.threads,
                                  .min_score = m->o.head ? (float)m->o.head->conf : 0,
                                  .outline = outline};
    pq_plan *plan = NULL;
    *out = NULL;
    pq_status st = pq_meter_plan(ctx, &plan, m, label);
    if (st == PQ_OK) st = pq_compile(ctx, out, m->o.engine, m->o.graph, plan, &opts);
    pq_plan_free(plan);
    return st;
}
