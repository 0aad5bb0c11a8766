/* COCO annotation files. Format: https://cocodataset.org/#format-data */
#include <pquant/data.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

typedef struct key {
    int64_t id;
    size_t at; /* position in the file */
} key;

/* "annotations[36]", for messages. */
typedef struct label {
    char text[48];
} label;
static label entry(const char *list, size_t i)
{
    label l;
    snprintf(l.text, sizeof l.text, "%s[%zu]", list, i);
    return l;
}

static int by_id(const void *a, const void *b)
{
    const key *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The entries of a list in order of id, each id once. Memory: *out is the caller's. */
static pq_status sorted_ids(pq_ctx *ctx, key **out, const cJSON *list, const char *name, size_t n)
{
    pq_status st;
    size_t i = 0;
    const cJSON *e;
    PQ_TRY(pq_alloc(ctx, out, n, sizeof **out));
    cJSON_ArrayForEach(e, list)
    {
        PQ_TRY(pq_json_int(ctx, &(*out)[i].id, e, "id", entry(name, i).text));
        (*out)[i].at = i;
        i++;
    }
    if (n) qsort(*out, n, sizeof **out, by_id);
    for (i = 1; i < n; i++)
        if ((*out)[i].id == (*out)[i - 1].id) {
            st = pq_fail(ctx, PQ_E_FORMAT, "%s: id %lld is that of %s too",
                         entry(name, (*out)[i].at).text, (long long)(*out)[i].id,
                         entry(name, (*out)[i - 1].at).text);
            goto out;
        }
out:
    return st;
}

/* where[at] = position after sorting */
static pq_status ranks(pq_ctx *ctx, size_t **where, const key *k, size_t n)
{
    pq_status st = pq_alloc(ctx, where, n, sizeof **where);
    for (size_t i = 0; i < n && st == PQ_OK; i++) (*where)[k[i].at] = i;
    return st;
}

/* A member that may be absent. */
static pq_status optional_int(pq_ctx *ctx, int64_t *out, const cJSON *e, const char *member,
                              int64_t otherwise, const char *what)
{
    *out = otherwise;
    return cJSON_GetObjectItemCaseSensitive(e, member) ? pq_json_int(ctx, out, e, member, what)
                                                       : PQ_OK;
}

static pq_status image_side(pq_ctx *ctx, int *out, const cJSON *e, const char *member,
                            const char *what)
{
    int64_t v;
    pq_status st = optional_int(ctx, &v, e, member, 0, what);
    if (st == PQ_OK && (v < 0 || v > INT32_MAX))
        st = pq_fail(ctx, PQ_E_FORMAT, "%s: member '%s' is %lld, expected a size in pixels", what,
                     member, (long long)v);
    *out = (int)v;
    return st;
}

static pq_status read_images(pq_ctx *ctx, pq_coco *c, const cJSON *doc)
{
    static const char name[] = "images";
    pq_status st;
    key *ids = NULL;
    size_t *where = NULL, i = 0;
    const cJSON *list, *e;
    const char *file;
    PQ_TRY(pq_json_array(ctx, &list, doc, name, "document"));
    c->n_images = (size_t)cJSON_GetArraySize(list);
    PQ_TRY(sorted_ids(ctx, &ids, list, name, c->n_images));
    PQ_TRY(ranks(ctx, &where, ids, c->n_images));
    PQ_TRY(pq_alloc(ctx, &c->image, c->n_images, sizeof *c->image));
    cJSON_ArrayForEach(e, list)
    {
        const label what = entry(name, i);
        pq_coco_image *im = &c->image[where[i]];
        im->id = ids[where[i]].id;
        PQ_TRY(pq_json_string(ctx, &file, e, "file_name", what.text));
        PQ_TRY(pq_arena_strdup(ctx, c->arena, &im->file_name, file));
        PQ_TRY(image_side(ctx, &im->w, e, "width", what.text));
        PQ_TRY(image_side(ctx, &im->h, e, "height", what.text));
        i++;
    }
out:
    pq_free(ids);
    pq_free(where);
    return st;
}

static pq_status read_categories(pq_ctx *ctx, pq_coco *c, const cJSON *doc)
{
    static const char name[] = "categories";
    pq_status st;
    key *ids = NULL;
    size_t *where = NULL, i = 0;
    const cJSON *list, *e;
    const char *text;
    PQ_TRY(pq_json_array(ctx, &list, doc, name, "document"));
    c->n_categories = (size_t)cJSON_GetArraySize(list);
    PQ_TRY(sorted_ids(ctx, &ids, list, name, c->n_categories));
    PQ_TRY(ranks(ctx, &where, ids, c->n_categories));
    PQ_TRY(pq_alloc(ctx, &c->category, c->n_categories, sizeof *c->category));
    cJSON_ArrayForEach(e, list)
    {
        pq_coco_category *cat = &c->category[where[i]];
        cat->id = ids[where[i]].id;
        PQ_TRY(pq_json_string(ctx, &text, e, "name", entry(name, i).text));
        PQ_TRY(pq_arena_strdup(ctx, c->arena, &cat->name, text));
        i++;
    }
out:
    pq_free(ids);
    pq_free(where);
    return st;
}

static pq_status read_bbox(pq_ctx *ctx, pq_coco_ann *a, const cJSON *e, const char *what)
{
    const cJSON *box, *v;
    double b[4];
    int i = 0;
    pq_status st = pq_json_array(ctx, &box, e, "bbox", what);
    if (st != PQ_OK) return st;
    const int n = cJSON_GetArraySize(box);
    if (n != 4) return pq_fail(ctx, PQ_E_FORMAT, "%s: 'bbox' has %d elements, expected 4", what, n);
    cJSON_ArrayForEach(v, box)
    {
        if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble))
            return pq_fail(ctx, PQ_E_FORMAT, "%s: bbox[%d] is not a finite number", what, i);
        b[i++] = v->valuedouble;
    }
    if (b[2] < 0 || b[3] < 0)
        return pq_fail(ctx, PQ_E_FORMAT, "%s: 'bbox' is %g x %g pixels, expected 0 or more", what,
                       b[2], b[3]);
    a->x = b[0];
    a->y = b[1];
    a->w = b[2];
    a->h = b[3];
    return PQ_OK;
}

