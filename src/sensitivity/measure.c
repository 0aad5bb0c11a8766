/* One assignment on the engine: AP, its distance from full precision, and how sure that is. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "sensitivity/meter.h"
#include "sensitivity/proxy.h"

static const size_t resamples = 1000;

pq_status pq_meter_place(pq_ctx *ctx, pq_meter *m, pq_session *s, const pq_start *p, size_t place,
                         pq_tensor *out)
{
    pq_meter_between(m);
    if (p && p->at && place < p->n_states)
        return s->engine->run_part(ctx, s, p->at, s->n_steps, p->session,
                                   p->state + place * p->state_bytes, NULL, NULL, 0, out,
                                   s->n_outputs);
    pq_status st = pq_meter_load(ctx, m, place);
    return st == PQ_OK ? pq_run(ctx, s, &m->in, 1, out, s->n_outputs) : st;
}

/* The bytes that are held of a place, as pictures that need no resizing. */
static pq_status detect_pictures(pq_ctx *ctx, pq_meter *m, pq_detector *d, size_t place, size_t n,
                                 const int64_t *id, pq_picture *picture, pq_detections *list)
{
    pq_meter_between(m);
    pq_status st = pq_meter_hold(ctx, m, place);
    if (st != PQ_OK) return st;
    const pq_prep *p = m->o.prep;
    const size_t w = (size_t)p->w, h = (size_t)p->h, each = m->input_count / m->batch;
    for (size_t i = 0; i < n; i++)
        picture[i] = (pq_picture){.data = m->input + (place - m->held) * m->input_count + i * each,
                                  .w = p->w,
                                  .h = p->h,
                                  .channels = pq_prep_channels(p),
                                  .pixel = 1,
                                  .row = w,
                                  .plane = w * h,
                                  .fit_w = p->w,
                                  .fit_h = p->h};
    return pq_detector_pictures(ctx, d, list, picture, m->geometry + (place - m->held) * m->batch,
                                n, id);
}

pq_status pq_meter_detect(pq_ctx *ctx, pq_meter *m, pq_session *s, const pq_start *p, size_t from,
                          size_t to, pq_detections *list)
{
    pq_detector *detector = NULL;
    pq_picture *picture = NULL;
    pq_tensor *out = NULL;
    int64_t *id = NULL;
    pq_status st;
    PQ_TRY(pq_detector_new(ctx, &detector, s, m->o.prep, m->o.head));
    const bool pictures = pq_detector_prepares(detector);
    if (pictures)
        PQ_TRY(pq_alloc(ctx, &picture, m->batch, sizeof *picture));
    else
        PQ_TRY(pq_session_outputs(ctx, &out, s));
    PQ_TRY(pq_alloc(ctx, &id, m->batch, sizeof *id));
    for (size_t k = from; k < to; k++) {
        const size_t first = m->order[k] * m->batch, left = m->o.data->n - first;
        const size_t n = left < m->batch ? left : m->batch;
        for (size_t i = 0; i < n; i++) id[i] = m->o.data->sample[first + i].id;
        if (pictures) {
            PQ_TRY(detect_pictures(ctx, m, detector, k, n, id, picture, list));
            continue;
        }
        PQ_TRY(pq_meter_place(ctx, m, s, p, k, out));
        PQ_TRY(pq_head_decode(ctx, list, m->o.head, out, s->n_outputs, n,
                              m->geometry + (k - m->held) * m->batch, id));
    }
out:
    pq_session_outputs_free(out, s);
    pq_detector_free(detector);
    pq_free(picture);
    pq_free(id);
    return st;
}

size_t pq_meter_images(const pq_meter *m, size_t n)
{
    size_t count = 0;
    for (size_t k = 0; k < n; k++) {
        const size_t first = m->order[k] * m->batch, left = m->o.data->n - first;
        count += left < m->batch ? left : m->batch;
    }
    return count;
}

