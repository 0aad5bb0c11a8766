/* The sidecar: a JSON file beside a model that says how its outputs are read, what its input wants
 * and what its classes are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "detect/head.h"

enum { MAX_SIDE = 1 << 20, MAX_CLASSES = 1 << 20 };

static const char *const members[] = {
    "input",  "decode",  "classes",    "strides",   "anchors", "reg_max",     "offset",
    "logits", "outputs", "conf_thres", "iou_thres", "max_det", "class_names", "category_ids"};
static const char *const input_members[] = {"size", "colour", "fit", "pad", "mean", "scale"};
static const char *const output_members[] = {"levels", "classes", "distances", "boxes",
                                             "scores", "count",   "columns",   "normalized"};
static const char *const colours[] = {"rgb", "bgr", "grey"};
static const char *const fits[] = {"resize", "letterbox", "letterbox-center"};
static const char *const columns[PQ_BOX_COLUMNS] = {"x1",    "y1",    "x2",   "y2",
                                                    "score", "class", "image"};
enum { N_MEMBERS = 14, N_INPUT = 6, N_OUTPUT = 8 };

/* ---- checked reading ---- */

static pq_status check_members(pq_ctx *ctx, const cJSON *o, const char *what,
                               const char *const *known, int n)
{
    const cJSON *m;
    if (!cJSON_IsObject(o)) return pq_fail(ctx, PQ_E_FORMAT, "%s: not an object", what);
    cJSON_ArrayForEach(m, o)
    {
        int i = 0;
        while (i < n && strcmp(known[i], m->string) != 0) i++;
        if (i == n) return pq_fail(ctx, PQ_E_FORMAT, "%s: no member '%.60s'", what, m->string);
    }
    return PQ_OK;
}

static const cJSON *get(const cJSON *o, const char *key)
{
    return o ? cJSON_GetObjectItemCaseSensitive(o, key) : NULL;
}

/* A number from low to high, an integer where whole. Leaves *out where there is none. */
static pq_status number(pq_ctx *ctx, double *out, const cJSON *o, const char *key, double low,
                        double high, bool whole)
{
    const cJSON *v = get(o, key);
    if (!v) return PQ_OK;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= low && v->valuedouble <= high) ||
        (whole && v->valuedouble != rint(v->valuedouble)))
        return pq_fail(ctx, PQ_E_FORMAT, "%s: expected %s from %g to %g", key,
                       whole ? "an integer" : "a number", low, high);
    *out = v->valuedouble;
    return PQ_OK;
}

static pq_status whole(pq_ctx *ctx, int *out, const cJSON *o, const char *key, int low, int high)
{
    double v = *out;
    const pq_status st = number(ctx, &v, o, key, low, high, true);
    *out = (int)v;
    return st;
}

static pq_status flag(pq_ctx *ctx, bool *out, const cJSON *o, const char *key)
{
    const cJSON *v = get(o, key);
    if (!v) return PQ_OK;
    if (!cJSON_IsBool(v)) return pq_fail(ctx, PQ_E_FORMAT, "%s: expected true or false", key);
    *out = cJSON_IsTrue(v);
    return PQ_OK;
}

/* The index of a word in a list, -1 where there is no such member. */
static pq_status word(pq_ctx *ctx, int *out, const cJSON *o, const char *key,
                      const char *const *words, int n)
{
    char list[160] = "";
    const cJSON *v = get(o, key);
    *out = -1;
    if (!v) return PQ_OK;
    for (int i = 0; i < n && cJSON_IsString(v); i++)
        if (strcmp(v->valuestring, words[i]) == 0) *out = i;
    if (*out >= 0) return PQ_OK;
    for (int i = 0; i < n; i++) {
        strncat(list, i ? ", " : "", sizeof list - strlen(list) - 1);
        strncat(list, words[i], sizeof list - strlen(list) - 1);
    }
    return pq_fail(ctx, PQ_E_FORMAT, "%s: '%.40s', expected one of %s", key,
                   cJSON_IsString(v) ? v->valuestring : "no text", list);
}

