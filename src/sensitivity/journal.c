/* The journal: appended line by line, so that a killed run loses at most the one in flight. */
#include "sensitivity/journal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

static pq_status remember(pq_ctx *ctx, pq_journal *j, const pq_entry *e)
{
    pq_status st;
    if (j->n == j->room) {
        size_t room = j->room ? 2 * j->room : 64;
        if ((st = pq_grow(ctx, &j->entry, j->n, room, sizeof *j->entry)) != PQ_OK) return st;
        j->room = room;
    }
    j->entry[j->n] = *e;
    if ((st = pq_strdup(ctx, &j->entry[j->n].bits, e->bits)) != PQ_OK) return st;
    j->n++;
    return PQ_OK;
}

static bool number(const cJSON *o, const char *key, double *v)
{
    const cJSON *x = cJSON_GetObjectItemCaseSensitive(o, key);
    if (cJSON_IsNumber(x)) *v = x->valuedouble;
    return cJSON_IsNumber(x);
}

static bool read_images(const cJSON *o, size_t *n_images)
{
    double n = 0;
    if (!number(o, "images", &n) || !(n >= 0 && n < 1e9)) return false;
    *n_images = (size_t)n;
    return true;
}

static bool read_measured(const cJSON *o, pq_measured *m)
{
    const cJSON *whole = cJSON_GetObjectItemCaseSensitive(o, "whole");
    for (int i = 0; i < PQ_FIG_COUNT; i++)
        if (!number(o, pq_figure_name((pq_figure)i), &m->figures.v[i])) return false;
    if (!number(o, "drop", &m->drop) || !number(o, "low", &m->low) ||
        !number(o, "high", &m->high) || !number(o, "seconds", &m->seconds) ||
        !read_images(o, &m->n_images) || !cJSON_IsBool(whole))
        return false;
    m->whole = cJSON_IsTrue(whole);
    return true;
}

cJSON *pq_entry_parse(pq_entry *e, const char **context, const char *text, size_t n)
{
    cJSON *o = cJSON_ParseWithLength(text, n);
    const cJSON *where = cJSON_GetObjectItemCaseSensitive(o, "context"),
                *bits = cJSON_GetObjectItemCaseSensitive(o, "labels");
    *e = (pq_entry){0};
    if (cJSON_IsString(where) && cJSON_IsString(bits)) {
        *context = where->valuestring;
        e->bits = bits->valuestring;
        e->screen = number(o, "error", &e->error);
        if (e->screen ? read_images(o, &e->measured.n_images) : read_measured(o, &e->measured))
            return o;
    }
    cJSON_Delete(o);
    return NULL;
}

/* A line that is not whole (the machine went down while it was written) is passed over. */
static pq_status read_line(pq_ctx *ctx, pq_journal *j, const char *text, size_t n)
{
    const char *context;
    pq_entry e;
    cJSON *o = pq_entry_parse(&e, &context, text, n);
    const bool ours = o && strcmp(context, j->context) == 0;
    const pq_status st = ours ? remember(ctx, j, &e) : PQ_OK;
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

const pq_entry *pq_journal_find(const pq_journal *j, const char *bits, double give_up)
{
    const pq_entry *part = NULL;
    for (size_t i = 0; i < j->n; i++) {
        const pq_entry *e = &j->entry[i];
        if (e->screen || strcmp(e->bits, bits) != 0) continue;
        if (e->measured.whole) return e;
        if (e->measured.low > give_up) part = e;
    }
    return part;
}

static const pq_entry *find_on(const pq_journal *j, const char *bits, bool screen, size_t n_images)
{
    for (size_t i = 0; i < j->n; i++) {
        const pq_entry *e = &j->entry[i];
        if (e->screen == screen && e->measured.n_images == n_images && strcmp(e->bits, bits) == 0)
            return e;
    }
    return NULL;
}

const pq_entry *pq_journal_find_part(const pq_journal *j, const char *bits, size_t n_images)
{
    return find_on(j, bits, false, n_images);
}

const pq_entry *pq_journal_find_screen(const pq_journal *j, const char *bits, size_t n_images)
{
    return find_on(j, bits, true, n_images);
}

size_t pq_journal_screened(const pq_journal *j)
{
    for (size_t i = 0; i < j->n; i++)
        if (j->entry[i].screen) return j->entry[i].measured.n_images;
    return 0;
}

/* cJSON takes 15 digits where they are nearly right; what is read back is to be the same number. */
static bool add(cJSON *o, const char *key, double v)
{
    char text[32];
    snprintf(text, sizeof text, "%.15g", v);
    if (strtod(text, NULL) != v) snprintf(text, sizeof text, "%.17g", v);
    return cJSON_AddRawToObject(o, key, isfinite(v) ? text : "null") != NULL;
}

static bool add_measured(cJSON *o, const pq_measured *m)
{
    bool ok = true;
    for (int i = 0; ok && i < PQ_FIG_COUNT; i++)
        ok = add(o, pq_figure_name((pq_figure)i), m->figures.v[i]);
    return ok && add(o, "drop", m->drop) && add(o, "low", m->low) && add(o, "high", m->high) &&
           add(o, "images", (double)m->n_images) && cJSON_AddBoolToObject(o, "whole", m->whole) &&
           add(o, "seconds", m->seconds);
}

pq_status pq_entry_print(pq_ctx *ctx, char **line, const char *context, const pq_entry *e)
{
    cJSON *o = cJSON_CreateObject();
    *line = NULL;
    const bool ok =
        cJSON_AddStringToObject(o, "context", context) &&
        cJSON_AddStringToObject(o, "labels", e->bits) &&
        (e->screen ? add(o, "error", e->error) && add(o, "images", (double)e->measured.n_images)
                   : add_measured(o, &e->measured)) &&
        (*line = cJSON_PrintUnformatted(o)) != NULL;
    cJSON_Delete(o);
    return ok ? PQ_OK : pq_json_check(ctx, NULL);
}

pq_status pq_journal_add(pq_ctx *ctx, pq_journal *j, const pq_entry *e)
{
    char *line = NULL;
    pq_status st = remember(ctx, j, e);
    if (st != PQ_OK || !j->path) return st;
    st = pq_entry_print(ctx, &line, j->context, e);
    if (st == PQ_OK) st = pq_file_append_line(ctx, j->path, line);
    cJSON_free(line);
    return st;
}