static pq_status read_crowd(pq_ctx *ctx, bool *out, const cJSON *e, const char *what)
{
    int64_t v;
    const cJSON *m = cJSON_GetObjectItemCaseSensitive(e, "iscrowd");
    *out = cJSON_IsTrue(m);
    if (cJSON_IsBool(m)) return PQ_OK;
    pq_status st = optional_int(ctx, &v, e, "iscrowd", 0, what);
    *out = v != 0;
    return st;
}

static pq_status read_annotation(pq_ctx *ctx, pq_coco_ann *a, const pq_coco *c, const cJSON *e,
                                 size_t i)
{
    pq_status st;
    int64_t image, category;
    const label what = entry("annotations", i);
    PQ_TRY(optional_int(ctx, &a->id, e, "id", (int64_t)i + 1, what.text));
    PQ_TRY(pq_json_int(ctx, &image, e, "image_id", what.text));
    PQ_TRY(pq_json_int(ctx, &category, e, "category_id", what.text));
    const int64_t im = pq_coco_find_image(c, image), cat = pq_coco_find_category(c, category);
    if (im < 0)
        return pq_fail(ctx, PQ_E_FORMAT, "%s: image_id %lld is not among the %zu images", what.text,
                       (long long)image, c->n_images);
    if (cat < 0)
        return pq_fail(ctx, PQ_E_FORMAT, "%s: category_id %lld is not among the %zu categories",
                       what.text, (long long)category, c->n_categories);
    a->image = (uint32_t)im;
    a->cls = (uint32_t)cat;
    PQ_TRY(read_bbox(ctx, a, e, what.text));
    a->area = a->w * a->h;
    if (cJSON_GetObjectItemCaseSensitive(e, "area"))
        PQ_TRY(pq_json_number(ctx, &a->area, e, "area", what.text));
    PQ_TRY(read_crowd(ctx, &a->crowd, e, what.text));
out:
    return st;
}

/* Into order of image by counting: stable, so an image's annotations keep the file's order. */
static pq_status read_annotations(pq_ctx *ctx, pq_coco *c, const cJSON *doc)
{
    pq_status st;
    pq_coco_ann *in_file = NULL;
    size_t *start = NULL, i = 0;
    const cJSON *list, *e;
    PQ_TRY(pq_json_array(ctx, &list, doc, "annotations", "document"));
    c->n_anns = (size_t)cJSON_GetArraySize(list);
    PQ_TRY(pq_alloc(ctx, &in_file, c->n_anns, sizeof *in_file));
    PQ_TRY(pq_alloc(ctx, &c->ann, c->n_anns, sizeof *c->ann));
    PQ_TRY(pq_alloc(ctx, &start, c->n_images + 1, sizeof *start));
    cJSON_ArrayForEach(e, list)
    {
        PQ_TRY(read_annotation(ctx, &in_file[i], c, e, i));
        start[in_file[i].image + 1]++;
        i++;
    }
    for (i = 0; i < c->n_images; i++) start[i + 1] += start[i];
    for (i = 0; i < c->n_anns; i++) c->ann[start[in_file[i].image]++] = in_file[i];
out:
    pq_free(in_file);
    pq_free(start);
    return st;
}

pq_status pq_coco_load(pq_ctx *ctx, pq_coco **out, const char *path)
{
    pq_coco *c = NULL;
    cJSON *doc = NULL;
    *out = NULL;
    pq_status st = pq_json_load(ctx, &doc, path);
    if (st != PQ_OK) return st;
    PQ_TRY(pq_alloc(ctx, &c, 1, sizeof *c));
    PQ_TRY(pq_strdup(ctx, &c->path, path));
    PQ_TRY(pq_arena_new(ctx, &c->arena));
    if (!cJSON_IsObject(doc)) {
        st = pq_fail(ctx, PQ_E_FORMAT, "%s", "not an object with images, annotations, categories");
        goto out;
    }
    PQ_TRY(read_images(ctx, c, doc));
    PQ_TRY(read_categories(ctx, c, doc));
    PQ_TRY(read_annotations(ctx, c, doc));
out:
    cJSON_Delete(doc);
    if (st == PQ_OK)
        *out = c;
    else
        pq_coco_free(c);
    return pq_prefix(ctx, st, "%s", path);
}

void pq_coco_free(pq_coco *c)
{
    if (!c) return;
    pq_free(c->image);
    pq_free(c->category);
    pq_free(c->ann);
    pq_free(c->path);
    pq_arena_free(c->arena);
    pq_free(c);
}

int64_t pq_coco_find_image(const pq_coco *c, int64_t id)
{
    size_t lo = 0, hi = c->n_images;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c->image[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < c->n_images && c->image[lo].id == id ? (int64_t)lo : -1;
}

int64_t pq_coco_find_category(const pq_coco *c, int64_t id)
{
    size_t lo = 0, hi = c->n_categories;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c->category[mid].id < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < c->n_categories && c->category[lo].id == id ? (int64_t)lo : -1;
}
