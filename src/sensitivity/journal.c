/* The journal: appended line by line, so that a killed run loses at most the one in flight. */
#include "sensitivity/journal.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

static pq_status remember(pq_ctx *ctx, pq_journal *j, const char *bits, const pq_figures *f)
{
    pq_status st;
    if (j->n == j->room) {
        size_t room = j->room ? 2 * j->room : 64;
        if ((st = pq_grow(ctx, &j->entry, j->n, room, sizeof *j->entry)) != PQ_OK) return st;
        j->room = room;
    }
    if ((st = pq_strdup(ctx, &j->entry[j->n].bits, bits)) != PQ_OK) return st;
    j->entry[j->n++].figures = *f;
    return PQ_OK;
}

/* A line that is not whole (the machine went down while it was written) is passed over. */
static pq_status read_line(pq_ctx *ctx, pq_journal *j, const char *text, size_t n)
{
    cJSON *o = cJSON_ParseWithLength(text, n);
    const cJSON *context = cJSON_GetObjectItemCaseSensitive(o, "context"),
                *bits = cJSON_GetObjectItemCaseSensitive(o, "int8");
    pq_status st = PQ_OK;
    if (cJSON_IsString(context) && cJSON_IsString(bits) &&
        strcmp(context->valuestring, j->context) == 0) {
        pq_figures f;
        bool whole = true;
        for (int i = 0; i < PQ_FIG_COUNT; i++) {
            const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, pq_figure_name((pq_figure)i));
            whole = whole && cJSON_IsNumber(v);
            f.v[i] = whole ? v->valuedouble : 0;
        }
        if (whole) st = remember(ctx, j, bits->valuestring, &f);
    }
    cJSON_Delete(o);
    return st;
}

pq_status pq_journal_open(pq_ctx *ctx, pq_journal *j, const char *context, const char *path)
{
    pq_buf *b = NULL;
    pq_status st = PQ_OK;
    memset(j, 0, sizeof *j);
    snprintf(j->context, sizeof j->context, "%.32s", context);
    if (!path) return PQ_OK;
    PQ_TRY(pq_strdup(ctx, &j->path, path));
    if (!pq_file_exists(path)) goto out;
    PQ_TRY(pq_file_map(ctx, &b, path));
    const char *text = pq_buf_data(b), *end = text + pq_buf_bytes(b);
    while (text < end) {
        const char *nl = memchr(text, '\n', (size_t)(end - text));
        if (!nl) break;
        PQ_TRY(read_line(ctx, j, text, (size_t)(nl - text)));
        text = nl + 1;
    }
out:
    pq_buf_unref(b);
    if (st != PQ_OK) pq_journal_close(j);
    return st;
}

void pq_journal_close(pq_journal *j)
{
    for (size_t i = 0; i < j->n; i++) pq_free(j->entry[i].bits);
    pq_free(j->entry);
    pq_free(j->path);
    memset(j, 0, sizeof *j);
}

const pq_figures *pq_journal_find(const pq_journal *j, const char *bits)
{
    for (size_t i = 0; i < j->n; i++)
        if (strcmp(j->entry[i].bits, bits) == 0) return &j->entry[i].figures;
    return NULL;
}

pq_status pq_journal_add(pq_ctx *ctx, pq_journal *j, const char *bits, const pq_figures *f,
                         double seconds)
{
    pq_status st = remember(ctx, j, bits, f);
    if (st != PQ_OK || !j->path) return st;
    cJSON *o = cJSON_CreateObject();
    char *text = NULL;
    bool ok = cJSON_AddStringToObject(o, "context", j->context) &&
              cJSON_AddStringToObject(o, "int8", bits);
    for (int i = 0; ok && i < PQ_FIG_COUNT; i++)
        ok = cJSON_AddNumberToObject(o, pq_figure_name((pq_figure)i), f->v[i]) != NULL;
    ok = ok && cJSON_AddNumberToObject(o, "seconds", seconds) &&
         (text = cJSON_PrintUnformatted(o)) != NULL;
    st = ok ? pq_file_append_line(ctx, j->path, text) : pq_json_check(ctx, NULL);
    cJSON_free(text);
    cJSON_Delete(o);
    return st;
}