/* Up to most numbers; *n = 0 where there is no such member. */
static pq_status numbers(pq_ctx *ctx, double *out, int *n, const cJSON *list, const char *key,
                         int most, double low, double high)
{
    const cJSON *v;
    *n = 0;
    if (!list) return PQ_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > most)
        return pq_fail(ctx, PQ_E_FORMAT, "%s: expected a list of at most %d numbers", key, most);
    cJSON_ArrayForEach(v, list)
    {
        if (!cJSON_IsNumber(v) || !(v->valuedouble >= low && v->valuedouble <= high))
            return pq_fail(ctx, PQ_E_FORMAT, "%s: element %d, expected a number from %g to %g", key,
                           *n, low, high);
        out[(*n)++] = v->valuedouble;
    }
    return PQ_OK;
}

/* ---- loading ---- */

static pq_status load_classes(pq_ctx *ctx, pq_sidecar *s)
{
    pq_status st = PQ_OK;
    const cJSON *names = get(s->doc, "class_names"), *ids = get(s->doc, "category_ids"), *v;
    const cJSON *const list[2] = {names, ids};
    int n = 0;
    PQ_TRY(whole(ctx, &s->n_classes, s->doc, "classes", 1, MAX_CLASSES));
    for (int i = 0; i < 2; i++) {
        if (!list[i]) continue;
        const int size = cJSON_GetArraySize(list[i]);
        if (!cJSON_IsArray(list[i]) || size < 1 || size > MAX_CLASSES ||
            (s->n_classes && size != s->n_classes)) {
            st = pq_fail(ctx, PQ_E_FORMAT, "%s: %d elements, expected one for each of %d classes",
                         i ? "category_ids" : "class_names", size, s->n_classes);
            goto out;
        }
        s->n_classes = size;
    }
    if (names) {
        PQ_TRY(pq_alloc(ctx, &s->class_name, (size_t)s->n_classes, sizeof *s->class_name));
        cJSON_ArrayForEach(v, names)
        {
            if (!cJSON_IsString(v)) {
                st = pq_fail(ctx, PQ_E_FORMAT, "class_names: element %d is no text", n);
                goto out;
            }
            PQ_TRY(pq_strdup(ctx, &s->class_name[n++], v->valuestring));
        }
    }
    if (ids) {
        n = 0;
        PQ_TRY(pq_alloc(ctx, &s->category, (size_t)s->n_classes, sizeof *s->category));
        cJSON_ArrayForEach(v, ids)
        {
            if (!cJSON_IsNumber(v) || v->valuedouble != rint(v->valuedouble) ||
                fabs(v->valuedouble) > 0x1p53) {
                st = pq_fail(ctx, PQ_E_FORMAT, "category_ids: element %d is no integer", n);
                goto out;
            }
            s->category[n++] = (int64_t)v->valuedouble;
        }
    }
out:
    return st;
}

static pq_status load_size(pq_ctx *ctx, pq_sidecar *s)
{
    double v[2];
    int n = 0;
    const cJSON *input = get(s->doc, "input");
    pq_status st = numbers(ctx, v, &n, get(input, "size"), "size", 2, 1, MAX_SIDE);
    if (st != PQ_OK || !n) return st;
    s->h = (int)v[0];
    s->w = (int)v[n - 1];
    return PQ_OK;
}

pq_status pq_sidecar_load(pq_ctx *ctx, pq_sidecar **out, const char *path)
{
    pq_sidecar *s = NULL;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &s, 1, sizeof *s));
    PQ_TRY(pq_strdup(ctx, &s->path, path));
    st = pq_json_load(ctx, &s->doc, path);
    if (st != PQ_OK) goto unnamed;
    PQ_TRY(check_members(ctx, s->doc, "sidecar", members, N_MEMBERS));
    if (get(s->doc, "input"))
        PQ_TRY(check_members(ctx, get(s->doc, "input"), "input", input_members, N_INPUT));
    if (get(s->doc, "outputs"))
        PQ_TRY(check_members(ctx, get(s->doc, "outputs"), "outputs", output_members, N_OUTPUT));
    PQ_TRY(load_classes(ctx, s));
    PQ_TRY(load_size(ctx, s));
    *out = s;
    s = NULL;
