/* Pictures to boxes: by the engine as a whole, or prepared and suppressed here. */
#include <pquant/detect.h>

#include "base/mem.h"
#include "detect/head.h"

struct pq_detector {
    pq_session *session;
    const pq_prep *prep;
    const pq_head *head;
    size_t batch;
    /* the engine's way */
    bool prepares;
    pq_suppression how;
    pq_picture *picture;   /* [batch] */
    pq_geometry *geometry; /* [batch] */
    pq_found *found;       /* [batch, max_det] */
    uint32_t *n_found;     /* [batch] */
    /* ours; made when first needed */
    pq_tensor input;
    pq_tensor *output;
};

/* Is this what the engine can do? */
static bool engine_suppresses(pq_suppression *how, const pq_session *s, const pq_prep *prep,
                              const pq_head *h)
{
    const bool yolox = h->family == PQ_HEAD_YOLOX;
    const pq_shape *in = &s->input_shape[0];
    *how = (pq_suppression){.yolox = yolox,
                            .scores_at = yolox ? 0 : h->scores_at,
                            .boxes_at = h->boxes_at,
                            .anchors = h->anchors,
                            .n_classes = h->n_classes,
                            .conf = (float)h->conf,
                            .iou = h->iou,
                            .max_det = h->max_det};
    return s->engine->pictures && (yolox || h->family == PQ_HEAD_DAMO) && s->n_inputs == 1 &&
           in->rank == 4 && in->dim[1] == pq_prep_channels(prep) && in->dim[2] == prep->h &&
           in->dim[3] == prep->w;
}

pq_status pq_detector_new(pq_ctx *ctx, pq_detector **out, pq_session *s, const pq_prep *prep,
                          const pq_head *head)
{
    pq_detector *d = NULL;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &d, 1, sizeof *d));
    d->session = s;
    d->prep = prep;
    d->head = head;
    d->batch = (size_t)s->input_shape[0].dim[0];
    d->prepares = engine_suppresses(&d->how, s, prep, head);
    PQ_TRY(pq_alloc(ctx, &d->geometry, d->batch, sizeof *d->geometry));
    if (d->prepares) {
        PQ_TRY(pq_alloc(ctx, &d->picture, d->batch, sizeof *d->picture));
        PQ_TRY(pq_alloc(ctx, &d->found, d->batch * (size_t)head->max_det, sizeof *d->found));
        PQ_TRY(pq_alloc(ctx, &d->n_found, d->batch, sizeof *d->n_found));
    }
    *out = d;
    d = NULL;
out:
    pq_detector_free(d);
    return st;
}

void pq_detector_free(pq_detector *d)
{
    if (!d) return;
    pq_session_outputs_free(d->output, d->session);
    pq_tensor_clear(&d->input);
    pq_free(d->picture);
    pq_free(d->geometry);
    pq_free(d->found);
    pq_free(d->n_found);
    pq_free(d);
}

bool pq_detector_prepares(const pq_detector *d) { return d->prepares; }

pq_status pq_detector_input(pq_ctx *ctx, pq_detector *d, pq_detections *list,
                            const pq_tensor *input, const pq_geometry *geometry, size_t n,
                            const int64_t *image_id)
{
    pq_session *s = d->session;
    pq_status st = PQ_OK;
    if (!d->output) PQ_TRY(pq_session_outputs(ctx, &d->output, s));
    PQ_TRY(pq_run(ctx, s, input, 1, d->output, s->n_outputs));
    st = pq_head_decode(ctx, list, d->head, d->output, s->n_outputs, n, geometry, image_id);
out:
    return st;
}

pq_status pq_detector_pictures(pq_ctx *ctx, pq_detector *d, pq_detections *list,
                               const pq_picture *picture, const pq_geometry *geometry, size_t n,
                               const int64_t *image_id)
{
    const pq_prep *p = d->prep;
    pq_pictures in = {.at = picture, .n = n, .pad = p->pad};
    for (int c = 0; c < 3; c++) {
        in.mean[c] = p->mean[c];
        in.scale[c] = p->scale[c] == 0 ? 1 : p->scale[c];
    }
    if (!d->prepares)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "engine '%s' does not prepare pictures",
                       d->session->engine->name);
    pq_status st = pq_run_pictures(ctx, d->session, &in, &d->how, d->found, d->n_found);
    for (size_t i = 0; i < n && st == PQ_OK; i++) {
        const pq_found *f = d->found + i * (size_t)d->how.max_det;
        for (size_t k = 0; k < d->n_found[i] && st == PQ_OK; k++)
            st = pq_head_emit(ctx, list, &f[k].box, f[k].score, f[k].cls, d->head, &geometry[i],
                              image_id[i]);
    }
    return st;
}

static pq_status prepare_here(pq_ctx *ctx, pq_detector *d, const pq_image *image, size_t n)
{
    const pq_shape *shape = &d->session->input_shape[0];
    const size_t each = (size_t)pq_shape_count(shape) / d->batch;
    pq_status st = PQ_OK;
    if (!d->input.buf) PQ_TRY(pq_engine_tensor(ctx, &d->input, d->session->engine, shape));
    for (size_t i = 0; i < n; i++)
        PQ_TRY(pq_preprocess(ctx, (float *)pq_tensor_data(&d->input) + i * each, &d->geometry[i],
                             &image[i], d->prep));
out:
    return st;
}

pq_status pq_detector_images(pq_ctx *ctx, pq_detector *d, pq_detections *list,
                             const pq_image *image, size_t n, const int64_t *image_id)
{
    pq_status st = PQ_OK;
    if (n > d->batch)
        return pq_fail(ctx, PQ_E_INVALID, "%zu pictures, expected at most the batch of %zu", n,
                       d->batch);
    if (!d->prepares) {
        st = prepare_here(ctx, d, image, n);
        return st == PQ_OK ? pq_detector_input(ctx, d, list, &d->input, d->geometry, n, image_id)
                           : st;
    }
    for (size_t i = 0; i < n; i++)
        PQ_TRY(pq_prep_picture(ctx, &d->picture[i], &d->geometry[i], &image[i], d->prep));
    st = pq_detector_pictures(ctx, d, list, d->picture, d->geometry, n, image_id);
out:
    for (size_t i = 0; i < n; i++) pq_picture_clear(&d->picture[i]);
    return st;
}
