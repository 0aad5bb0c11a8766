/* State dict into PyTorch's zip format. The archive is built in memory by libzip and then written
 * like every other file: beside its place, synced, renamed. */
#include "export/pth.h"

#include <stdio.h>
#include <string.h>
#include <zip.h>

#include "base/file.h"
#include "base/mem.h"

/* ---- the pickle ---- */

/* Grows; after a failure further calls do nothing. */
typedef struct text {
    pq_ctx *ctx;
    char *p;
    size_t n, room;
    pq_status st;
} text;

static void put(text *t, const void *p, size_t n)
{
    if (t->st == PQ_OK && t->room - t->n < n) {
        const size_t room = 2 * t->room + n + 4096;
        t->st = pq_grow(t->ctx, &t->p, t->n, room, 1);
        if (t->st == PQ_OK) t->room = room;
    }
    if (t->st != PQ_OK) return;
    memcpy(t->p + t->n, p, n);
    t->n += n;
}

static void put_op(text *t, const char *ops) { put(t, ops, strlen(ops)); }

static void put_u32(text *t, uint32_t v)
{
    const uint8_t b[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    put(t, b, sizeof b);
}

static void put_string(text *t, const char *s)
{
    put_op(t, "X");
    put_u32(t, (uint32_t)strlen(s));
    put_op(t, s);
}

/* Counts up to 2^63: BININT where it fits, else LONG1 of 8 bytes. */
static void put_int(text *t, int64_t v)
{
    if (v <= INT32_MAX) {
        put_op(t, "J");
        put_u32(t, (uint32_t)v);
        return;
    }
    put(t, "\x8a\x08", 2);
    put_u32(t, (uint32_t)v);
    put_u32(t, (uint32_t)(v >> 32));
}

static void put_tuple(text *t, const int64_t *v, int n)
{
    put_op(t, "(");
    for (int i = 0; i < n; i++) put_int(t, v[i]);
    put_op(t, "t");
}

/* What every tensor mentions: written out and put into the memo by the first, taken from there by
 * the rest (torch's restricted unpickler has no POP, so nothing can be prepared in front). */
typedef enum shared { REBUILD, STORAGE, FLOAT_STORAGE, CPU, ORDERED_DICT } shared;

static void put_shared(text *t, bool first, shared what)
{
    const char slot = (char)what;
    if (first) {
        switch (what) {
        case REBUILD: put_op(t, "ctorch._utils\n_rebuild_tensor_v2\n"); break;
        case STORAGE: put_string(t, "storage"); break;
        case FLOAT_STORAGE: put_op(t, "ctorch\nFloatStorage\n"); break;
        case CPU: put_string(t, "cpu"); break;
        case ORDERED_DICT: put_op(t, "ccollections\nOrderedDict\n"); break;
        }
    }
    put_op(t, first ? "q" : "h");
    put(t, &slot, 1);
}

static void put_tensor(text *t, size_t index, const pq_tensor *x)
{
    char key[32];
    int64_t stride[PQ_MAX_RANK], step = 1;
    const bool first = index == 0;
    snprintf(key, sizeof key, "%zu", index);
    for (int i = x->shape.rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= x->shape.dim[i] ? x->shape.dim[i] : 1;
    }
    put_shared(t, first, REBUILD);
    put_op(t, "((");
    put_shared(t, first, STORAGE);
    put_shared(t, first, FLOAT_STORAGE);
    put_string(t, key);
    put_shared(t, first, CPU);
    put_int(t, pq_shape_count(&x->shape));
    put_op(t, "tQ"); /* tuple, persistent id */
    put_int(t, 0);   /* offset */
    put_tuple(t, x->shape.dim, x->shape.rank);
    put_tuple(t, stride, x->shape.rank);
    put_op(t, "\x89"); /* requires_grad: False */
    put_shared(t, false, ORDERED_DICT);
    put_op(t, ")RtR"); /* hooks: OrderedDict(); call */
}

static void put_state(text *t, const char *const *names, const pq_tensor *tensors, size_t n)
{
    put_op(t, "\x80\2");
    put_shared(t, true, ORDERED_DICT);
    put_op(t, ")R(");
    for (size_t i = 0; i < n; i++) {
        put_string(t, names[i]);
        put_tensor(t, i, &tensors[i]);
    }
    put_op(t, "u.");
}

/* ---- the archive ---- */

/* Add a stored member; data must live until the archive is closed. */
static pq_status add_member(pq_ctx *ctx, zip_t *za, const char *root, const char *name,
                            const void *data, size_t bytes)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    zip_source_t *src = zip_source_buffer(za, data, bytes, 0);
    zip_int64_t i = src ? zip_file_add(za, path, src, ZIP_FL_ENC_UTF_8) : -1;
    if (src && i < 0) zip_source_free(src);
    /* 1980-01-01, as PyTorch writes it: no trace of when. */
    if (i < 0 || zip_set_file_compression(za, (zip_uint64_t)i, ZIP_CM_STORE, 0) != 0 ||
        zip_file_set_dostime(za, (zip_uint64_t)i, 0, 0x21, 0) != 0)
        return pq_fail(ctx, PQ_E_NOMEM, "zip member '%s': %s", path, zip_strerror(za));
    return PQ_OK;
}

