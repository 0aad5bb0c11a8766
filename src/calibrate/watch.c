/* The float network over a data set, for those who watch its values. */
#include "calibrate/watch.h"

#include "base/ctx.h"

pq_status pq_watch_dataset(pq_ctx *ctx, const pq_engine *engine, const pq_graph *g,
                           const pq_dataset *data, const pq_prep *prep, const pq_compile_opts *taps,
                           const char *stage)
{
    pq_plan *plan = NULL;
    pq_session *session = NULL;
    pq_loader *loader = NULL;
    pq_tensor *out = NULL;
    pq_batch batch;
    pq_status st;
    const size_t n_batch = (size_t)g->value[g->input[0]].shape.dim[0];
    PQ_TRY(pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    PQ_TRY(pq_compile(ctx, &session, engine, g, plan, taps));
    PQ_TRY(pq_session_outputs(ctx, &out, session));
    PQ_TRY(pq_loader_open(ctx, &loader, data, prep, n_batch, 1));
    for (size_t done = 0;; done += batch.n) {
        PQ_TRY(pq_progress(ctx, stage, done, data->n));
        PQ_TRY(pq_loader_next(ctx, &batch, loader));
        if (!batch.n) break;
        PQ_TRY(pq_run(ctx, session, batch.input, 1, out, session->n_outputs));
    }
out:
    pq_loader_close(loader);
    pq_session_outputs_free(out, session);
    pq_session_free(session);
    pq_plan_free(plan);
    return st;
}
