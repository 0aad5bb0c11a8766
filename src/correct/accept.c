/* What is accepted: each stage is judged by how far the network's detections move on images that
 * nothing was fitted on. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "correct/parts.h"
#include "correct/work.h"

pq_status pq_correct_open_judge(pq_correct_work *w)
{
    pq_checked *k = &w->c->checked;
    for (int i = 0; i < PQ_STAGES; i++) k->error[i] = -1;
    if (w->data->n < PQ_FEWEST) return PQ_OK;
    pq_status st =
        pq_alloc(w->ctx, &w->apart.sample, w->data->n / PQ_APART, sizeof *w->apart.sample);
    if (st != PQ_OK) return st;
    w->apart.n = k->n_images = w->data->n / PQ_APART;
    for (size_t i = 0; i < w->apart.n; i++) {
        w->apart.sample[i] = w->data->sample[i * PQ_APART + PQ_APART - 1];
        w->apart.sample[i].id = (int64_t)i; /* those of a folder may have none */
    }
    return pq_judge_new(w->ctx, &w->judge, w->engine, w->given, &w->apart, w->prep, w->head);
}

pq_status pq_correct_int8(const pq_correct_work *w, bool **out)
{
    const size_t n = pq_graph_quantizable_count(w->given);
    const pq_status st = pq_alloc(w->ctx, out, n, 1);
    if (st != PQ_OK) return st;
    if (w->o->int8)
        memcpy(*out, w->o->int8, n);
    else
        memset(*out, 1, n);
    return PQ_OK;
}

/* How far detections move under these ranges, with the corrections as they are. */
static pq_status judge(pq_correct_work *w, double *error, pq_ranges *r, const pq_corrections *c)
{
    pq_plan *plan = NULL;
    bool *int8 = NULL;
    char own[sizeof r->graph_hash];
    pq_status st;
    memcpy(own, r->graph_hash, sizeof own);
    memcpy(r->graph_hash, w->c->graph_hash, sizeof own); /* the plan's is that of the graph given */
    PQ_TRY(pq_correct_int8(w, &int8));
    PQ_TRY(pq_plan_make(w->ctx, &plan, w->given, r, int8, w->o->scheme, PQ_PREC_FP32));
    PQ_TRY(pq_correct_plan(w->ctx, plan, c, w->given));
    st = pq_judge_plan(w->ctx, error, &w->judge, plan);
out:
    memcpy(r->graph_hash, own, sizeof own);
    pq_plan_free(plan);
    pq_free(int8);
    return st;
}

static pq_stage stage_now(const pq_correct_work *w)
{
    return w->c->n_equal ? PQ_STAGE_EQUALIZED : PQ_STAGE_PLAIN;
}

pq_status pq_correct_calibrate(pq_correct_work *w)
{
    static const pq_calibrator each[] = {PQ_CALIB_AUTO, PQ_CALIB_MSE, PQ_CALIB_MAX,
                                         PQ_CALIB_PERCENTILE};
    enum { EACH = sizeof each / sizeof *each };
    pq_ranges *r[EACH] = {NULL};
    const pq_calibrate_opts *o = &w->o->calibrate;
    double least = INFINITY, error;
    size_t best = 0;
    pq_status st;
    if (o->calibrator != PQ_CALIB_AUTO || !w->apart.n)
        return pq_calibrate(w->ctx, &w->ranges, w->engine, w->g, w->data, w->prep, o);
    PQ_TRY(pq_calibrate_each(w->ctx, r, each, EACH, w->engine, w->g, w->data, w->prep, o));
    for (size_t i = 0; i < EACH; i++) {
        PQ_TRY(judge(w, &error, r[i], w->c));
        if (!(error < least)) continue;
        w->c->checked.error[stage_now(w)] = least = error;
        best = i;
    }
    w->ranges = r[best];
    r[best] = NULL;
    w->ranges->calibrator = PQ_CALIB_AUTO;
out:
    for (size_t i = 0; i < EACH; i++) pq_ranges_free(r[i]);
    return st;
}

pq_status pq_correct_check_equal(pq_correct_work *w)
{
    pq_checked *k = &w->c->checked;
    pq_ranges *plain = NULL;
    pq_calibrate_opts o = w->o->calibrate;
    pq_graph *g = NULL;
    pq_status st = PQ_OK;
    if (!w->apart.n) return PQ_OK;
    const pq_stage now = stage_now(w);
    if (k->error[now] < 0) /* `auto` has judged the ranges that it chose */
        PQ_TRY(judge(w, &k->error[now], w->ranges, w->c));
    if (now == PQ_STAGE_PLAIN) goto out;
    o.calibrator = w->ranges->n ? w->ranges->range[0].method : o.calibrator;
    PQ_TRY(pq_correct_copy(w, &g));
    pq_graph_seal(g);
    PQ_TRY(pq_calibrate(w->ctx, &plain, w->engine, g, w->data, w->prep, &o));
    PQ_TRY(judge(w, &k->error[PQ_STAGE_PLAIN], plain, NULL));
    if (k->error[PQ_STAGE_EQUALIZED] < k->error[PQ_STAGE_PLAIN]) goto out;
    k->dropped[PQ_STAGE_EQUALIZED] = true;
    pq_corrections_drop_equal(w->c);
    pq_graph_free(w->g);
    pq_ranges_free(w->ranges);
    plain->calibrator = w->o->calibrate.calibrator;
    w->g = g;
    w->ranges = plain;
    g = NULL;
    plain = NULL;
out:
    pq_graph_free(g);
    pq_ranges_free(plain);
    return st;
}

pq_status pq_correct_check_walk(pq_correct_work *w, const pq_range *before)
{
    pq_corrections *c = w->c;
    pq_checked *k = &c->checked;
    const double least = k->error[stage_now(w)];
    double *encoded = &k->error[PQ_STAGE_ENCODED], *all = &k->error[PQ_STAGE_ALL];
    const size_t n_fixes = c->n_fixes;
    pq_status st = PQ_OK;
    if (!w->apart.n) return PQ_OK;
    if (c->n_encodings) {
        c->n_fixes = 0;
        st = judge(w, encoded, w->ranges, c);
        c->n_fixes = n_fixes;
        if (st != PQ_OK) return st;
    }
    if (n_fixes) {
        PQ_TRY(judge(w, all, w->ranges, c));
        if (*all < least && !(c->n_encodings && *encoded <= *all)) goto out;
        k->dropped[PQ_STAGE_ALL] = true;
        pq_corrections_drop_fixes(c);
    }
    if (c->n_encodings && !(*encoded < least)) {
        k->dropped[PQ_STAGE_ENCODED] = true;
        pq_corrections_drop_encodings(c);
        memcpy(w->ranges->range, before, w->ranges->n * sizeof *before);
    }
out:
    return st;
}