out:
    pq_prefix(ctx, st, "%s", path);
unnamed:
    pq_sidecar_free(s);
    return st;
}

void pq_sidecar_free(pq_sidecar *s)
{
    if (!s) return;
    for (int i = 0; s->class_name && i < s->n_classes; i++) pq_free(s->class_name[i]);
    pq_free(s->class_name);
    pq_free(s->category);
    pq_free(s->path);
    cJSON_Delete(s->doc);
    pq_free(s);
}

/* ---- to a head ---- */

static pq_status apply_input(pq_ctx *ctx, pq_head *h, const cJSON *o)
{
    pq_status st;
    double v[3];
    int n, colour, fit, pad = h->prep.pad;
    pq_prep *p = &h->prep;
    PQ_TRY(word(ctx, &colour, o, "colour", colours, 3));
    PQ_TRY(word(ctx, &fit, o, "fit", fits, 3));
    PQ_TRY(whole(ctx, &pad, o, "pad", 0, 255));
    if (colour >= 0) {
        p->bgr = colour == 1;
        p->channels = colour == 2 ? 1 : 0;
    }
    if (fit >= 0) p->fit = (pq_fit)fit;
    p->pad = (uint8_t)pad;
    PQ_TRY(numbers(ctx, v, &n, get(o, "mean"), "mean", 3, -1e6, 1e6));
    for (int c = 0; n && c < 3; c++) p->mean[c] = (float)v[c < n ? c : n - 1];
    PQ_TRY(numbers(ctx, v, &n, get(o, "scale"), "scale", 3, 1e-9, 1e6));
    for (int c = 0; n && c < 3; c++) p->scale[c] = (float)v[c < n ? c : n - 1];
out:
    return st;
}

static pq_status apply_anchors(pq_ctx *ctx, pq_head *h, const cJSON *list)
{
    const cJSON *level;
    double v[2 * PQ_HEAD_ANCHORS];
    int i = 0, n;
    if (!list) return PQ_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != h->n_levels)
        return pq_fail(ctx, PQ_E_FORMAT, "anchors: expected a list for each of %d strides",
                       h->n_levels);
    cJSON_ArrayForEach(level, list)
    {
        const pq_status st =
            numbers(ctx, v, &n, level, "anchors", 2 * PQ_HEAD_ANCHORS, 1e-3, MAX_SIDE);
        if (st != PQ_OK) return st;
        if (n < 2 || n % 2 || (i && n / 2 != h->n_anchors))
            return pq_fail(ctx, PQ_E_FORMAT,
                           "anchors: %d numbers at level %d, expected widths and heights of as "
                           "many anchors at each",
                           n, i);
        h->n_anchors = n / 2;
        for (int k = 0; k < n; k++) h->anchor[i][k] = (float)v[k];
        i++;
    }
    return PQ_OK;
}

static pq_status apply_numbers(pq_ctx *ctx, pq_head *h, const cJSON *o)
{
    pq_status st;
    double v[PQ_HEAD_LEVELS], offset = (double)h->offset;
    int n;
    PQ_TRY(numbers(ctx, v, &n, get(o, "strides"), "strides", PQ_HEAD_LEVELS, 1, 4096));
    for (int i = 0; i < n; i++) h->stride[i] = (int)v[i];
    if (n) h->n_levels = n;
    PQ_TRY(apply_anchors(ctx, h, get(o, "anchors")));
    PQ_TRY(whole(ctx, &h->reg_max, o, "reg_max", 0, 255));
    PQ_TRY(number(ctx, &offset, o, "offset", 0, 1, false));
    h->offset = (float)offset;
    PQ_TRY(flag(ctx, &h->logits, o, "logits"));
    PQ_TRY(number(ctx, &h->conf, o, "conf_thres", 0, 1, false));
    PQ_TRY(number(ctx, &h->iou, o, "iou_thres", 0, 1, false));
    st = whole(ctx, &h->max_det, o, "max_det", 1, 1 << 20);
out:
    return st;
}

