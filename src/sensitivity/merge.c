/* Journals of several machines into one. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "sensitivity/journal.h"

typedef struct line {
    const char *text; /* borrowed from its file */
    size_t n;
    const char *path;
    size_t number, order;
    char *key;  /* "context labels kind": what it is a measurement of */
    pq_entry e; /* without bits */
    bool repeated;
} line;

typedef struct lines {
    line *at;
    size_t n, room;
    pq_merged *counts;
} lines;

static pq_status add(pq_ctx *ctx, lines *l, line *x)
{
    const char *context;
    pq_status st = PQ_OK;
    cJSON *doc = pq_entry_parse(&x->e, &context, x->text, x->n);
    if (!doc) {
        l->counts->n_torn += x->n > 0;
        return PQ_OK;
    }
    if (l->n == l->room) {
        const size_t room = l->room ? 2 * l->room : 256;
        PQ_TRY(pq_grow(ctx, &l->at, l->n, room, sizeof *l->at));
        l->room = room;
    }
    /* A part of the images is a measurement of its own. */
    PQ_TRY(pq_asprintf(ctx, &x->key, "%s %s %s %zu", context, x->e.bits,
                       x->e.screen           ? "screen"
                       : x->e.measured.whole ? "whole"
                                             : "part",
                       x->e.measured.n_images));
    x->e.bits = NULL;
    x->order = l->n;
    l->at[l->n++] = *x;
out:
    cJSON_Delete(doc);
    return st;
}

static pq_status read_all(pq_ctx *ctx, lines *l, const char *path, const pq_buf *b)
{
    const char *text = pq_buf_data(b), *end = text + pq_buf_bytes(b);
    for (size_t number = 1; text < end; number++) {
        const char *nl = memchr(text, '\n', (size_t)(end - text));
        if (!nl) { /* cut off while it was written */
            l->counts->n_torn++;
            break;
        }
        line x = {.text = text, .n = (size_t)(nl - text), .path = path, .number = number};
        const pq_status st = add(ctx, l, &x);
        if (st != PQ_OK) return st;
        text = nl + 1;
    }
    return PQ_OK;
}

static int by_key(const void *a, const void *b)
{
    const line *x = a, *y = b;
    const int c = strcmp(x->key, y->key);
    if (c) return c;
    return x->order < y->order ? -1 : x->order > y->order;
}

static int by_order(const void *a, const void *b)
{
    const line *x = a, *y = b;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* All but the time it took. The name of a figure that differs, or NULL. */
static const char *difference(const pq_entry *x, const pq_entry *y, double *a, double *b)
{
    *a = x->error;
    *b = y->error;
    if (x->screen) return *a != *b ? "error" : NULL;
    const pq_measured *m = &x->measured, *o = &y->measured;
    for (int i = 0; i < PQ_FIG_COUNT; i++) {
        *a = m->figures.v[i];
        *b = o->figures.v[i];
        if (*a != *b) return pq_figure_name((pq_figure)i);
    }
    const double left[] = {m->drop, m->low, m->high}, right[] = {o->drop, o->low, o->high};
    static const char *const name[] = {"drop", "low", "high"};
    for (int i = 0; i < 3; i++) {
        *a = left[i];
        *b = right[i];
        if (*a != *b) return name[i];
    }
    return NULL;
}

static pq_status find_repeated(pq_ctx *ctx, lines *l)
{
    if (l->n) qsort(l->at, l->n, sizeof *l->at, by_key);
    for (size_t i = 1, first = 0; i < l->n; i++) {
        const line *x = &l->at[first];
        line *y = &l->at[i];
        double a, b;
        if (strcmp(x->key, y->key) != 0) {
            first = i;
            continue;
        }
        const char *name = difference(&x->e, &y->e, &a, &b);
        if (name)
            return pq_fail(ctx, PQ_E_FORMAT,
                           "%s:%zu: %s is %.17g, expected %.17g as in %s:%zu, which measured the "
                           "same",
                           y->path, y->number, name, b, a, x->path, x->number);
        y->repeated = true;
        l->counts->n_repeated++;
    }
    if (l->n) qsort(l->at, l->n, sizeof *l->at, by_order);
    return PQ_OK;
}

static pq_status write_all(pq_ctx *ctx, const lines *l, const char *to)
{
    pq_out out;
    const pq_status st = pq_out_open(ctx, &out, to);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < l->n; i++) { /* errors are sticky: commit sees them */
        const line *x = &l->at[i];
        if (x->repeated) continue;
        fwrite(x->text, 1, x->n, out.f);
        fputc('\n', out.f);
        l->counts->n_lines++;
        l->counts->n_new += x->path != to;
    }
    return pq_out_commit(ctx, &out);
}

pq_status pq_journal_merge(pq_ctx *ctx, pq_merged *out, const char *to, const char *const *from,
                           size_t n)
{
    lines l = {.counts = out};
    pq_buf **file = NULL;
    pq_status st;
    *out = (pq_merged){0};
    PQ_TRY(pq_alloc(ctx, &file, n + 1, sizeof(pq_buf *)));
    for (size_t i = 0; i <= n; i++) {
        const char *path = i ? from[i - 1] : to;
        if (!i && !pq_file_exists(to)) continue;
        PQ_TRY(pq_file_map(ctx, &file[i], path));
        PQ_TRY(read_all(ctx, &l, path, file[i]));
    }
    PQ_TRY(find_repeated(ctx, &l));
    st = write_all(ctx, &l, to);
out:
    for (size_t i = 0; i < l.n; i++) pq_free(l.at[i].key);
    for (size_t i = 0; file && i <= n; i++) pq_buf_unref(file[i]);
    pq_free(l.at);
    pq_free(file);
    return st;
}
