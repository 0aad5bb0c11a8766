/* The journal of corrections: appended record by record, flushed before the next operator. */
#include "correct/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

enum { HEADER = 65, ARRAYS = 10 };

static uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void store32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

/* Bytes of the record at `at`, 0 where none is whole. */
static size_t record_at(const pq_correct_journal *j, size_t at)
{
    if (j->n - at < 8) return 0;
    const size_t bytes = load32(j->bytes + at);
    if (bytes > j->n - at - 8 || bytes < 4) return 0;
    if (pq_crc32(0, j->bytes + at + 8, bytes) != load32(j->bytes + at + 4)) return 0;
    return 8 + bytes;
}

static pq_status append(pq_ctx *ctx, const char *path, bool anew, const uint8_t *bytes, size_t n)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (anew ? O_TRUNC : O_APPEND), 0666);
    bool ok = fd >= 0 && write(fd, bytes, n) == (ssize_t)n && fsync(fd) == 0;
    const int why = errno;
    if (fd >= 0) close(fd);
    return ok ? PQ_OK : pq_fail(ctx, PQ_E_IO, "%s: cannot write: %s", path, strerror(why));
}

static pq_status read_all(pq_ctx *ctx, pq_correct_journal *j, const char *context)
{
    pq_buf *b = NULL;
    pq_status st = pq_file_map(ctx, &b, j->path);
    if (st != PQ_OK) return st;
    const uint8_t *data = pq_buf_data(b);
    const size_t n = pq_buf_bytes(b);
    if (n >= HEADER && memcmp(data, context, HEADER - 1) == 0 && data[HEADER - 1] == '\n') {
        st = pq_alloc(ctx, &j->bytes, n, 1);
        if (st == PQ_OK) memcpy(j->bytes, data, n);
        if (st == PQ_OK) j->n = n;
    }
    pq_buf_unref(b);
    return st;
}

pq_status pq_correct_journal_open(pq_ctx *ctx, pq_correct_journal *out, const char *path,
                                  const char *context)
{
    char header[HEADER + 1];
    pq_status st = PQ_OK;
    memset(out, 0, sizeof *out);
    if (!path) return PQ_OK;
    PQ_TRY(pq_strdup(ctx, &out->path, path));
    if (pq_file_exists(path)) PQ_TRY(read_all(ctx, out, context));
    size_t at = HEADER, size;
    while (at < out->n && (size = record_at(out, at)) > 0) at += size;
    if (out->n >= HEADER && at == out->n) goto out;
    if (out->n) { /* a record was torn: without it */
        out->n = at;
        st = pq_file_write(ctx, path, out->bytes, out->n);
        goto out;
    }
    memcpy(header, context, HEADER - 1);
    header[HEADER - 1] = '\n';
    st = append(ctx, path, true, (const uint8_t *)header, HEADER);
out:
    if (st != PQ_OK) pq_correct_journal_close(out);
    return st;
}

void pq_correct_journal_close(pq_correct_journal *j)
{
    pq_free(j->path);
    pq_free(j->bytes);
    memset(j, 0, sizeof *j);
}

void pq_correct_entry_clear(pq_correct_entry *e)
{
    pq_free(e->encoding.value);
    pq_free(e->encoding.gain);
    pq_free(e->encoding.shift);
    pq_free(e->encoding.back);
    pq_free(e->encoding.level);
    pq_free(e->fix.node);
    pq_free(e->fix.weight.name);
    pq_free(e->fix.bias.name);
    pq_tensor_clear(&e->fix.weight.data);
    pq_tensor_clear(&e->fix.weight.scale);
    pq_tensor_clear(&e->fix.bias.data);
    memset(e, 0, sizeof *e);
}

typedef struct array {
    const float *x;
    size_t n;
} array;

static array of_tensor(const pq_tensor *t)
{
    return (array){pq_tensor_data(t), t->buf ? pq_buf_bytes(t->buf) / sizeof(float) : 0};
}

pq_status pq_correct_journal_add(pq_ctx *ctx, const pq_correct_journal *j, const pq_node *n,
                                 const pq_correct_entry *e)
{
    const pq_encoding *c = &e->encoding;
    const float range[2] = {e->lo, e->hi};
    const float error[5] = {(float)c->error_before, (float)c->error, (float)e->fix.error_before,
                            (float)e->fix.error_bias, (float)e->fix.error};
    const array part[ARRAYS] = {{c->gain, c->n},
                                {c->shift, c->n},
                                {c->back, c->n},
                                {c->level, c->n},
                                {range, 2},
                                {error, 5},
                                of_tensor(&e->fix.weight.data),
                                of_tensor(&e->fix.weight.scale),
                                of_tensor(&e->fix.bias.data),
                                {NULL, 0}};
    const size_t n_name = strlen(n->name);
    size_t bytes = 4 + n_name;
    uint8_t *record;
    if (!j->path) return PQ_OK;
    for (int i = 0; i < ARRAYS; i++) bytes += 4 + 4 * part[i].n;
    pq_status st = pq_alloc(ctx, &record, 8 + bytes, 1);
    if (st != PQ_OK) return st;
    uint8_t *to = record + 8;
    store32(to, (uint32_t)n_name);
    memcpy(to + 4, n->name, n_name);
    to += 4 + n_name;
    for (int i = 0; i < ARRAYS; i++) {
        store32(to, (uint32_t)part[i].n);
        if (part[i].n) memcpy(to + 4, part[i].x, 4 * part[i].n);
        to += 4 + 4 * part[i].n;
    }
    store32(record, (uint32_t)bytes);
    store32(record + 4, pq_crc32(0, record + 8, bytes));
    st = append(ctx, j->path, false, record, 8 + bytes);
    pq_free(record);
    return st;
}

