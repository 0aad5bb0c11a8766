/* COCO result files. Format: https://cocodataset.org/#format-results */
#include <pquant/evaluate.h>

#include <math.h>
#include <stdio.h>

#include "base/file.h"
#include "base/json.h"

static pq_status read_entry(pq_ctx *ctx, pq_detection *d, const pq_coco *gt, const cJSON *e,
                            size_t i)
{
    pq_status st;
    char what[48];
    int64_t category;
    const cJSON *box, *v;
    double b[4];
    int n = 0;
    snprintf(what, sizeof what, "entry [%zu]", i);
    PQ_TRY(pq_json_int(ctx, &d->image, e, "image_id", what));
    if (pq_coco_find_image(gt, d->image) < 0)
        return pq_fail(ctx, PQ_E_FORMAT, "%s: image_id %lld is not among the %zu of %s", what,
                       (long long)d->image, gt->n_images, gt->path);
    PQ_TRY(pq_json_int(ctx, &category, e, "category_id", what));
    d->cls = (int32_t)pq_coco_find_category(gt, category);
    PQ_TRY(pq_json_number(ctx, &d->score, e, "score", what));
    PQ_TRY(pq_json_array(ctx, &box, e, "bbox", what));
    if (cJSON_GetArraySize(box) != 4)
        return pq_fail(ctx, PQ_E_FORMAT, "%s: 'bbox' has %d elements, expected 4", what,
                       cJSON_GetArraySize(box));
    cJSON_ArrayForEach(v, box)
    {
        if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble))
            return pq_fail(ctx, PQ_E_FORMAT, "%s: bbox[%d] is not a finite number", what, n);
        b[n++] = v->valuedouble;
    }
    if (!isfinite(d->score))
        return pq_fail(ctx, PQ_E_FORMAT, "%s: 'score' is not a finite number", what);
    d->x = b[0];
    d->y = b[1];
    d->w = b[2];
    d->h = b[3];
out:
    return st;
}

pq_status pq_detections_load(pq_ctx *ctx, pq_detections *out, const pq_coco *gt, const char *path)
{
    cJSON *doc = NULL;
    const cJSON *e;
    size_t i = 0, n_unknown = 0;
    *out = (pq_detections){0};
    pq_status st = pq_json_load(ctx, &doc, path);
    if (st != PQ_OK) return st;
    if (!cJSON_IsArray(doc)) {
        st = pq_fail(ctx, PQ_E_FORMAT, "%s", "not an array of detections");
        goto out;
    }
    cJSON_ArrayForEach(e, doc)
    {
        pq_detection d = {0};
        PQ_TRY(read_entry(ctx, &d, gt, e, i++));
        if (d.cls < 0)
            n_unknown++;
        else
            PQ_TRY(pq_detections_push(ctx, out, &d));
    }
    if (n_unknown)
        pq_log(ctx, PQ_LOG_WARN, "evaluate", "%s: %zu of %zu detections left out: no such category",
               path, n_unknown, i);
out:
    cJSON_Delete(doc);
    if (st != PQ_OK) pq_detections_clear(out);
    return pq_prefix(ctx, st, "%s", path);
}

static int64_t category_id(const pq_coco *gt, int n_classes, int32_t cls)
{
    if (gt) return cls >= 0 && (size_t)cls < gt->n_categories ? gt->category[cls].id : -1;
    return n_classes == 80 ? pq_coco80_id(cls) : (int64_t)cls + 1;
}

pq_status pq_detections_save(pq_ctx *ctx, const pq_detections *list, const pq_coco *gt,
                             int n_classes, const char *path)
{
    pq_out f;
    pq_status st = pq_out_open(ctx, &f, path);
    if (st != PQ_OK) return st;
    fputc('[', f.f); /* errors of writing are sticky: pq_out_commit sees them */
    for (size_t i = 0; i < list->n; i++) {
        const pq_detection *d = &list->at[i];
        const int64_t category = category_id(gt, n_classes, d->cls);
        if (category < 0) {
            pq_out_abort(&f);
            return pq_fail(ctx, PQ_E_INVALID, "%s: detection %zu of class %d, expected 0 to %lld",
                           path, i, (int)d->cls,
                           (long long)(gt ? gt->n_categories : (size_t)n_classes) - 1);
        }
        fprintf(
            f.f,
            "%s\n{\"image_id\": %lld, \"category_id\": %lld, \"bbox\": [%.9g, %.9g, %.9g, %.9g], "
            "\"score\": %.9g}",
            i ? "," : "", (long long)d->image, (long long)category, d->x, d->y, d->w, d->h,
            d->score);
    }
    fputs("\n]\n", f.f);
    return pq_out_commit(ctx, &f);
}
