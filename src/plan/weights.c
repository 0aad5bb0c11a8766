/* Corrected weights beside a JSON file (safetensors: 8 bytes little-endian length of a JSON header,
 * the header, the tensors' bytes; github.com/huggingface/safetensors). */
#include "plan/weights.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"

static pq_status add_tensor(pq_ctx *ctx, cJSON *header, const char *name, const char *suffix,
                            const pq_tensor *t, size_t *offset)
{
    char *key = NULL;
    pq_status st = pq_asprintf(ctx, &key, "%s%s", name, suffix);
    if (st != PQ_OK) return st;
    const size_t bytes = pq_buf_bytes(t->buf);
    cJSON *o = cJSON_AddObjectToObject(header, key), *shape, *span;
    pq_free(key);
    if (!cJSON_AddStringToObject(o, "dtype", "F32") ||
        !(shape = cJSON_AddArrayToObject(o, "shape")) ||
        !(span = cJSON_AddArrayToObject(o, "data_offsets")))
        return pq_json_check(ctx, NULL);
    for (int i = 0; i < t->shape.rank; i++)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t->shape.dim[i]));
    cJSON_AddItemToArray(span, cJSON_CreateNumber((double)*offset));
    cJSON_AddItemToArray(span, cJSON_CreateNumber((double)(*offset + bytes)));
    *offset += bytes;
    return PQ_OK;
}

static void put(pq_out *f, pq_sha256 *hash, const void *data, size_t n)
{
    pq_sha256_add(hash, data, n);
    fwrite(data, 1, n, f->f);
}

static pq_status write(pq_ctx *ctx, const pq_plan_weight *w, size_t n, const char *path,
                       char hex[65])
{
    pq_status st;
    pq_out f = {0};
    pq_sha256 hash;
    char *text = NULL;
    size_t offset = 0;
    cJSON *header = cJSON_CreateObject();
    PQ_TRY(pq_json_check(ctx, header));
    for (size_t i = 0; i < n; i++) {
        PQ_TRY(add_tensor(ctx, header, w[i].name, "", &w[i].data, &offset));
        if (w[i].scale.buf)
            PQ_TRY(add_tensor(ctx, header, w[i].name, "@scale", &w[i].scale, &offset));
    }
    text = cJSON_PrintUnformatted(header);
    if (!text) {
        st = pq_fail(ctx, PQ_E_NOMEM, "%s: no memory for its header", path);
        goto out;
    }
    PQ_TRY(pq_out_open(ctx, &f, path));
    pq_sha256_init(&hash);
    const uint64_t n_text = strlen(text);
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)(n_text >> 8 * i);
    put(&f, &hash, length, 8);
    put(&f, &hash, text, (size_t)n_text);
    for (size_t i = 0; i < n; i++) {
        put(&f, &hash, pq_tensor_data(&w[i].data), pq_buf_bytes(w[i].data.buf));
        if (w[i].scale.buf)
            put(&f, &hash, pq_tensor_data(&w[i].scale), pq_buf_bytes(w[i].scale.buf));
    }
    pq_sha256_hex(&hash, hex);
    st = pq_out_commit(ctx, &f);
out:
    pq_out_abort(&f);
    cJSON_free(text);
    cJSON_Delete(header);
    return st;
}

static char *beside(pq_ctx *ctx, pq_status *st, const char *path, const char *name)
{
    char *dir = NULL, *out = NULL;
    *st = pq_strdup(ctx, &dir, path);
    if (*st != PQ_OK) return NULL;
    dir[pq_path_base(path) - path] = 0;
    *st = pq_path_join(ctx, &out, dir, name);
    pq_free(dir);
    return out;
}

typedef struct list {
    pq_plan_weight *w;
    size_t n;
} list;

static pq_status load_tensor(pq_ctx *ctx, pq_tensor *out, const cJSON *o, const uint8_t *data,
                             size_t n_data)
{
    const cJSON *shape, *span, *v;
    const char *dtype;
    pq_shape s = {0};
    pq_status st = pq_json_string(ctx, &dtype, o, "dtype", o->string);
    if (st == PQ_OK) st = pq_json_array(ctx, &shape, o, "shape", o->string);
    if (st == PQ_OK) st = pq_json_array(ctx, &span, o, "data_offsets", o->string);
    if (st != PQ_OK) return st;
    if (strcmp(dtype, "F32") != 0)
        return pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': dtype '%s', expected 'F32'", o->string,
                       dtype);
    cJSON_ArrayForEach(v, shape)
    {
        if (s.rank == PQ_MAX_RANK || !cJSON_IsNumber(v) || v->valuedouble < 0 ||
            v->valuedouble > 1e9)
            return pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': bad shape", o->string);
        s.dim[s.rank++] = (int64_t)v->valuedouble;
    }
    const cJSON *b = cJSON_GetArrayItem(span, 0), *e = cJSON_GetArrayItem(span, 1);
    const int64_t n = pq_shape_count(&s);
    const double begin = cJSON_IsNumber(b) ? b->valuedouble : -1;
    const double end = cJSON_IsNumber(e) ? e->valuedouble : -1;
    if (n < 0 || begin < 0 || begin > (double)n_data || (uint64_t)n > (n_data - (size_t)begin) / 4)
        return pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': lies outside the file's %zu bytes",
                       o->string, n_data);
    if (end != begin + 4 * (double)n)
        return pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': ends at byte %.0f, expected %.0f", o->string,
                       end, begin + 4 * (double)n);
    st = pq_tensor_new(ctx, out, PQ_F32, &s);
    if (st == PQ_OK) memcpy(pq_tensor_data(out), data + (size_t)begin, (size_t)n * 4);
    return st;
}

