/* How far detections move: a score that needs few images and no annotations. */
#include "base/mem.h"
#include "evaluate/distance.h"
#include "sensitivity/meter.h"
#include "sensitivity/proxy.h"

static pq_status distance(pq_ctx *ctx, double *error, pq_meter *m, pq_session *s, const pq_start *p)
{
    pq_detections list = {0};
    double weight = 0;
    pq_status st;
    *error = 0;
    PQ_TRY(pq_meter_need_base(ctx, m));
    PQ_TRY(pq_meter_detect(ctx, m, s, p, 0, m->n_screened, &list));
    PQ_TRY(pq_detections_distance(ctx, error, &weight, m->base.at,
                                  pq_meter_base_count(m, m->n_screened), list.at, list.n));
    *error /= weight > 0 ? weight : 1;
out:
    pq_detections_clear(&list);
    return st;
}

pq_status pq_screen_run(pq_ctx *ctx, double *error, pq_meter *m, pq_session *s, const pq_start *p,
                        const char *bits)
{
    const double began = pq_meter_now();
    pq_figures f;
    pq_status st = m->o.head ? distance(ctx, error, m, s, p) : pq_proxy_run(ctx, &f, m, s, p);
    if (st != PQ_OK) return st;
    if (!m->o.head) *error = 1 - f.v[PQ_FIG_AP];
    m->n_measured++;
    m->seconds += pq_meter_now() - began;
    const pq_entry e = {.bits = (char *)bits,
                        .screen = true,
                        .error = *error,
                        .measured.n_images = pq_meter_images(m, m->n_screened)};
    return pq_journal_add(ctx, &m->journal, &e);
}

pq_status pq_meter_screen(pq_ctx *ctx, double *error, pq_meter *m, const uint8_t *label)
{
    pq_session *s = NULL;
    char *bits = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &bits, m->n_ops + 1, 1));
    pq_meter_bits(m, label, bits);
    const pq_entry *known =
        pq_journal_find_screen(&m->journal, bits, pq_meter_images(m, m->n_screened));
    if (known) {
        *error = known->error;
        goto out;
    }
    PQ_TRY(pq_meter_compile(ctx, &s, m, label, false));
    st = pq_screen_run(ctx, error, m, s, NULL, bits);
out:
    pq_session_free(s);
    pq_free(bits);
    return st;
}