/* Floats of the arrays of a payload; false where they do not add up. */
static bool split(array part[ARRAYS], const uint8_t *p, size_t n, const char *name)
{
    const size_t n_name = strlen(name);
    if (n < 4 + n_name || load32(p) != n_name || memcmp(p + 4, name, n_name) != 0) return false;
    size_t at = 4 + n_name;
    for (int i = 0; i < ARRAYS; i++) {
        if (n - at < 4) return false;
        const size_t count = load32(p + at);
        at += 4;
        if (count > (n - at) / 4) return false;
        part[i] = (array){(const float *)(const void *)(p + at), count}; /* copied, not read */
        at += 4 * count;
    }
    return at == n;
}

static pq_status copy(pq_ctx *ctx, float **to, array a)
{
    pq_status st = pq_alloc(ctx, to, a.n, sizeof **to);
    if (st == PQ_OK && a.n) memcpy(*to, a.x, a.n * sizeof **to);
    return st;
}

static pq_status to_tensor(pq_ctx *ctx, pq_tensor *to, array a, const pq_shape *shape)
{
    if (!a.n) return PQ_OK;
    pq_status st = pq_tensor_new(ctx, to, PQ_F32, shape);
    if (st == PQ_OK) memcpy(pq_tensor_data(to), a.x, a.n * sizeof(float));
    return st;
}

static bool fits(const array part[ARRAYS], const pq_graph *g, const pq_node *n)
{
    const pq_value *w = pq_in(g, n, 1), *b = pq_in(g, n, 2);
    const size_t outputs = (size_t)w->shape.dim[0];
    const size_t weights = (size_t)pq_shape_count(&w->shape);
    for (int i = 0; i < 4; i++)
        if (part[i].n && (part[i].n != outputs || part[i].n != part[0].n)) return false;
    return part[4].n == 2 && part[5].n == 5 && (!part[6].n || part[6].n == weights) &&
           part[7].n == (part[6].n ? outputs : 0) && (!part[8].n || (b && part[8].n == outputs));
}

static pq_status fill(pq_ctx *ctx, pq_correct_entry *e, const array part[ARRAYS], const pq_graph *g,
                      const pq_node *n)
{
    const pq_shape *shape = &pq_in(g, n, 1)->shape, channels = PQ_SHAPE(shape->dim[0]);
    float range[2], error[5];
    pq_encoding *c = &e->encoding;
    pq_status st;
    memcpy(range, part[4].x, sizeof range);
    memcpy(error, part[5].x, sizeof error);
    e->lo = range[0];
    e->hi = range[1];
    c->n = part[0].n;
    c->error_before = (double)error[0];
    c->error = (double)error[1];
    e->fix.error_before = (double)error[2];
    e->fix.error_bias = (double)error[3];
    e->fix.error = (double)error[4];
    if (c->n) {
        PQ_TRY(copy(ctx, &c->gain, part[0]));
        PQ_TRY(copy(ctx, &c->shift, part[1]));
        PQ_TRY(copy(ctx, &c->back, part[2]));
        PQ_TRY(copy(ctx, &c->level, part[3]));
    }
    PQ_TRY(to_tensor(ctx, &e->fix.weight.data, part[6], shape));
    PQ_TRY(to_tensor(ctx, &e->fix.weight.scale, part[7], &channels));
    st = to_tensor(ctx, &e->fix.bias.data, part[8], &channels);
out:
    return st;
}

pq_status pq_correct_journal_find(pq_ctx *ctx, const pq_correct_journal *j, const pq_graph *g,
                                  const pq_node *n, pq_correct_entry *e, bool *found)
{
    array part[ARRAYS];
    size_t size;
    *found = false;
    for (size_t at = HEADER; at < j->n && (size = record_at(j, at)) > 0; at += size) {
        if (!split(part, j->bytes + at + 8, size - 8, n->name) || !fits(part, g, n)) continue;
        *found = true;
        return fill(ctx, e, part, g, n);
    }
    return PQ_OK;
}
