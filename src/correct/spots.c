/* A detector's figures hang on a few places of the image. Reconstruction on positions taken
 * anywhere sees background alone and trades the objects for it (docs/decisions.md has the
 * figures), so most samples are taken where the float network finds something. */
#include "correct/spots.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

static const double on_boxes = 0.75;

static pq_status keep(pq_ctx *ctx, pq_spots *s, size_t i, const pq_detections *list,
                      const pq_geometry *geo, const pq_head *head)
{
    double sum = 0;
    pq_status st = pq_alloc(ctx, &s->box[i], list->n, sizeof *s->box[i]);
    for (size_t k = 0; st == PQ_OK && k < list->n; k++) {
        const pq_detection *d = &list->at[k];
        const double x = 1 / geo->sx / head->w, y = 1 / geo->sy / head->h;
        const pq_spot b = {(float)fmax(0, d->x * x), (float)fmax(0, d->y * y),
                           (float)fmin(1, (d->x + d->w) * x), (float)fmin(1, (d->y + d->h) * y),
                           sum + d->score};
        if (!(b.x0 < b.x1) || !(b.y0 < b.y1)) continue;
        sum = b.until;
        s->box[i][s->n_boxes[i]++] = b;
    }
    return st;
}

pq_status pq_spots_new(pq_ctx *ctx, pq_spots *out, const pq_engine *engine, const pq_graph *g,
                       const pq_dataset *data, const pq_prep *prep, const pq_head *head)
{
    pq_plan *plan = NULL;
    pq_session *session = NULL;
    pq_loader *loader = NULL;
    pq_tensor *y = NULL;
    pq_detections list = {0};
    pq_batch batch;
    pq_head h;
    pq_status st;
    const int64_t id = 0;
    *out = (pq_spots){.n_images = data->n};
    PQ_TRY(pq_alloc(ctx, &out->box, data->n, sizeof *out->box));
    PQ_TRY(pq_alloc(ctx, &out->n_boxes, data->n, sizeof *out->n_boxes));
    if (!head) goto out;
    h = *head;
    h.conf = fmax(h.conf, 0.05); /* of less there is no end */
    PQ_TRY(pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    PQ_TRY(pq_compile(ctx, &session, engine, g, plan, NULL));
    PQ_TRY(pq_session_outputs(ctx, &y, session));
    PQ_TRY(pq_loader_open(ctx, &loader, data, prep, 1, 1));
    for (size_t i = 0; i < data->n; i++) {
        PQ_TRY(pq_loader_next(ctx, &batch, loader));
        PQ_TRY(pq_run(ctx, session, batch.input, 1, y, session->n_outputs));
        list.n = 0;
        PQ_TRY(pq_head_decode(ctx, &list, &h, y, session->n_outputs, 1, batch.geometry, &id));
        PQ_TRY(keep(ctx, out, i, &list, batch.geometry, head));
    }
out:
    pq_loader_close(loader);
    pq_session_outputs_free(y, session);
    pq_session_free(session);
    pq_plan_free(plan);
    pq_detections_clear(&list);
    if (st != PQ_OK) pq_spots_clear(out);
    return st;
}

void pq_spots_clear(pq_spots *s)
{
    for (size_t i = 0; s->box && i < s->n_images; i++) pq_free(s->box[i]);
    pq_free(s->box);
    pq_free(s->n_boxes);
    memset(s, 0, sizeof *s);
}

static size_t cell(double part, size_t n)
{
    const double c = floor(part * (double)n);
    return c <= 0 ? 0 : c >= (double)n ? n - 1 : (size_t)c;
}

size_t pq_spots_draw(const pq_spots *s, pq_rng *rng, size_t i, size_t h, size_t w)
{
    const double which = pq_rng_double(rng), u = pq_rng_double(rng), v = pq_rng_double(rng);
    const size_t n = s->n_boxes[i];
    if (!n || which >= on_boxes) return cell(v, h) * w + cell(u, w);
    const pq_spot *b = s->box[i];
    const double at = which / on_boxes * b[n - 1].until;
    while (b->until < at) b++;
    const double x = (double)b->x0 + u * (double)(b->x1 - b->x0);
    const double y = (double)b->y0 + v * (double)(b->y1 - b->y0);
    return cell(y, h) * w + cell(x, w);
}
