/* ONNX tensors into constants: raw bytes, typed members or a file beside the model. Every float
 * type becomes float32, so that a network written in float16 is read as the float32 network whose
 * weights those are. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "read/onnx_internal.h"

bool pq_onnx_dtype(int32_t type, pq_dtype *dtype, pq_dtype *stored)
{
    switch (type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT: *stored = PQ_F32; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16: *stored = PQ_F16; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16: *stored = PQ_BF16; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE: *stored = PQ_F64; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT8: *stored = PQ_S8; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT8: *stored = PQ_U8; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT16: *stored = PQ_S16; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT32: *stored = PQ_S32; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64: *stored = PQ_S64; break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__BOOL: *stored = PQ_BOOL; break;
    default: return false;
    }
    *dtype = *stored == PQ_F16 || *stored == PQ_BF16 || *stored == PQ_F64 ? PQ_F32 : *stored;
    return true;
}

/* A relative path that does not climb out of its folder. */
static bool path_stays_inside(const char *path)
{
    if (!path[0] || path[0] == '/' || strchr(path, '\\')) return false;
    for (const char *p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
        if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || !p[2])) return false;
    return true;
}

static bool parse_size(const char *text, uint64_t *out)
{
    char *end;
    if (text[0] < '0' || text[0] > '9') return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return !*end && errno == 0;
}

/* The bytes of a tensor that lie in another file; *map keeps them. */
static pq_status external(pq_onnx_reader *r, const Onnx__TensorProto *t, size_t bytes, pq_buf **map,
                          const uint8_t **data)
{
    pq_status st;
    char *path = NULL;
    const char *location = "";
    uint64_t offset = 0, length = bytes;
    for (size_t i = 0; i < t->n_external_data; i++) {
        const char *key = t->external_data[i]->key, *value = t->external_data[i]->value;
        if (!key || !value) continue;
        bool ok = true;
        if (strcmp(key, "location") == 0) location = value;
        if (strcmp(key, "offset") == 0) ok = parse_size(value, &offset);
        if (strcmp(key, "length") == 0) ok = parse_size(value, &length);
        if (!ok)
            return pq_fail(r->ctx, PQ_E_FORMAT, "external data: %s '%s' is not a size", key, value);
    }
    if (!r->folder)
        return pq_fail(r->ctx, PQ_E_UNSUPPORTED,
                       "external data in '%s', but the model is not read from a folder", location);
    if (!path_stays_inside(location))
        return pq_fail(r->ctx, PQ_E_FORMAT,
                       "external data in '%s', expected a path inside the model's folder",
                       location);
    PQ_TRY(pq_path_join(r->ctx, &path, r->folder, location));
    PQ_TRY(pq_file_map(r->ctx, map, path));
    if (!pq_file_is_below(path, r->folder)) {
        st = pq_fail(r->ctx, PQ_E_FORMAT,
                     "external data in '%s' is a link out of the model's folder, expected a file "
                     "inside",
                     location);
        goto out;
    }
    const size_t size = pq_buf_bytes(*map);
    if (length != bytes || offset > size || length > size - offset) {
        st = pq_fail(r->ctx, PQ_E_FORMAT,
                     "external data '%s': %llu bytes from %llu on in a file of %zu, expected %zu "
                     "bytes",
                     location, (unsigned long long)length, (unsigned long long)offset, size, bytes);
        goto out;
    }
    *data = (const uint8_t *)pq_buf_data(*map) + offset;
out:
    pq_free(path);
    return st;
}

/* Elements in the typed member for this dtype; narrow types sit in int32_data, one each. */
static size_t typed_count(const Onnx__TensorProto *t, pq_dtype stored)
{
    switch (stored) {
    case PQ_F32: return t->n_float_data;
    case PQ_F64: return t->n_double_data;
    case PQ_S64: return t->n_int64_data;
    default: return t->n_int32_data;
    }
}

static void copy_typed(void *to, const Onnx__TensorProto *t, pq_dtype stored, size_t n)
{
    for (size_t i = 0; i < n; i++) switch (stored) {
        case PQ_F32: ((float *)to)[i] = t->float_data[i]; break;
        case PQ_F64: ((double *)to)[i] = t->double_data[i]; break;
        case PQ_S64: ((int64_t *)to)[i] = t->int64_data[i]; break;
        case PQ_S32: ((int32_t *)to)[i] = t->int32_data[i]; break;
        case PQ_F16:
        case PQ_BF16: ((uint16_t *)to)[i] = (uint16_t)t->int32_data[i]; break;
        case PQ_S16: ((int16_t *)to)[i] = (int16_t)t->int32_data[i]; break;
        case PQ_S8: ((int8_t *)to)[i] = (int8_t)t->int32_data[i]; break;
        case PQ_U8: ((uint8_t *)to)[i] = (uint8_t)t->int32_data[i]; break;
        case PQ_BOOL: ((uint8_t *)to)[i] = t->int32_data[i] != 0; break;
        case PQ_DTYPE_COUNT: break;
        }
}

