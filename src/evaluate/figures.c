/* Names of the figures, their JSON, and the one-call evaluation. */
#include "evaluate/figures.h"

const char *pq_figure_name(pq_figure f)
{
    static const char *const name[PQ_FIG_COUNT] = {"AP",  "AP50", "AP75",  "APs", "APm", "APl",
                                                   "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"};
    return (unsigned)f < PQ_FIG_COUNT ? name[f] : "?";
}

pq_status pq_figures_to_json(pq_ctx *ctx, cJSON **out, const pq_figures *f)
{
    *out = NULL;
    cJSON *o = cJSON_CreateObject();
    pq_status st = pq_json_check(ctx, o);
    for (int i = 0; i < PQ_FIG_COUNT && st == PQ_OK; i++)
        st = pq_json_check(ctx, cJSON_AddNumberToObject(o, pq_figure_name((pq_figure)i), f->v[i]));
    if (st == PQ_OK)
        *out = o;
    else
        cJSON_Delete(o);
    return st;
}

pq_status pq_evaluate(pq_ctx *ctx, pq_figures *out, const pq_coco *gt, const pq_detection *d,
                      size_t n)
{
    pq_eval_matches *m;
    pq_status st = pq_eval_match(ctx, &m, gt, d, n, NULL, 0);
    if (st != PQ_OK) return st;
    st = pq_eval_accumulate(ctx, out, NULL, m, NULL);
    pq_eval_free(m);
    return st;
}