static pq_status find_output(pq_ctx *ctx, int *out, const pq_graph *g, const cJSON *v,
                             const char *key)
{
    for (size_t i = 0; cJSON_IsString(v) && i < g->n_outputs; i++)
        if (strcmp(g->value[g->output[i]].name, v->valuestring) == 0) {
            *out = (int)i;
            return PQ_OK;
        }
    return pq_fail(ctx, PQ_E_FORMAT, "outputs: %s: '%.80s' is no output of the model", key,
                   cJSON_IsString(v) ? v->valuestring : "no text");
}

static pq_status find_levels(pq_ctx *ctx, int *at, const pq_head *h, const pq_graph *g,
                             const cJSON *list, const char *key)
{
    const cJSON *v;
    int i = 0;
    if (!list) return PQ_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != h->n_levels)
        return pq_fail(ctx, PQ_E_FORMAT, "outputs: %s: expected a name for each of %d strides", key,
                       h->n_levels);
    cJSON_ArrayForEach(v, list)
    {
        const pq_status st = find_output(ctx, &at[i++], g, v, key);
        if (st != PQ_OK) return st;
    }
    return PQ_OK;
}

static pq_status apply_columns(pq_ctx *ctx, pq_head *h, const cJSON *list)
{
    const cJSON *v;
    int at = 0;
    if (!list) return PQ_OK;
    if (!cJSON_IsArray(list)) return pq_fail(ctx, PQ_E_FORMAT, "columns: expected a list");
    for (int i = 0; i < PQ_BOX_COLUMNS; i++) h->column[i] = -1;
    cJSON_ArrayForEach(v, list)
    {
        int i = 0;
        while (i < PQ_BOX_COLUMNS &&
               !(cJSON_IsString(v) && strcmp(v->valuestring, columns[i]) == 0))
            i++;
        if (i == PQ_BOX_COLUMNS && !cJSON_IsNull(v))
            return pq_fail(ctx, PQ_E_FORMAT,
                           "columns: element %d, expected x1, y1, x2, y2, score, class, image or "
                           "null",
                           at);
        if (i < PQ_BOX_COLUMNS) h->column[i] = at;
        at++;
    }
    return PQ_OK;
}

static pq_status apply_outputs(pq_ctx *ctx, pq_head *h, const pq_graph *g, const cJSON *o)
{
    pq_status st = PQ_OK;
    if (!o) return PQ_OK;
    if (h->family == PQ_HEAD_BOXES) {
        static const char *const key[4] = {"boxes", "scores", "classes", "count"};
        int *const to[4] = {&h->boxes_at, &h->scores_at, &h->classes_at, &h->count_at};
        for (int i = 0; i < 4; i++)
            if (get(o, key[i])) PQ_TRY(find_output(ctx, to[i], g, get(o, key[i]), key[i]));
        PQ_TRY(apply_columns(ctx, h, get(o, "columns")));
        st = flag(ctx, &h->normalized, o, "normalized");
        goto out;
    }
    PQ_TRY(find_levels(ctx, h->reg_at, h, g, get(o, "levels"), "levels"));
    if (get(o, "levels")) memcpy(h->class_at, h->reg_at, sizeof h->class_at);
    PQ_TRY(find_levels(ctx, h->reg_at, h, g, get(o, "distances"), "distances"));
    st = find_levels(ctx, h->class_at, h, g, get(o, "classes"), "classes");
out:
    return st;
}

/* Start from what was recognised, if it is the family that is named, else from the family's usual.
 */