/* "name@scale" belongs to the weight "name", which stands before it. */
static pq_status load_scale(pq_ctx *ctx, list *l, const cJSON *o, size_t n_name,
                            const uint8_t *data, size_t n_data)
{
    pq_tensor *to = NULL;
    for (size_t i = 0; i < l->n; i++)
        if (strlen(l->w[i].name) == n_name && memcmp(l->w[i].name, o->string, n_name) == 0)
            to = &l->w[i].scale;
    if (!to || to->buf)
        return pq_fail(ctx, PQ_E_FORMAT, "tensor '%s': %s, expected one scale behind its weight",
                       o->string, to ? "a second scale" : "no such weight");
    pq_status st = load_tensor(ctx, to, o, data, n_data);
    const float *s = st == PQ_OK ? pq_tensor_data(to) : NULL;
    for (int64_t i = 0; st == PQ_OK && i < pq_shape_count(&to->shape); i++)
        if (!isfinite(s[i]) || s[i] <= 0)
            return pq_fail(ctx, PQ_E_FORMAT,
                           "tensor '%s': element %" PRId64 " is %g, expected "
                           "above 0",
                           o->string, i, (double)s[i]);
    return st;
}

static pq_status parse(pq_ctx *ctx, list *l, const uint8_t *d, size_t n, const char *path)
{
    static const char suffix[] = "@scale";
    const size_t n_suffix = sizeof suffix - 1;
    pq_status st = PQ_OK;
    uint64_t length = 0;
    for (int i = 0; i < 8 && n >= 8; i++) length |= (uint64_t)d[i] << 8 * i;
    if (n < 8 || length > n - 8)
        return pq_fail(ctx, PQ_E_FORMAT, "%s: truncated, header of %" PRIu64 " bytes in %zu", path,
                       length, n);
    const uint8_t *data = d + 8 + length;
    const size_t n_data = n - 8 - (size_t)length;
    cJSON *header = NULL;
    PQ_TRY(pq_json_parse(ctx, &header, (const char *)d + 8, (size_t)length, path));
    if (!cJSON_IsObject(header)) {
        st = pq_fail(ctx, PQ_E_FORMAT, "header is no JSON object");
        goto out;
    }
    PQ_TRY(pq_alloc(ctx, &l->w, (size_t)cJSON_GetArraySize(header), sizeof *l->w));
    for (const cJSON *o = header->child; o; o = o->next) {
        const size_t n_name = strlen(o->string);
        if (strcmp(o->string, "__metadata__") == 0) continue;
        if (n_name > n_suffix && strcmp(o->string + n_name - n_suffix, suffix) == 0) {
            PQ_TRY(load_scale(ctx, l, o, n_name - n_suffix, data, n_data));
            continue;
        }
        pq_plan_weight *w = &l->w[l->n++];
        PQ_TRY(pq_strdup(ctx, &w->name, o->string));
        PQ_TRY(load_tensor(ctx, &w->data, o, data, n_data));
    }
out:
    cJSON_Delete(header);
    return pq_prefix(ctx, st, "%s", path);
}

pq_status pq_weights_load(pq_ctx *ctx, pq_plan_weight **w, size_t *n, const cJSON *entry,
                          const char *json_path)
{
    const char *name, *want;
    char *file = NULL, hex[65];
    pq_buf *bytes = NULL;
    pq_sha256 hash;
    list l = {0};
    pq_status st;
    *w = NULL;
    *n = 0;
    PQ_TRY(pq_json_string(ctx, &name, entry, "file", "weights"));
    PQ_TRY(pq_json_string(ctx, &want, entry, "sha256", "weights"));
    if (strchr(name, '/')) {
        st = pq_fail(ctx, PQ_E_FORMAT, "weights file '%s', expected a name in the same folder",
                     name);
        goto out;
    }
    file = beside(ctx, &st, json_path, name);
    if (st != PQ_OK) goto out;
    PQ_TRY(pq_file_map(ctx, &bytes, file));
    pq_sha256_init(&hash);
    pq_sha256_add(&hash, pq_buf_data(bytes), pq_buf_bytes(bytes));
    pq_sha256_hex(&hash, hex);
    if (strcmp(hex, want) != 0) {
        st = pq_fail(ctx, PQ_E_FORMAT, "%s: SHA-256 %.12s, expected %.12s as in %s", file, hex,
                     want, pq_path_base(json_path));
        goto out;
    }
    PQ_TRY(parse(ctx, &l, pq_buf_data(bytes), pq_buf_bytes(bytes), file));
    *w = l.w;
    *n = l.n;
    l = (list){0};
out:
    pq_weights_free(l.w, l.n);
    pq_free(file);
    pq_buf_unref(bytes);
    return st;
}

pq_status pq_weights_save(pq_ctx *ctx, char **name, char hex[65], const pq_plan_weight *w, size_t n,
                          const char *json_path)
{
    char *stem = NULL, *file = NULL;
    pq_status st;
    *name = NULL;
    PQ_TRY(pq_path_stem(ctx, &stem, json_path));
    PQ_TRY(pq_asprintf(ctx, name, "%s.weights.safetensors", stem));
    file = beside(ctx, &st, json_path, *name);
    if (st == PQ_OK) st = write(ctx, w, n, file, hex);
out:
    pq_free(stem);
    pq_free(file);
    return st;
}

void pq_weights_free(pq_plan_weight *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        pq_free(w[i].name);
        pq_tensor_clear(&w[i].data);
        pq_tensor_clear(&w[i].scale);
    }
    pq_free(w);
}
