/* State dicts out of PyTorch's zip files, or out of memory. */
#include "read/pth.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "read/arch/damoyolo.h"
#include "read/pickle.h"
#include "read/zip.h"

/* The bytes behind one or more tensors. */
typedef struct storage {
    const char *key; /* NULL: made in memory */
    size_t bytes;    /* as the pickle says */
    pq_buf *buf;     /* NULL: not read yet */
    size_t entry;    /* first user; of meaning while reading only */
} storage;

struct pq_state {
    pq_arena *arena;
    pq_zip *zip;
    const char *root; /* "name/" in front of the members' names, or "" */
    pq_state_entry *entry;
    size_t n_entries, room_entries;
    storage *storage;
    size_t n_storages, room_storages;
};

pq_status pq_state_new(pq_ctx *ctx, pq_state **out)
{
    pq_status st = pq_alloc(ctx, out, 1, sizeof **out);
    if (st != PQ_OK) return st;
    st = pq_arena_new(ctx, &(*out)->arena);
    if (st != PQ_OK) {
        pq_free(*out);
        *out = NULL;
        return st;
    }
    (*out)->root = "";
    return PQ_OK;
}

void pq_state_free(pq_state *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n_storages; i++) pq_buf_unref(s->storage[i].buf);
    pq_free(s->storage);
    pq_free(s->entry);
    pq_zip_close(s->zip);
    pq_arena_free(s->arena);
    pq_free(s);
}

static pq_status add_entry(pq_ctx *ctx, pq_state_entry **out, pq_state *s, const char *name)
{
    pq_status st;
    if (strncmp(name, "module.", 7) == 0) name += 7;
    if (s->n_entries == s->room_entries) {
        size_t room = s->room_entries ? 2 * s->room_entries : 512;
        st = pq_grow(ctx, &s->entry, s->n_entries, room, sizeof *s->entry);
        if (st != PQ_OK) return st;
        s->room_entries = room;
    }
    *out = &s->entry[s->n_entries];
    if ((st = pq_arena_strdup(ctx, s->arena, &(*out)->name, name)) != PQ_OK) return st;
    (*out)->age = (uint32_t)s->n_entries++;
    return PQ_OK;
}

static pq_status add_storage(pq_ctx *ctx, pq_state *s, const storage *what)
{
    if (s->n_storages == s->room_storages) {
        size_t room = s->room_storages ? 2 * s->room_storages : 512;
        pq_status st = pq_grow(ctx, &s->storage, s->n_storages, room, sizeof *s->storage);
        if (st != PQ_OK) return st;
        s->room_storages = room;
    }
    s->storage[s->n_storages++] = *what;
    return PQ_OK;
}

pq_status pq_state_add(pq_ctx *ctx, pq_state *s, const char *name, const pq_tensor *t)
{
    pq_state_entry *e;
    pq_status st = add_storage(ctx, s, &(storage){.bytes = pq_buf_bytes(t->buf)});
    if (st != PQ_OK) return st;
    if ((st = add_entry(ctx, &e, s, name)) != PQ_OK) return st;
    s->storage[s->n_storages - 1].buf = pq_buf_ref(t->buf);
    e->dtype = t->dtype;
    e->shape = t->shape;
    e->offset = 0;
    e->storage = (uint32_t)(s->n_storages - 1);
    int64_t step = 1;
    for (int i = t->shape.rank - 1; i >= 0; i--) {
        e->stride[i] = step;
        step *= t->shape.dim[i];
    }
    return PQ_OK;
}

static int by_name(const void *a, const void *b)
{
    const pq_state_entry *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    if (order) return order;
    return x->age < y->age ? -1 : x->age > y->age;
}

void pq_state_sort(pq_state *s)
{
    size_t n = 0;
    if (!s->n_entries) return;
    qsort(s->entry, s->n_entries, sizeof *s->entry, by_name);
    for (size_t i = 0; i < s->n_entries; i++)
        if (i + 1 == s->n_entries || strcmp(s->entry[i].name, s->entry[i + 1].name) != 0)
            s->entry[n++] = s->entry[i];
    s->n_entries = n;
}

size_t pq_state_count(const pq_state *s) { return s->n_entries; }
const pq_state_entry *pq_state_at(const pq_state *s, size_t i) { return &s->entry[i]; }

