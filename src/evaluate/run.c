/* A session over a data set: pictures or inputs from the loader, boxes into a list. */
#include <pquant/evaluate.h>

#include "base/mem.h"

pq_status pq_detect_dataset(pq_ctx *ctx, pq_detections *list, pq_session *s, const pq_dataset *data,
                            const pq_prep *prep, const pq_head *head, const char *stage)
{
    pq_loader *loader = NULL;
    pq_detector *detector = NULL;
    int64_t *id = NULL;
    pq_batch batch;
    pq_status st;
    const size_t n_batch = (size_t)s->input_shape[0].dim[0];
    PQ_TRY(pq_detector_new(ctx, &detector, s, prep, head));
    PQ_TRY(pq_alloc(ctx, &id, n_batch, sizeof *id));
    /* An engine that prepares pictures leaves all threads to decoding them. */
    const bool pictures = pq_detector_prepares(detector);
    PQ_TRY(pq_loader_open(ctx, &loader, data, pictures ? NULL : prep, n_batch, pictures ? 0 : 1));
    for (size_t done = 0;; done += batch.n) {
        PQ_TRY(pq_progress(ctx, stage, done, data->n));
        PQ_TRY(pq_loader_next(ctx, &batch, loader));
        if (!batch.n) break;
        for (size_t i = 0; i < batch.n; i++) id[i] = data->sample[batch.first + i].id;
        st = pictures
                 ? pq_detector_images(ctx, detector, list, batch.image, batch.n, id)
                 : pq_detector_input(ctx, detector, list, batch.input, batch.geometry, batch.n, id);
        if (st != PQ_OK) break;
    }
out:
    pq_loader_close(loader);
    pq_detector_free(detector);
    pq_free(id);
    return st;
}