static pq_status start(pq_ctx *ctx, pq_head *h, const pq_sidecar *s, const pq_graph *g)
{
    const cJSON *name = get(s->doc, "decode");
    const pq_status st = pq_head_detect(ctx, h, g);
    if (!name) return st;
    const pq_head_family family =
        cJSON_IsString(name) ? pq_head_family_parse(name->valuestring) : PQ_HEAD_FAMILIES;
    if (family == PQ_HEAD_FAMILIES)
        return pq_fail(
            ctx, PQ_E_FORMAT,
            "decode: '%.40s', expected damo, yolox, yolov5 (v6, v7), yolov5-raw, yolov8, "
            "yolov8-raw, nanodet, picodet, fastestv2 or boxes",
            cJSON_IsString(name) ? name->valuestring : "no text");
    if (st == PQ_OK && h->family == family) return PQ_OK;
    const pq_shape *in = &g->value[g->input[0]].shape;
    if (in->rank != 4 || in->dim[2] > MAX_SIDE || in->dim[3] > MAX_SIDE)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "decode: the model's input is no image");
    if (family == PQ_HEAD_DAMO || family == PQ_HEAD_YOLOX)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "decode: the outputs are not those of %s",
                       pq_head_family_name(family));
    pq_head_defaults(h, family, (int)in->dim[2], (int)in->dim[3]);
    h->n_classes = s->n_classes ? s->n_classes : family == PQ_HEAD_BOXES ? 80 : 0;
    if (h->n_classes) return PQ_OK;
    return pq_fail(ctx, PQ_E_FORMAT, "decode: '%s' needs \"classes\" or \"class_names\" too",
                   name->valuestring);
}

pq_status pq_sidecar_head(pq_ctx *ctx, pq_head *out, const pq_sidecar *s, const pq_graph *g)
{
    pq_status st;
    PQ_TRY(start(ctx, out, s, g));
    if (s->n_classes && out->family == PQ_HEAD_BOXES) out->n_classes = s->n_classes;
    if (s->n_classes && s->n_classes != out->n_classes) {
        st = pq_fail(ctx, PQ_E_FORMAT, "%d classes, the outputs have %d", s->n_classes,
                     out->n_classes);
        goto out;
    }
    PQ_TRY(apply_input(ctx, out, get(s->doc, "input")));
    PQ_TRY(apply_numbers(ctx, out, s->doc));
    PQ_TRY(apply_outputs(ctx, out, g, get(s->doc, "outputs")));
    const int64_t channels = g->value[g->input[0]].shape.dim[1];
    if (pq_prep_channels(&out->prep) != channels) {
        st = pq_fail(ctx, PQ_E_FORMAT, "colour: %d channels, the model's input has %lld",
                     pq_prep_channels(&out->prep), (long long)channels);
        goto out;
    }
    st = pq_head_check(ctx, out, g);
out:
    return pq_prefix(ctx, st, "%s", s->path);
}

/* ---- writing one ---- */

static bool add_floats(cJSON *to, const char *key, const float *v, int n)
{
    cJSON *list = cJSON_AddArrayToObject(to, key);
    for (int i = 0; list && i < n; i++) {
        char text[32];
        /* the shortest decimal that reads back the same */
        for (int digits = 6; digits <= 9; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, (double)v[i]);
            if (strtof(text, NULL) == v[i]) break;
        }
        if (!cJSON_AddItemToArray(list, cJSON_CreateNumber(strtod(text, NULL)))) return false;
    }
    return list != NULL;
}

static bool add_ints(cJSON *to, const char *key, const int *v, int n)
{
    return cJSON_AddItemToObject(to, key, cJSON_CreateIntArray(v, n));
}

static bool add_input(cJSON *doc, const pq_head *h)
{
    const int size[2] = {h->h, h->w};
    const pq_prep *p = &h->prep;
    cJSON *o = cJSON_AddObjectToObject(doc, "input");
    const int n = pq_prep_channels(p);
    return o && add_ints(o, "size", size, 2) &&
           cJSON_AddStringToObject(o, "colour", colours[n == 1 ? 2 : p->bgr]) &&
           cJSON_AddStringToObject(o, "fit", fits[p->fit]) &&
           cJSON_AddNumberToObject(o, "pad", p->pad) && add_floats(o, "mean", p->mean, n) &&
           add_floats(o, "scale", p->scale, n);
}

static bool add_names(cJSON *to, const char *key, const pq_graph *g, const int *at, int n)
{
    cJSON *list = cJSON_AddArrayToObject(to, key);
    for (int i = 0; list && i < n; i++)
        if (!cJSON_AddItemToArray(list, cJSON_CreateString(g->value[g->output[at[i]]].name)))
            return false;
    return list != NULL;
}

static bool add_name(cJSON *to, const char *key, const pq_graph *g, int at)
{
    return at < 0 || cJSON_AddStringToObject(to, key, g->value[g->output[at]].name);
}

