/* Lists of images to run over, and how two of them overlap. */
#include <pquant/data.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

void pq_dataset_free(pq_dataset *d)
{
    if (!d) return;
    for (size_t i = 0; i < d->n; i++) pq_free(d->sample[i].path);
    pq_free(d->sample);
    pq_free(d);
}

pq_status pq_dataset_from_coco(pq_ctx *ctx, pq_dataset **out, const pq_coco *coco,
                               const char *folder, size_t limit)
{
    pq_status st;
    pq_dataset *d = NULL;
    *out = NULL;
    size_t n = limit && limit < coco->n_images ? limit : coco->n_images;
    if (!n) return pq_fail(ctx, PQ_E_FORMAT, "%s: no images, expected at least 1", coco->path);
    PQ_TRY(pq_alloc(ctx, &d, 1, sizeof *d));
    PQ_TRY(pq_alloc(ctx, &d->sample, n, sizeof *d->sample));
    for (; d->n < n; d->n++) {
        const pq_coco_image *im = &coco->image[d->n];
        pq_sample *s = &d->sample[d->n];
        s->id = im->id;
        PQ_TRY(pq_path_join(ctx, &s->path, folder, im->file_name));
        if (!pq_file_exists(s->path)) {
            st = pq_fail(ctx, PQ_E_IO, "%s: %s; image %lld of %s names it", s->path,
                         strerror(errno), (long long)im->id, coco->path);
            pq_free(s->path);
            goto out;
        }
    }
out:
    if (st == PQ_OK)
        *out = d;
    else
        pq_dataset_free(d);
    return st;
}

static bool is_image_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && dot != name &&
           (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 ||
            strcasecmp(dot, ".png") == 0);
}

/* "000000000139.jpg" -> 139; -1 where the name is no number of at most 15 digits. */
static int64_t id_of_name(const char *name)
{
    int64_t id = 0;
    int digits = 0;
    for (; *name >= '0' && *name <= '9' && digits <= 15; name++, digits++)
        id = 10 * id + (*name - '0');
    return *name == '.' && digits > 0 && digits <= 15 ? id : -1;
}

pq_status pq_dataset_from_folder(pq_ctx *ctx, pq_dataset **out, const char *folder, size_t limit)
{
    pq_status st;
    char **name = NULL;
    size_t n_names = 0;
    pq_dataset *d = NULL;
    *out = NULL;
    PQ_TRY(pq_dir_list(ctx, &name, &n_names, folder));
    PQ_TRY(pq_alloc(ctx, &d, 1, sizeof *d));
    PQ_TRY(pq_alloc(ctx, &d->sample, n_names, sizeof *d->sample));
    for (size_t i = 0; i < n_names && (!limit || d->n < limit); i++) {
        if (!is_image_name(name[i])) continue;
        pq_sample *s = &d->sample[d->n];
        PQ_TRY(pq_path_join(ctx, &s->path, folder, name[i]));
        s->id = id_of_name(name[i]);
        d->n++;
    }
    if (!d->n)
        st = pq_fail(ctx, PQ_E_IO, "%s: none of %zu files is a .jpg, .jpeg or .png", folder,
                     n_names);
out:
    for (size_t i = 0; i < n_names; i++) pq_free(name[i]);
    pq_free(name);
    if (st == PQ_OK)
        *out = d;
    else
        pq_dataset_free(d);
    return st;
}

typedef struct fingerprint {
    int64_t bytes;
    const char *path;
    char hex[65]; /* "" until needed */
} fingerprint;

static int by_bytes(const void *a, const void *b)
{
    const fingerprint *x = a, *y = b;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static pq_status sizes(pq_ctx *ctx, fingerprint **out, const pq_dataset *d)
{
    pq_status st = pq_alloc(ctx, out, d->n, sizeof **out);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < d->n; i++) {
        struct stat s;
        if (stat(d->sample[i].path, &s) != 0)
            return pq_fail(ctx, PQ_E_IO, "%s: %s", d->sample[i].path, strerror(errno));
        (*out)[i].bytes = s.st_size;
        (*out)[i].path = d->sample[i].path;
    }
    return PQ_OK;
}

static pq_status hash(pq_ctx *ctx, fingerprint *f)
{
    pq_buf *b;
    pq_sha256 sha;
    if (f->hex[0]) return PQ_OK;
    pq_status st = pq_file_map(ctx, &b, f->path);
    if (st != PQ_OK) return st;
    pq_sha256_init(&sha);
    pq_sha256_add(&sha, pq_buf_data(b), pq_buf_bytes(b));
    pq_sha256_hex(&sha, f->hex);
    pq_buf_unref(b);
    return PQ_OK;
}

/* Is the content of f among those of `in`, which stand in order of size? */
static pq_status among(pq_ctx *ctx, bool *found, fingerprint *f, fingerprint *in, size_t n)
{
    pq_status st;
    size_t lo = 0, hi = n;
    *found = false;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (in[mid].bytes < f->bytes)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < n && in[lo].bytes == f->bytes && !*found; lo++) {
        if ((st = hash(ctx, f)) != PQ_OK || (st = hash(ctx, &in[lo])) != PQ_OK) return st;
        *found = strcmp(f->hex, in[lo].hex) == 0;
    }
    return PQ_OK;
}

pq_status pq_dataset_overlap(pq_ctx *ctx, size_t *shared, const pq_dataset *a, const pq_dataset *b)
{
    pq_status st;
    fingerprint *fa = NULL, *fb = NULL;
    *shared = 0;
    PQ_TRY(sizes(ctx, &fa, a));
    PQ_TRY(sizes(ctx, &fb, b));
    if (b->n) qsort(fb, b->n, sizeof *fb, by_bytes);
    for (size_t i = 0; i < a->n; i++) {
        bool found;
        PQ_TRY(among(ctx, &found, &fa[i], fb, b->n));
        *shared += found;
        PQ_TRY(pq_progress(ctx, "overlap", i + 1, a->n));
    }
out:
    pq_free(fa);
    pq_free(fb);
    return st;
}