/* Matches of the images at the first n places. */
static pq_status match(pq_ctx *ctx, pq_eval_matches **out, const pq_meter *m,
                       const pq_detections *list, size_t n_places, size_t *n_images)
{
    int64_t *id = NULL;
    size_t n = 0;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &id, n_places * m->batch, sizeof *id));
    for (size_t k = 0; k < n_places; k++)
        for (size_t i = m->order[k] * m->batch; i < (m->order[k] + 1) * m->batch; i++)
            if (i < m->o.data->n) id[n++] = m->o.data->sample[i].id;
    *n_images = n;
    st = pq_eval_match(ctx, out, m->o.coco, list->at, list->n, id, n);
out:
    pq_free(id);
    return st;
}

size_t pq_meter_base_count(const pq_meter *m, size_t n_places)
{
    size_t end = 0;
    for (size_t k = 0; k < n_places; k++)
        for (size_t i = m->order[k] * m->batch; i < (m->order[k] + 1) * m->batch; i++)
            while (i < m->o.data->n && end < m->base.n &&
                   m->base.at[end].image == m->o.data->sample[i].id)
                end++;
    return end;
}

static pq_status compare(pq_ctx *ctx, pq_measured *out, const pq_meter *m,
                         const pq_detections *list, size_t n_places)
{
    pq_eval_matches *own = NULL, *base = NULL;
    pq_difference d;
    pq_status st;
    const bool whole = n_places == m->n_groups;
    const pq_detections part = {.at = m->base.at, .n = pq_meter_base_count(m, n_places)};
    PQ_TRY(match(ctx, &own, m, list, n_places, &out->n_images));
    PQ_TRY(pq_eval_accumulate(ctx, &out->figures, NULL, own, NULL));
    if (!whole) PQ_TRY(match(ctx, &base, m, &part, n_places, &out->n_images));
    PQ_TRY(pq_eval_difference(ctx, &d, whole ? m->base_matches : base, own, resamples, 1));
    out->drop = d.value;
    out->low = d.low;
    out->high = d.high;
    out->whole = whole;
out:
    pq_eval_free(own);
    pq_eval_free(base);
    return st;
}

/* A quarter, half, all: a hopeless assignment costs a quarter of the images. Fewer than 8 images
 * decide nothing. */
static pq_status detect_and_compare(pq_ctx *ctx, pq_measured *out, pq_meter *m, pq_session *s,
                                    const pq_start *p, double give_up, size_t n)
{
    pq_detections list = {0};
    size_t done = 0;
    pq_status st = PQ_OK;
    for (size_t part = 4; part > 0 && done < n; part /= 2) {
        const size_t to = n / part;
        if (part > 1 && (isinf(give_up) || to * m->batch < 8)) continue;
        PQ_TRY(pq_meter_detect(ctx, m, s, p, done, to, &list));
        done = to;
        PQ_TRY(compare(ctx, out, m, &list, to));
        if (out->low > give_up) break;
    }
out:
    pq_detections_clear(&list);
    return st;
}

pq_status pq_meter_run(pq_ctx *ctx, pq_measured *out, pq_meter *m, pq_session *s, const pq_start *p,
                       const char *bits, double give_up, size_t n)
{
    pq_status st;
    *out = (pq_measured){.n_images = m->o.data->n, .whole = true};
    if (m->o.head) PQ_TRY(pq_meter_need_base(ctx, m));
    const double began = pq_meter_now();
    if (m->o.head) {
        PQ_TRY(detect_and_compare(ctx, out, m, s, p, give_up, n));
    } else {
        PQ_TRY(pq_proxy_run(ctx, &out->figures, m, s, p));
        out->drop = out->low = out->high = 1 - out->figures.v[PQ_FIG_AP];
    }
    out->seconds = pq_meter_now() - began;
    m->seconds += out->seconds;
    m->n_measured++;
    const pq_entry e = {.bits = (char *)bits, .measured = *out};
    st = pq_journal_add(ctx, &m->journal, &e);
out:
    return st;
}

