/* What measuring found, so that later sessions start sooner and their float16 sums run in the same
 * order: kept in the file that PQUANT_CUDA_TUNED names, else by the process. One line a layer:
 *     GPU | type and shape | shape of conv_mma | parts of the inner dimension[, in registers|,
 * persistent] A line that this build cannot use is passed over, and that layer measured again. Who
 * may measure holds a lock: processes that share the file, and threads, take turns and find the
 * same. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/cuda/cuda.h"

enum { LINE = 384 };

static const char *const finished[] = {"", ", in registers", ", persistent"};

static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static char *of_process; /* lines */

__attribute__((destructor)) static void forget(void) { pq_free(of_process); }

/* The layer as cu_same_shape sees it. */
static void key_of(char key[LINE], const cu_session *s, const cu_node *n)
{
    static const char *const kind[PQ_CU_KINDS] = {"f16", "s8", "f32"};
    const pq_cu_conv *p = &n->p.conv;
    snprintf(key, LINE,
             "%s | %s %d pixels of %d x %d, %d channels, %d chunks of %d, stride %d, dilation %d, "
             "%d places%s%s as %s | ",
             s->device.name, kind[n->kind], p->m, p->h, p->w, p->n, p->k_chunks, p->chunks, p->sh,
             p->dh, p->n_dest, p->residual ? " of a sum" : "", p->plain ? " alike" : "",
             pq_dtype_name((pq_dtype)p->dest[0].form.dtype));
}

static void value_of(char value[64], const pq_cu_variant *v)
{
    snprintf(value, 64, "%d x %d x %d / %d / %d / %d | ", v->bm, v->bn, v->row, v->stages, v->wk,
             v->threads);
}

pq_status cu_tuned_open(pq_ctx *ctx, cu_tuned *t)
{
    const char *path = getenv("PQUANT_CUDA_TUNED");
    pq_buf *file = NULL;
    pq_status st = PQ_OK;
    pthread_mutex_lock(&turn);
    *t = (cu_tuned){.path = path && *path ? path : NULL, .lock = -1};
    if (!t->path) return PQ_OK;
    t->lock = open(t->path, O_RDONLY | O_CREAT | O_CLOEXEC, 0666);
    if (t->lock < 0) {
        st = pq_fail(ctx, PQ_E_IO, "%s: %s", t->path, strerror(errno));
        goto out;
    }
    while (flock(t->lock, LOCK_EX) != 0 && errno == EINTR) continue;
    PQ_TRY(pq_file_map(ctx, &file, t->path));
    PQ_TRY(pq_asprintf(ctx, &t->of_file, "%.*s", (int)pq_buf_bytes(file),
                       (const char *)pq_buf_data(file)));
out:
    pq_buf_unref(file);
    if (st != PQ_OK) cu_tuned_close(t);
    return st;
}

void cu_tuned_close(cu_tuned *t)
{
    if (t->lock >= 0) close(t->lock);
    pq_free(t->of_file);
    *t = (cu_tuned){.lock = -1};
    pthread_mutex_unlock(&turn);
}

/* What stands behind the key, if the device can run it. */
static bool take(const cu_session *s, cu_node *n, const char *at)
{
    char value[64], *end;
    int n_variants;
    const pq_cu_variant *v = cu_variants(n->kind, &n_variants);
    for (int i = 0; i < n_variants; i++) {
        value_of(value, &v[i]);
        if (strncmp(at, value, strlen(value)) != 0 || !cu_fits(&s->device, &v[i])) continue;
        const long split = strtol(at + strlen(value), &end, 10);
        const int steps = pq_cu_ceil(n->p.conv.k_chunks, v[i].row / PQ_CU_CHUNK);
        if (split != 1 &&
            (split < 2 || split > CU_MOST_SPLIT || !s->device.dependent || steps < split))
            return false;
        cu_finish finish = CU_PERSISTENT;
        while (strncmp(end, finished[finish], strlen(finished[finish])) != 0) finish--;
        cu_choose(s, n, (cu_choice){i, (int)split, finish});
        return true;
    }
    return false;
}

bool cu_tuned_find(const cu_tuned *t, const cu_session *s, cu_node *n)
{
    char key[LINE];
    key_of(key, s, n);
    const size_t length = strlen(key);
    for (const char *at = t->path ? t->of_file : of_process; at && *at;) {
        if (strncmp(at, key, length) == 0 && take(s, n, at + length)) return true;
        at = strchr(at, '\n');
        if (at) at++;
    }
    return false;
}

pq_status cu_tuned_add(pq_ctx *ctx, const cu_tuned *t, const cu_session *s, const cu_node *n)
{
    char line[LINE + 80], value[64];
    int unused;
    key_of(line, s, n);
    value_of(value, &cu_variants(n->kind, &unused)[n->how.variant]);
    snprintf(line + strlen(line), 80, "%s%d%s", value, n->p.conv.split, finished[n->how.finish]);
    if (t->path) return pq_file_append_line(ctx, t->path, line);
    char *longer;
    const pq_status st = pq_asprintf(ctx, &longer, "%s%s\n", of_process ? of_process : "", line);
    if (st != PQ_OK) return st;
    pq_free(of_process);
    of_process = longer;
    return PQ_OK;
}