static pq_status get_shape(pq_ctx *ctx, const Onnx__TensorProto *t, pq_shape *shape, size_t *n)
{
    char text[160];
    if (t->n_dims > PQ_MAX_RANK)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "%zu dimensions, at most %d", t->n_dims, PQ_MAX_RANK);
    shape->rank = (int)t->n_dims;
    for (int i = 0; i < shape->rank; i++) shape->dim[i] = t->dims[i];
    const int64_t count = pq_shape_count(shape);
    if (count < 0 || count > INT64_C(1) << 40)
        return pq_fail(ctx, PQ_E_FORMAT, "shape %s", pq_shape_text(shape, text, sizeof text));
    *n = (size_t)count;
    return PQ_OK;
}

/* NaN is nobody's intention; infinity may be a bound or a mask, but not a weight (2 dimensions or
 * more). */
static pq_status check_finite(pq_ctx *ctx, const pq_tensor *t, size_t n)
{
    const float *x = pq_tensor_data(t);
    if (t->dtype != PQ_F32) return PQ_OK;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]) && (isnan(x[i]) || t->shape.rank >= 2))
            return pq_fail(ctx, PQ_E_FORMAT, "element %zu is %g, expected a finite number", i,
                           (double)x[i]);
    return PQ_OK;
}

pq_status pq_onnx_tensor(pq_onnx_reader *r, pq_tensor *out, const Onnx__TensorProto *t)
{
    pq_status st;
    pq_dtype dtype, stored;
    pq_shape shape;
    size_t n = 0;
    pq_buf *map = NULL;
    pq_tensor narrow = {0};
    const uint8_t *raw = NULL;
    memset(out, 0, sizeof *out);
    if (!pq_onnx_dtype(t->data_type, &dtype, &stored))
        return pq_fail(r->ctx, PQ_E_UNSUPPORTED, "element type %d is not supported",
                       (int)t->data_type);
    PQ_TRY(get_shape(r->ctx, t, &shape, &n));
    const size_t bytes = n * pq_dtype_size(stored);
    if (t->has_data_location && t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
        PQ_TRY(external(r, t, bytes, &map, &raw));
    } else if (t->has_raw_data) {
        if (t->raw_data.len != bytes) {
            st = pq_fail(r->ctx, PQ_E_FORMAT, "%zu bytes, expected %zu", t->raw_data.len, bytes);
            goto out;
        }
        raw = t->raw_data.data;
    } else if (typed_count(t, stored) != n) {
        st = pq_fail(r->ctx, PQ_E_FORMAT, "%zu elements, expected %zu", typed_count(t, stored), n);
        goto out;
    }
    PQ_TRY(pq_tensor_new(r->ctx, &narrow, stored, &shape));
    if (raw && bytes)
        memcpy(pq_tensor_data(&narrow), raw, bytes);
    else if (!raw)
        copy_typed(pq_tensor_data(&narrow), t, stored, n);
    if (stored != dtype) {
        PQ_TRY(pq_tensor_new(r->ctx, out, dtype, &shape));
        pq_to_f32(pq_tensor_data(out), stored, pq_tensor_data(&narrow), n);
    } else {
        *out = narrow;
        memset(&narrow, 0, sizeof narrow);
    }
    st = check_finite(r->ctx, out, n);
out:
    if (st != PQ_OK) pq_tensor_clear(out);
    pq_tensor_clear(&narrow);
    pq_buf_unref(map);
    return st;
}

pq_status pq_onnx_constant(pq_onnx_reader *r, pq_value_id *out, const char *name,
                           const Onnx__TensorProto *t)
{
    pq_tensor data;
    *out = PQ_NONE;
    pq_status st = pq_onnx_tensor(r, &data, t);
    if (st != PQ_OK) return pq_prefix(r->ctx, st, "tensor '%s'", name);
    st = pq_graph_add_const(r->ctx, out, r->g, name, data.dtype, &data.shape, data.buf);
    pq_tensor_clear(&data);
    return st;
}