pq_status pq_meter_need_base(pq_ctx *ctx, pq_meter *m)
{
    pq_session *s = NULL;
    uint8_t *label = NULL;
    char *bits = NULL;
    pq_status st = PQ_OK;
    if (m->has_base) return PQ_OK;
    const double began = pq_meter_now();
    PQ_TRY(pq_alloc(ctx, &label, m->n_ops, 1));
    PQ_TRY(pq_alloc(ctx, &bits, m->n_ops + 1, 1));
    pq_meter_bits(m, label, bits);
    PQ_TRY(pq_meter_compile(ctx, &s, m, label, false));
    PQ_TRY(pq_meter_detect(ctx, m, s, NULL, 0, m->n_groups, &m->base));
    pq_entry e = {.bits = bits, .measured = {.whole = true}};
    PQ_TRY(match(ctx, &m->base_matches, m, &m->base, m->n_groups, &e.measured.n_images));
    PQ_TRY(pq_eval_accumulate(ctx, &e.measured.figures, NULL, m->base_matches, NULL));
    m->has_base = true;
    if (pq_journal_find(&m->journal, bits, INFINITY)) goto out;
    e.measured.seconds = pq_meter_now() - began;
    m->seconds += e.measured.seconds;
    m->n_measured++;
    st = pq_journal_add(ctx, &m->journal, &e);
out:
    pq_session_free(s);
    pq_free(label);
    pq_free(bits);
    return st;
}

static pq_status measure(pq_ctx *ctx, pq_measured *out, pq_meter *m, const uint8_t *label,
                         double give_up, size_t n)
{
    pq_session *s = NULL;
    char *bits = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &bits, m->n_ops + 1, 1));
    pq_meter_bits(m, label, bits);
    const pq_entry *known = pq_journal_find(&m->journal, bits, give_up);
    if (!known && n < m->n_groups)
        known = pq_journal_find_part(&m->journal, bits, pq_meter_images(m, n));
    if (!known && m->o.head && !strpbrk(bits, "h1")) {
        PQ_TRY(pq_meter_need_base(ctx, m));
        known = pq_journal_find(&m->journal, bits, give_up);
    }
    if (known) {
        *out = known->measured;
        goto out;
    }
    PQ_TRY(pq_meter_compile(ctx, &s, m, label, false));
    st = pq_meter_run(ctx, out, m, s, NULL, bits, give_up, n);
out:
    pq_session_free(s);
    pq_free(bits);
    return st;
}

pq_status pq_meter_measure(pq_ctx *ctx, pq_measured *out, pq_meter *m, const uint8_t *label,
                           double give_up)
{
    return measure(ctx, out, m, label, give_up, m->n_groups);
}

pq_status pq_meter_measure_screened(pq_ctx *ctx, pq_measured *out, pq_meter *m,
                                    const uint8_t *label)
{
    return measure(ctx, out, m, label, INFINITY, m->o.head ? m->n_screened : m->n_groups);
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
    if (to == p->at || m->n_held < m->n_groups) return PQ_OK;
    const size_t bytes = e->state_bytes(p->session, to),
                 fit = bytes ? m->cache_bytes / 2 / bytes : 0;
    const size_t most = p->n_places ? p->n_places : m->n_groups, n = fit < most ? fit : most;
    PQ_TRY(pq_alloc(ctx, &next, n, bytes));
    for (size_t k = 0; k < n; k++) {
        const bool have = p->at && k < p->n_states;
        pq_meter_between(m);
        if (!have) PQ_TRY(pq_meter_load(ctx, m, k));
        PQ_TRY(e->run_part(ctx, p->session, have ? p->at : 0, to, p->session,
                           have ? p->state + k * p->state_bytes : NULL, next + k * bytes, &m->in, 1,
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
