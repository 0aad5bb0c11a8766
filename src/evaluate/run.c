/* A session over a data set: inputs from the loader, boxes into a list. */
#include <pquant/evaluate.h>

#include "base/mem.h"

pq_status pq_detect_dataset(pq_ctx *ctx, pq_detections *list, pq_session *s, const pq_dataset *data,
                            const pq_prep *prep, const pq_head *head, const char *stage)
{
    pq_loader *loader = NULL;
    pq_tensor *out = NULL;
    int64_t *id = NULL;
    pq_batch batch;
    pq_status st;
    const size_t n_batch = (size_t)s->input_shape[0].dim[0];
    PQ_TRY(pq_session_outputs(ctx, &out, s));
    PQ_TRY(pq_alloc(ctx, &id, n_batch, sizeof *id));
    PQ_TRY(pq_loader_open(ctx, &loader, data, prep, n_batch, 1));
    for (size_t done = 0;; done += batch.n) {
        PQ_TRY(pq_progress(ctx, stage, done, data->n));
        PQ_TRY(pq_loader_next(ctx, &batch, loader));
        if (!batch.n) break;
        PQ_TRY(pq_run(ctx, s, batch.input, 1, out, s->n_outputs));
        for (size_t i = 0; i < batch.n; i++) id[i] = data->sample[batch.first + i].id;
        PQ_TRY(pq_head_decode(ctx, list, head, out, s->n_outputs, batch.n, batch.geometry, id));
    }
out:
    pq_loader_close(loader);
    pq_session_outputs_free(out, s);
    pq_free(id);
    return st;
}