static bool add_columns(cJSON *to, const pq_head *h)
{
    int most = -1;
    cJSON *list = cJSON_AddArrayToObject(to, "columns");
    for (int i = 0; i < PQ_BOX_COLUMNS; i++) most = h->column[i] > most ? h->column[i] : most;
    for (int at = 0; list && at <= most; at++) {
        int i = 0;
        while (i < PQ_BOX_COLUMNS && h->column[i] != at) i++;
        if (!cJSON_AddItemToArray(list, i < PQ_BOX_COLUMNS ? cJSON_CreateString(columns[i])
                                                           : cJSON_CreateNull()))
            return false;
    }
    return list != NULL;
}

static bool add_outputs(cJSON *doc, const pq_head *h, const pq_graph *g)
{
    cJSON *o = cJSON_AddObjectToObject(doc, "outputs");
    if (h->family == PQ_HEAD_BOXES)
        return add_name(o, "boxes", g, h->boxes_at) && add_name(o, "scores", g, h->scores_at) &&
               add_name(o, "classes", g, h->classes_at) && add_name(o, "count", g, h->count_at) &&
               add_columns(o, h) && cJSON_AddBoolToObject(o, "normalized", h->normalized);
    if (h->reg_at[0] == h->class_at[0]) return add_names(o, "levels", g, h->reg_at, h->n_levels);
    return add_names(o, "classes", g, h->class_at, h->n_levels) &&
           add_names(o, "distances", g, h->reg_at, h->n_levels);
}

static bool add_head(cJSON *doc, const pq_head *h, const pq_graph *g)
{
    const bool raw = h->family == PQ_HEAD_YOLOV5_RAW || h->family == PQ_HEAD_FASTESTV2;
    const bool distances = h->family == PQ_HEAD_YOLOV8_RAW || h->family == PQ_HEAD_NANODET ||
                           h->family == PQ_HEAD_PICODET;
    bool ok = cJSON_AddStringToObject(doc, "decode", pq_head_family_name(h->family)) &&
              cJSON_AddNumberToObject(doc, "classes", h->n_classes);
    if (ok && (raw || distances))
        ok = add_ints(doc, "strides", h->stride, h->n_levels) &&
             cJSON_AddBoolToObject(doc, "logits", h->logits);
    if (ok && raw) {
        cJSON *list = cJSON_AddArrayToObject(doc, "anchors");
        for (int i = 0; ok && i < h->n_levels; i++) {
            cJSON *one = cJSON_CreateObject();
            ok = add_floats(one, "a", h->anchor[i], 2 * h->n_anchors) &&
                 cJSON_AddItemToArray(list, cJSON_DetachItemFromObject(one, "a"));
            cJSON_Delete(one);
        }
    }
    if (ok && distances)
        ok = cJSON_AddNumberToObject(doc, "reg_max", h->reg_max) &&
             cJSON_AddNumberToObject(doc, "offset", (double)h->offset);
    if (ok && (raw || distances || h->family == PQ_HEAD_BOXES)) ok = add_outputs(doc, h, g);
    return ok && cJSON_AddNumberToObject(doc, "conf_thres", h->conf) &&
           cJSON_AddNumberToObject(doc, "iou_thres", h->iou) &&
           cJSON_AddNumberToObject(doc, "max_det", h->max_det);
}

pq_status pq_sidecar_save(pq_ctx *ctx, const char *path, const pq_head *head, const pq_graph *g,
                          const char *const *class_name, int n_names)
{
    cJSON *doc = cJSON_CreateObject();
    bool ok = add_input(doc, head) && add_head(doc, head, g);
    cJSON *list = ok && class_name ? cJSON_AddArrayToObject(doc, "class_names") : NULL;
    for (int i = 0; ok && list && i < n_names; i++)
        ok = cJSON_AddItemToArray(list, cJSON_CreateString(class_name[i] ? class_name[i] : ""));
    const pq_status st = ok ? pq_json_save(ctx, doc, path) : pq_json_check(ctx, NULL);
    cJSON_Delete(doc);
    return st;
}
