/* Lines of JSON, appended one by one, so that a killed run loses at most the plans in flight. */
#include "latency/journal.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

static void clear_entry(pq_lat_entry *e)
{
    pq_free(e->label);
    pq_free(e->layers);
}

static pq_status remember(pq_ctx *ctx, pq_lat_journal *j, const pq_lat_entry *e)
{
    pq_lat_entry own = *e;
    pq_status st;
    own.label = NULL;
    own.layers = NULL;
    if (j->n == j->room) {
        const size_t room = j->room ? 2 * j->room : 64;
        PQ_TRY(pq_grow(ctx, &j->entry, j->n, room, sizeof *j->entry));
        j->room = room;
    }
    PQ_TRY(pq_alloc(ctx, &own.label, j->n_ops, 1));
    if (j->n_ops) memcpy(own.label, e->label, j->n_ops);
    if (e->layers) {
        PQ_TRY(pq_alloc(ctx, &own.layers, j->n_ops, sizeof *own.layers));
        if (j->n_ops) memcpy(own.layers, e->layers, j->n_ops * sizeof *own.layers);
    }
    j->entry[j->n++] = own;
    return PQ_OK;
out:
    clear_entry(&own);
    return st;
}

/* ---- reading ---- */

static bool read_number(double *out, const cJSON *o, const char *key, double least)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    *out = cJSON_IsNumber(v) ? v->valuedouble : NAN;
    return isfinite(*out) && *out >= least;
}

static bool read_labels(uint8_t *label, const cJSON *o, size_t n_ops, int n_labels)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, "labels");
    if (!cJSON_IsString(v) || strlen(v->valuestring) != n_ops) return false;
    for (size_t k = 0; k < n_ops; k++) {
        const char c = v->valuestring[k];
        if (c < '0' || c >= '0' + n_labels) return false;
        label[k] = (uint8_t)(c - '0');
    }
    return true;
}

static bool read_layers(double *ms, const cJSON *list, size_t n_ops)
{
    const cJSON *v;
    size_t k = 0;
    if (!cJSON_IsArray(list) || (size_t)cJSON_GetArraySize(list) != n_ops) return false;
    cJSON_ArrayForEach(v, list)
    {
        if (!cJSON_IsNumber(v) || !isfinite(v->valuedouble) || v->valuedouble < 0) return false;
        ms[k++] = v->valuedouble;
    }
    return true;
}

static bool read_entry(pq_lat_entry *e, const pq_lat_journal *j, const cJSON *o, double *layers)
{
    const cJSON *context = cJSON_GetObjectItemCaseSensitive(o, "context"),
                *list = cJSON_GetObjectItemCaseSensitive(o, "layers");
    const double tiny = 1e-9;
    if (!cJSON_IsString(context) || strcmp(context->valuestring, j->context) != 0 ||
        !read_labels(e->label, o, j->n_ops, j->n_labels) ||
        !read_number(&e->seconds, o, "seconds", 0))
        return false;
    if (!list)
        return read_number(&e->ms, o, "ms", tiny) && read_number(&e->full_ms, o, "full_ms", tiny);
    e->layers = layers;
    return read_layers(layers, list, j->n_ops) && read_number(&e->part, o, "part", 0);
}

static pq_status read_all(pq_ctx *ctx, pq_lat_journal *j)
{
    pq_buf *b = NULL;
    uint8_t *label = NULL;
    double *layers = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &label, j->n_ops, 1));
    PQ_TRY(pq_alloc(ctx, &layers, j->n_ops, sizeof *layers));
    PQ_TRY(pq_file_map(ctx, &b, j->path));
    const char *text = pq_buf_data(b), *end = text + pq_buf_bytes(b);
    while (text < end) {
        const char *nl = memchr(text, '\n', (size_t)(end - text));
        if (!nl) break;
        cJSON *o = cJSON_ParseWithLength(text, (size_t)(nl - text));
        pq_lat_entry e = {.label = label};
        const bool whole = read_entry(&e, j, o, layers);
        cJSON_Delete(o);
        if (whole) PQ_TRY(remember(ctx, j, &e));
        text = nl + 1;
    }
out:
    pq_buf_unref(b);
    pq_free(label);
    pq_free(layers);
    return st;
}

pq_status pq_lat_journal_open(pq_ctx *ctx, pq_lat_journal *j, const char *context, const char *path,
                              size_t n_ops, int n_labels)
{
    pq_status st;
    memset(j, 0, sizeof *j);
    memcpy(j->context, context, sizeof j->context - 1);
    j->n_ops = n_ops;
    j->n_labels = n_labels;
    if (!path) return PQ_OK;
    st = pq_strdup(ctx, &j->path, path);
    return st == PQ_OK && pq_file_exists(path) ? read_all(ctx, j) : st;
}

void pq_lat_journal_close(pq_lat_journal *j)
{
    for (size_t i = 0; i < j->n; i++) clear_entry(&j->entry[i]);
    pq_free(j->entry);
    pq_free(j->path);
    memset(j, 0, sizeof *j);
}

const pq_lat_entry *pq_lat_journal_find(const pq_lat_journal *j, const uint8_t *label, bool layers)
{
    for (size_t i = 0; i < j->n; i++)
        if ((j->entry[i].layers != NULL) == layers &&
            memcmp(j->entry[i].label, label, j->n_ops) == 0)
            return &j->entry[i];
    return NULL;
}

/* ---- writing ---- */

static bool add_members(cJSON *o, const pq_lat_journal *j, const pq_lat_entry *e,
                        const char *digits)
{
    if (!cJSON_AddStringToObject(o, "context", j->context) ||
        !cJSON_AddStringToObject(o, "labels", digits) ||
        !cJSON_AddNumberToObject(o, "seconds", e->seconds))
        return false;
    if (!e->layers)
        return cJSON_AddNumberToObject(o, "ms", e->ms) &&
               cJSON_AddNumberToObject(o, "full_ms", e->full_ms);
    cJSON *list = cJSON_AddArrayToObject(o, "layers");
    for (size_t k = 0; list && k < j->n_ops; k++)
        if (!cJSON_AddItemToArray(list, cJSON_CreateNumber(e->layers[k]))) return false;
    return list && cJSON_AddNumberToObject(o, "part", e->part);
}

pq_status pq_lat_journal_add(pq_ctx *ctx, pq_lat_journal *j, const pq_lat_entry *e)
{
    cJSON *o = NULL;
    char *text = NULL, *digits = NULL;
    pq_status st;
    PQ_TRY(remember(ctx, j, e));
    if (!j->path) goto out;
    PQ_TRY(pq_alloc(ctx, &digits, j->n_ops + 1, 1));
    for (size_t k = 0; k < j->n_ops; k++) digits[k] = (char)('0' + e->label[k]);
    o = cJSON_CreateObject();
    if (!add_members(o, j, e, digits) || !(text = cJSON_PrintUnformatted(o)))
        st = pq_json_check(ctx, NULL);
    else
        st = pq_file_append_line(ctx, j->path, text);
out:
    cJSON_free(text);
    cJSON_Delete(o);
    pq_free(digits);
    return st;
}
