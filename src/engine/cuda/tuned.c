/* What measuring found, kept in the file that PQUANT_CUDA_TUNED names: sessions start sooner, and
 * float16 sums run in the same order every time. One line a layer:
 *     GPU | type and shape | shape of conv_mma | parts of the inner dimension
 * A line that this build cannot use is passed over, and that layer measured again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/cuda/cuda.h"

enum { LINE = 384 };

/* The layer as same_shape sees it (tune.c). */
static void key_of(char key[LINE], const cu_session *s, const cu_node *n)
{
    static const char *const kind[PQ_CU_KINDS] = {"f16", "s8", "f32"};
    const pq_cu_conv *p = &n->p.conv;
    snprintf(key, LINE,
             "%s | %s %d pixels of %d x %d, %d channels, %d chunks of %d, stride %d, dilation %d, "
             "%d places%s as %s | ",
             s->device.name, kind[n->kind], p->m, p->h, p->w, p->n, p->k_chunks, p->chunks, p->sh,
             p->dh, p->n_dest, p->residual ? " of a sum" : "",
             pq_dtype_name((pq_dtype)p->dest[0].form.dtype));
}

static void value_of(char value[64], const pq_cu_variant *v)
{
    snprintf(value, 64, "%d x %d x %d / %d / %d / %d | ", v->bm, v->bn, v->row, v->stages, v->wk,
             v->threads);
}

pq_status cu_tuned_open(pq_ctx *ctx, cu_tuned *t)
{
    pq_buf *file = NULL;
    pq_status st = PQ_OK;
    memset(t, 0, sizeof *t);
    t->path = getenv("PQUANT_CUDA_TUNED");
    if (!t->path || !*t->path || !pq_file_exists(t->path)) return PQ_OK;
    PQ_TRY(pq_file_map(ctx, &file, t->path));
    PQ_TRY(pq_asprintf(ctx, &t->text, "%.*s", (int)pq_buf_bytes(file),
                       (const char *)pq_buf_data(file)));
out:
    pq_buf_unref(file);
    return st;
}

bool cu_tuned_find(const cu_tuned *t, const cu_session *s, const cu_node *n, int *variant,
                   int *split)
{
    char key[LINE], value[64];
    int n_variants;
    const pq_cu_variant *v = cu_variants(n->kind, &n_variants);
    key_of(key, s, n);
    const char *at = t->text;
    while (at && strncmp(at, key, strlen(key)) != 0) {
        at = strchr(at, '\n');
        if (at) at++;
    }
    if (!at) return false;
    at += strlen(key);
    for (int i = 0; i < n_variants; i++) {
        value_of(value, &v[i]);
        if (strncmp(at, value, strlen(value)) != 0 || !cu_fits(&s->device, &v[i])) continue;
        *variant = i;
        *split = atoi(at + strlen(value));
        const int steps = pq_cu_ceil(n->p.conv.k_chunks, v[i].row / PQ_CU_CHUNK);
        return *split == 1 ||
               (*split > 1 && *split <= CU_MOST_SPLIT && s->device.dependent && steps >= *split);
    }
    return false;
}

pq_status cu_tuned_add(pq_ctx *ctx, cu_tuned *t, const cu_session *s, const cu_node *n)
{
    char key[LINE], value[64];
    char *text = NULL;
    int unused;
    if (!t->path || !*t->path) return PQ_OK;
    key_of(key, s, n);
    value_of(value, &cu_variants(n->kind, &unused)[n->variant]);
    pq_status st =
        pq_asprintf(ctx, &text, "%s%s%d\n%s", key, value, n->p.conv.split, t->text ? t->text : "");
    if (st != PQ_OK) return st;
    pq_free(t->text);
    t->text = text;
    t->changed = true;
    return PQ_OK;
}

pq_status cu_tuned_close(pq_ctx *ctx, cu_tuned *t, bool save)
{
    pq_status st = PQ_OK;
    if (save && t->changed) st = pq_file_write(ctx, t->path, t->text, strlen(t->text));
    pq_free(t->text);
    memset(t, 0, sizeof *t);
    return st;
}
