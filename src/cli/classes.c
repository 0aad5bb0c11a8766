/* Which class is which: names of a model's classes, and the categories of an annotation file that
 * they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "cli/cli.h"

/* Ultralytics writes the names into the file as a Python dictionary: {0: 'person', 1: "man's hat"}.
 * *n: how many there are, in order from 0; names are cut out of text. */
static void cut_names(char *text, char **name, int room, int *n)
{
    *n = 0;
    for (char *p = text; *n < room; (*n)++) {
        char *end;
        p += strcspn(p, "0123456789'\"");
        if (*p >= '0' && *p <= '9') {
            if (strtol(p, &end, 10) != *n) return;
            p = end + strcspn(end, "'\"");
        }
        if (!*p) return;
        end = strchr(p + 1, *p);
        if (!end) return;
        *end = 0;
        name[*n] = p + 1;
        p = end + 1;
    }
}

static const char *meta_of(const pq_graph *g, const char *key)
{
    for (size_t i = 0; g->meta && g->meta[i]; i += 2)
        if (strcmp(g->meta[i], key) == 0) return g->meta[i + 1];
    return NULL;
}

static pq_status names_of_file(pq_ctx *ctx, cli_model *m, const char *text)
{
    enum { MOST = 4096 };
    char *copy = NULL, **cut = NULL;
    int n;
    pq_status st;
    PQ_TRY(pq_strdup(ctx, &copy, text));
    PQ_TRY(pq_alloc(ctx, &cut, MOST, sizeof *cut));
    cut_names(copy, cut, MOST, &n);
    if (m->head.family == PQ_HEAD_BOXES && n > 0) m->head.n_classes = n;
    if (n != m->head.n_classes) goto out;
    PQ_TRY(pq_alloc(ctx, &m->class_name, (size_t)n, sizeof *m->class_name));
    for (int i = 0; i < n; i++) PQ_TRY(pq_strdup(ctx, &m->class_name[i], cut[i]));
out:
    pq_free(copy);
    pq_free(cut);
    return st;
}

pq_status cli_name_classes(pq_ctx *ctx, cli_model *m)
{
    const char *text = meta_of(m->graph, "names");
    pq_status st = PQ_OK;
    if (!(m->sidecar && m->sidecar->class_name) && text) return names_of_file(ctx, m, text);
    const int n = m->head.n_classes;
    if (!(m->sidecar && m->sidecar->class_name) && n != 80) return PQ_OK;
    PQ_TRY(pq_alloc(ctx, &m->class_name, (size_t)n, sizeof *m->class_name));
    for (int i = 0; i < n; i++)
        PQ_TRY(pq_strdup(ctx, &m->class_name[i],
                         m->sidecar && m->sidecar->class_name ? m->sidecar->class_name[i]
                                                              : pq_coco80_name(i)));
out:
    return st;
}

static int32_t category_called(const pq_coco *coco, const char *name)
{
    for (size_t i = 0; name && i < coco->n_categories; i++)
        if (strcasecmp(coco->category[i].name, name) == 0) return (int32_t)i;
    return -1;
}

/* Classes that are named by the sidecar or the file, or are COCO's; not by their number alone. */
static bool names_are_known(const cli_model *m)
{
    return (m->sidecar && m->sidecar->class_name) || meta_of(m->graph, "names");
}

pq_status cli_match_classes(pq_ctx *ctx, cli_model *m, const pq_coco *coco)
{
    const int n = m->head.n_classes;
    const int64_t *id = m->sidecar ? m->sidecar->category : NULL;
    int found = 0;
    const bool as_many = (size_t)n == coco->n_categories;
    if (!id && as_many && !names_are_known(m)) return PQ_OK; /* in order of id */
    pq_status st = pq_alloc(ctx, &m->class_map, (size_t)n, sizeof *m->class_map);
    if (st != PQ_OK) return st;
    for (int i = 0; i < n; i++) {
        m->class_map[i] = id              ? (int32_t)pq_coco_find_category(coco, id[i])
                          : m->class_name ? category_called(coco, m->class_name[i])
                                          : -1;
        found += m->class_map[i] >= 0;
    }
    if (!found && as_many && !id && !(m->sidecar && m->sidecar->class_name))
        return PQ_OK; /* names in another language: in order of id */
    if (!found)
        return pq_fail(
            ctx, PQ_E_FORMAT,
            "%s has %zu categories, none of which is one of the model's %d classes: name "
            "them in a sidecar (class_names or category_ids)",
            coco->path, coco->n_categories, n);
    if (found < n || (size_t)found < coco->n_categories)
        pq_log(ctx, PQ_LOG_WARN, "classes",
               "%d of the model's %d classes are among the %zu categories of %s: the others' boxes "
               "are not counted",
               found, n, coco->n_categories, coco->path);
    m->head.class_map = m->class_map;
    return PQ_OK;
}
