/* Layer by layer a correction may look good and still cost detections; so it is judged by these. */
#include "correct/judge.h"

#include <string.h>

#include "base/mem.h"
#include "evaluate/distance.h"

/* The outputs of all batches into `to`, one after the other; or, without it, their distances from
 * the reference added to *error and how many they are to *count. */
static pq_status run_outputs(pq_ctx *ctx, const pq_judge *j, pq_session *s, float *to,
                             double *error, double *count)
{
    pq_tensor *y = NULL;
    pq_loader *loader = NULL;
    pq_batch batch;
    size_t at = 0;
    pq_status st;
    PQ_TRY(pq_session_outputs(ctx, &y, s));
    PQ_TRY(pq_loader_open(ctx, &loader, j->data, j->prep, (size_t)s->input_shape[0].dim[0], 1));
    for (;;) {
        PQ_TRY(pq_loader_next(ctx, &batch, loader));
        if (!batch.n) break;
        PQ_TRY(pq_run(ctx, s, batch.input, 1, y, s->n_outputs));
        if (to) {
            pq_outputs_store(to + at, y, s->n_outputs);
            at += pq_outputs_floats(s);
            continue;
        }
        for (size_t k = 0; k < s->n_outputs; k++) {
            const size_t n = (size_t)pq_shape_count(&y[k].shape);
            *error += pq_outputs_distance(pq_tensor_data(&y[k]), j->reference + at, n);
            *count += 1;
            at += n;
        }
    }
out:
    pq_loader_close(loader);
    pq_session_outputs_free(y, s);
    return st;
}

pq_status pq_judge_new(pq_ctx *ctx, pq_judge *out, const pq_engine *engine, const pq_graph *g,
                       const pq_dataset *data, const pq_prep *prep, const pq_head *head)
{
    pq_plan *plan = NULL;
    pq_session *s = NULL;
    pq_status st;
    *out = (pq_judge){.engine = engine, .g = g, .data = data, .prep = prep, .head = head};
    PQ_TRY(pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    PQ_TRY(pq_compile(ctx, &s, engine, g, plan, NULL));
    if (head) {
        PQ_TRY(pq_detect_dataset(ctx, &out->base, s, data, prep, head, "judge"));
    } else {
        const size_t batch = (size_t)s->input_shape[0].dim[0];
        PQ_TRY(pq_alloc(ctx, &out->reference, (data->n + batch - 1) / batch * pq_outputs_floats(s),
                        sizeof *out->reference));
        st = run_outputs(ctx, out, s, out->reference, NULL, NULL);
    }
out:
    pq_session_free(s);
    pq_plan_free(plan);
    if (st != PQ_OK) pq_judge_clear(out);
    return st;
}

void pq_judge_clear(pq_judge *j)
{
    pq_detections_clear(&j->base);
    pq_free(j->reference);
    memset(j, 0, sizeof *j);
}

pq_status pq_judge_plan(pq_ctx *ctx, double *error, const pq_judge *j, const pq_plan *plan)
{
    pq_session *s = NULL;
    pq_detections list = {0};
    double weight = 0;
    pq_status st;
    *error = 0;
    PQ_TRY(pq_compile(ctx, &s, j->engine, j->g, plan, NULL));
    if (j->head) {
        PQ_TRY(pq_detect_dataset(ctx, &list, s, j->data, j->prep, j->head, "judge"));
        PQ_TRY(pq_detections_distance(ctx, error, &weight, j->base.at, j->base.n, list.at, list.n));
    } else {
        PQ_TRY(run_outputs(ctx, j, s, NULL, error, &weight));
    }
    *error /= weight > 0 ? weight : 1;
out:
    pq_session_free(s);
    pq_detections_clear(&list);
    return st;
}