const pq_state_entry *pq_state_find(const pq_state *s, const char *name)
{
    size_t lo = 0, hi = s->n_entries;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int order = strcmp(name, s->entry[mid].name);
        if (!order) return &s->entry[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

/* ---- reading ---- */

/* "<root>/data.pkl" with at most one folder in front. */
static pq_status find_root(pq_ctx *ctx, pq_state *s)
{
    for (size_t i = 0; i < pq_zip_count(s->zip); i++) {
        const char *name = pq_zip_name(s->zip, i);
        if (!name) continue;
        const char *slash = strchr(name, '/');
        const char *base = slash ? slash + 1 : name;
        if (strcmp(base, "data.pkl") == 0)
            return pq_arena_printf(ctx, s->arena, &s->root, "%.*s", (int)(base - name), name);
    }
    return pq_fail(ctx, PQ_E_FORMAT,
                   "zip archive of %zu members without data.pkl: no PyTorch checkpoint",
                   pq_zip_count(s->zip));
}

static pq_status read_member(pq_ctx *ctx, pq_buf **out, pq_state *s, const char *name)
{
    char *path = NULL;
    pq_status st = pq_asprintf(ctx, &path, "%s%s", s->root, name);
    if (st == PQ_OK) st = pq_zip_read(ctx, out, s->zip, path);
    pq_free(path);
    return st;
}

static pq_status check_byteorder(pq_ctx *ctx, pq_state *s)
{
    pq_buf *b = NULL;
    char *path = NULL;
    pq_status st;
    PQ_TRY(pq_asprintf(ctx, &path, "%sbyteorder", s->root));
    if (!pq_zip_has(s->zip, path)) goto out; /* not written before PyTorch 2.1: little */
    PQ_TRY(pq_zip_read(ctx, &b, s->zip, path));
    if (pq_buf_bytes(b) != 6 || memcmp(pq_buf_data(b), "little", 6) != 0)
        st =
            pq_fail(ctx, PQ_E_UNSUPPORTED, "byte order '%.*s', expected 'little'",
                    pq_buf_bytes(b) < 20 ? (int)pq_buf_bytes(b) : 20, (const char *)pq_buf_data(b));
out:
    pq_buf_unref(b);
    pq_free(path);
    return st;
}

static pq_status add_tensor(pq_ctx *ctx, pq_state *s, const char *name, const pq_py_tensor *t)
{
    int64_t bytes;
    pq_state_entry *e;
    const pq_py *g = t->storage;
    const size_t size = g->u.storage.untyped ? 1 : pq_dtype_size(g->u.storage.dtype);
    if (__builtin_mul_overflow(g->u.storage.numel, (int64_t)size, &bytes))
        return pq_fail(ctx, PQ_E_FORMAT, "storage '%s' of %lld elements", g->u.storage.key,
                       (long long)g->u.storage.numel);
    const storage one = {g->u.storage.key, (size_t)bytes, NULL, s->n_entries};
    pq_status st = add_storage(ctx, s, &one);
    if (st != PQ_OK) return st;
    if ((st = add_entry(ctx, &e, s, name)) != PQ_OK) return st;
    e->dtype = t->dtype;
    e->shape = t->shape;
    e->offset = t->offset;
    memcpy(e->stride, t->stride, sizeof e->stride);
    return PQ_OK;
}

static int by_key(const void *a, const void *b)
{
    const storage *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    if (order) return order;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* Every entry came with a storage of its own: join those of one key, to be read once. */
static void join_storages(pq_state *s)
{
    size_t n = 0;
    qsort(s->storage, s->n_storages, sizeof *s->storage, by_key);
    for (size_t i = 0; i < s->n_storages; i++) {
        const size_t entry = s->storage[i].entry;
        if (!n || by_key(&s->storage[n - 1], &s->storage[i]) != 0) s->storage[n++] = s->storage[i];
        s->entry[entry].storage = (uint32_t)(n - 1);
    }
    s->n_storages = n;
}

static pq_status add_tensors(pq_ctx *ctx, pq_state *s, const pq_py *dict)
{
    for (size_t i = 0; i + 1 < dict->u.seq.n; i += 2) {
        const pq_py *k = dict->u.seq.item[i], *v = dict->u.seq.item[i + 1];
        if (k->kind != PQ_PY_STR || v->kind != PQ_PY_TENSOR) continue; /* counters, settings */
        if (strlen(k->u.str.s) != k->u.str.n)
            return pq_fail(ctx, PQ_E_FORMAT, "tensor name '%s' holds a zero byte", k->u.str.s);
        pq_status st = add_tensor(ctx, s, k->u.str.s, v->u.tensor);
        if (st != PQ_OK) return st;
    }
    if (!s->n_entries)
        return pq_fail(ctx, PQ_E_FORMAT, "no tensors among the checkpoint's %zu entries",
                       dict->u.seq.n / 2);
    join_storages(s);
    pq_state_sort(s);
    return PQ_OK;
}

/* {'model': sd}, {'state_dict': sd} or sd itself. */
static const pq_py *state_dict_in(const pq_py *root)
{
    static const char *const key[] = {"model", "state_dict"};
    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        const pq_py *v = pq_py_get(root, key[i]);
        if (v && v->kind == PQ_PY_DICT) return v;
    }
    return root;
}

pq_status pq_state_parse(pq_ctx *ctx, pq_state **out, pq_buf *file)
{
    pq_status st;
    pq_state *s = NULL;
    pq_buf *pkl = NULL;
    const pq_py *root, *dict;
    *out = NULL;
    if (!pq_zip_is(pq_buf_data(file), pq_buf_bytes(file))) {
        const uint8_t *p = pq_buf_data(file);
        if (pq_buf_bytes(file) > 2 && p[0] == 0x80 && p[1] <= 5)
            return pq_fail(ctx, PQ_E_UNSUPPORTED,
                           "a checkpoint from before PyTorch 1.6, not a zip archive: load it and "
                           "save it again with torch.save");
        return pq_fail(ctx, PQ_E_FORMAT, "%zu bytes that are no zip archive", pq_buf_bytes(file));
    }
    PQ_TRY(pq_state_new(ctx, &s));
    PQ_TRY(pq_zip_open(ctx, &s->zip, file));
    PQ_TRY(find_root(ctx, s));
    PQ_TRY(check_byteorder(ctx, s));
    PQ_TRY(read_member(ctx, &pkl, s, "data.pkl"));
    PQ_TRY(pq_pickle_load(ctx, &root, s->arena, pq_buf_data(pkl), pq_buf_bytes(pkl)));
    dict = state_dict_in(root);
    if (dict->kind != PQ_PY_DICT) {
        st = pq_fail(ctx, PQ_E_FORMAT, "the checkpoint holds %s, expected a state dict",
                     pq_py_kind_name(dict->kind));
        goto out;
    }
    PQ_TRY(add_tensors(ctx, s, dict));
    *out = s;
    s = NULL;
out:
    pq_buf_unref(pkl);
    pq_state_free(s);
    return st;
}

pq_status pq_state_load(pq_ctx *ctx, pq_state **out, const char *path)
{
    pq_buf *file;
    *out = NULL;
    pq_status st = pq_file_map(ctx, &file, path);
    if (st != PQ_OK) return st;
    st = pq_prefix(ctx, pq_state_parse(ctx, out, file), "%s", path);
    pq_buf_unref(file);
    return st;
}

/* ---- tensors ---- */

static pq_status load_storage(pq_ctx *ctx, pq_state *s, storage *g)
{
    pq_status st;
    char *name = NULL;
    if (g->buf) return PQ_OK;
    PQ_TRY(pq_asprintf(ctx, &name, "data/%s", g->key));
    PQ_TRY(read_member(ctx, &g->buf, s, name));
    if (pq_buf_bytes(g->buf) < g->bytes) {
        st = pq_fail(ctx, PQ_E_FORMAT, "storage '%s' has %zu bytes, expected %zu", g->key,
                     pq_buf_bytes(g->buf), g->bytes);
        pq_buf_unref(g->buf);
        g->buf = NULL;
    }
out:
    pq_free(name);
    return st;
}

/* Every element lies in the storage. */
static pq_status check_extent(pq_ctx *ctx, const pq_state_entry *e, int64_t n, int64_t room)
{
    char text[200];
    int64_t last = e->offset, reach;
    bool over = false;
    for (int i = 0; i < e->shape.rank && n; i++)
        over |= __builtin_mul_overflow(e->shape.dim[i] - 1, e->stride[i], &reach) ||
                __builtin_add_overflow(last, reach, &last);
    if (n < 0 || over || (n && last >= room) || e->offset > room)
        return pq_fail(
            ctx, PQ_E_FORMAT, "shape %s at element %lld lies outside its storage of %lld elements",
            pq_shape_text(&e->shape, text, sizeof text), (long long)e->offset, (long long)room);
    if (n > room)
        return pq_fail(ctx, PQ_E_UNSUPPORTED,
                       "an expanded tensor: %lld elements over a storage of %lld", (long long)n,
                       (long long)room);
    return PQ_OK;
}

static bool is_dense(const pq_state_entry *e)
{
    int64_t step = 1;
    for (int i = e->shape.rank - 1; i >= 0; i--) {
        if (e->shape.dim[i] != 1 && e->stride[i] != step) return false;
        step *= e->shape.dim[i];
    }
    return true;
}

/* n elements to dst; src is at least as aligned as its type needs, or is copied bytewise. */
static void gather(uint8_t *dst, const uint8_t *src, const pq_state_entry *e, int64_t n)
{
    const size_t size = pq_dtype_size(e->dtype);
    int64_t at[PQ_MAX_RANK] = {0}, from = 0;
    for (int64_t i = 0; i < n; i++) {
        memcpy(dst + (size_t)i * size, src + (size_t)from * size, size);
        for (int k = e->shape.rank - 1; k >= 0; k--) {
            from += e->stride[k];
            if (++at[k] < e->shape.dim[k]) break;
            from -= at[k] * e->stride[k];
            at[k] = 0;
        }
    }
}

/* Multiplying by 2^112 moves the exponent from float16's bias to float32's, subnormals included;
 * infinities and NaNs come out finite, so the caller looks for them. */
static void f16_to_f32(float *dst, const uint16_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        union {
            uint32_t u;
            float f;
        } v = {(uint32_t)(src[i] & 0x7fffu) << 13};
        v.f *= 0x1p112f;
        v.u |= (uint32_t)(src[i] & 0x8000u) << 16;
        dst[i] = v.f;
    }
}

/* Index of the first NaN or infinity, n if there is none. */
static size_t first_not_finite(pq_dtype t, const void *data, size_t n)
{
    uint32_t bad = 0;
    if (t == PQ_F16) {
        const uint16_t *h = data;
        for (size_t i = 0; i < n; i++) bad |= (h[i] & 0x7c00u) == 0x7c00u;
    } else if (t == PQ_F32) {
        const uint32_t *u = data;
        for (size_t i = 0; i < n; i++) bad |= (u[i] & 0x7f800000u) == 0x7f800000u;
    } else
        bad = 1;
    for (size_t i = 0; bad && i < n; i++) {
        double v = pq_element(t, data, i);
        if (!(v - v == 0)) return i;
    }
    return n;
}

/* src: dense elements of e->dtype. */
static pq_status convert(pq_ctx *ctx, pq_tensor *out, const pq_state_entry *e, pq_buf *src,
                         size_t n)
{
    const void *p = pq_buf_data(src);
    const bool real = e->dtype <= PQ_F64;
    if (real) {
        size_t bad = first_not_finite(e->dtype, p, n);
        if (bad < n)
            return pq_fail(ctx, PQ_E_FORMAT, "element %zu is %g, expected a finite number", bad,
                           pq_element(e->dtype, p, bad));
    }
    if (e->dtype == PQ_F32 || e->dtype == PQ_S64) {
        *out = (pq_tensor){e->dtype, e->shape, pq_buf_ref(src)};
        return PQ_OK;
    }
    pq_status st = pq_tensor_new(ctx, out, real ? PQ_F32 : PQ_S64, &e->shape);
    if (st != PQ_OK) return st;
    if (e->dtype == PQ_F16)
        f16_to_f32(pq_tensor_data(out), p, n);
    else if (real)
        pq_to_f32(pq_tensor_data(out), e->dtype, p, n);
    else
        for (size_t i = 0; i < n; i++)
            ((int64_t *)pq_tensor_data(out))[i] = (int64_t)pq_element(e->dtype, p, i);
    for (size_t i = 0; e->dtype == PQ_F64 && i < n; i++) {
        float v = ((float *)pq_tensor_data(out))[i];
        if (v - v == 0) continue;
        pq_tensor_clear(out);
        return pq_fail(ctx, PQ_E_FORMAT, "element %zu is %g, too large for float32", i,
                       pq_element(e->dtype, p, i));
    }
    return PQ_OK;
}

static pq_status tensor_of(pq_ctx *ctx, pq_tensor *out, pq_state *s, const pq_state_entry *e)
{
    storage *g = &s->storage[e->storage];
    const size_t size = pq_dtype_size(e->dtype);
    const int64_t n = pq_shape_count(&e->shape);
    pq_buf *dense = NULL;
    pq_status st = check_extent(ctx, e, n, (int64_t)(g->bytes / size));
    if (st != PQ_OK) return st;
    PQ_TRY(load_storage(ctx, s, g));
    if (e->offset == 0 && is_dense(e))
        dense = pq_buf_ref(g->buf);
    else {
        PQ_TRY(pq_buf_new(ctx, &dense, (size_t)n * size));
        const uint8_t *src = (const uint8_t *)pq_buf_data(g->buf) + (size_t)e->offset * size;
        if (is_dense(e)) {
            if (n) memcpy(pq_buf_data(dense), src, (size_t)n * size);
        } else
            gather(pq_buf_data(dense), src, e, n);
    }
    st = convert(ctx, out, e, dense, (size_t)n);
out:
    pq_buf_unref(dense);
    return st;
}

pq_status pq_state_tensor(pq_ctx *ctx, pq_tensor *out, pq_state *s, const pq_state_entry *e)
{
    memset(out, 0, sizeof *out);
    return pq_prefix(ctx, tensor_of(ctx, out, s, e), "tensor '%s'", e->name);
}

pq_status pq_read_pth(pq_ctx *ctx, pq_graph **out, const char *path, const pq_read_opts *opts)
{
    pq_state *s = NULL;
    *out = NULL;
    pq_status st = pq_state_load(ctx, &s, path);
    if (st == PQ_OK) st = pq_prefix(ctx, pq_damoyolo_read(ctx, out, s, opts), "%s", path);
    pq_state_free(s);
    return st;
}