static pq_status add_members(pq_ctx *ctx, zip_t *za, const char *root, const text *pkl,
                             const pq_tensor *tensors, size_t n)
{
    char key[48];
    pq_status st = add_member(ctx, za, root, "data.pkl", pkl->p, pkl->n);
    if (st == PQ_OK) st = add_member(ctx, za, root, "byteorder", "little", 6);
    for (size_t i = 0; i < n && st == PQ_OK; i++) {
        snprintf(key, sizeof key, "data/%zu", i);
        st = add_member(ctx, za, root, key, pq_tensor_data(&tensors[i]),
                        (size_t)pq_shape_count(&tensors[i].shape) * sizeof(float));
    }
    return st == PQ_OK ? add_member(ctx, za, root, "version", "3\n", 2) : st;
}

/* Copy what the closed archive left in src to the file. */
static pq_status copy_out(pq_ctx *ctx, pq_out *out, zip_source_t *src)
{
    char block[1 << 16];
    zip_int64_t got = 0;
    if (zip_source_open(src) != 0)
        return pq_fail(ctx, PQ_E_IO, "%s: %s", out->path,
                       zip_error_strerror(zip_source_error(src)));
    while ((got = zip_source_read(src, block, sizeof block)) > 0)
        fwrite(block, 1, (size_t)got, out->f); /* errors are sticky: commit sees them */
    zip_source_close(src);
    return got < 0 ? pq_fail(ctx, PQ_E_IO, "%s: the archive cannot be read back", out->path)
                   : PQ_OK;
}

static pq_status write_archive(pq_ctx *ctx, pq_out *out, const char *root, const text *pkl,
                               const pq_tensor *tensors, size_t n)
{
    pq_status st;
    zip_error_t e;
    zip_error_init(&e);
    zip_t *za = NULL;
    zip_source_t *src = zip_source_buffer_create(NULL, 0, 0, &e);
    if (src) {
        zip_source_keep(src); /* one reference for the archive, one to read the result */
        za = zip_open_from_source(src, ZIP_TRUNCATE, &e);
        if (!za) zip_source_free(src);
    }
    if (!za) {
        st = pq_fail(ctx, PQ_E_NOMEM, "%s: %s", out->path, zip_error_strerror(&e));
        goto out;
    }
    PQ_TRY(add_members(ctx, za, root, pkl, tensors, n));
    if (zip_close(za) != 0) {
        st = pq_fail(ctx, PQ_E_IO, "%s: %s", out->path, zip_strerror(za));
        goto out;
    }
    za = NULL;
    st = copy_out(ctx, out, src);
out:
    if (za) zip_discard(za);
    zip_source_free(src);
    zip_error_fini(&e);
    return st;
}

pq_status pq_pth_write(pq_ctx *ctx, const char *path, const char *const *names,
                       const pq_tensor *tensors, size_t n)
{
    pq_status st;
    pq_out out = {0};
    char *root = NULL;
    text pkl = {.ctx = ctx};
    for (size_t i = 0; i < n; i++) {
        if (tensors[i].dtype != PQ_F32)
            return pq_fail(ctx, PQ_E_INVALID, "tensor '%s' is %s, expected float32", names[i],
                           pq_dtype_name(tensors[i].dtype));
        if (strlen(names[i]) > 1 << 20)
            return pq_fail(ctx, PQ_E_INVALID, "a tensor name of %zu bytes", strlen(names[i]));
    }
    put_state(&pkl, names, tensors, n);
    PQ_TRY(pkl.st);
    PQ_TRY(pq_path_stem(ctx, &root, path));
    if (strlen(root) > 100) root[100] = 0;
    PQ_TRY(pq_out_open(ctx, &out, path));
    PQ_TRY(write_archive(ctx, &out, root, &pkl, tensors, n));
    st = pq_out_commit(ctx, &out);
out:
    pq_out_abort(&out);
    pq_free(pkl.p);
    pq_free(root);
    return st;
}
