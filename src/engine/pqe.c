/* Writing a .pqe; its layout stands in pqe.h. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/pqe_internal.h"
#include "engine/weights.h"
#include "plan/names.h"

const uint8_t pqe_magic[8] = {'P', 'Q', 'E', '\r', '\n', 0x1a, '\n', 0};

bool pq_pqe_is(const void *data, size_t bytes)
{
    return bytes >= sizeof pqe_magic && memcmp(data, pqe_magic, sizeof pqe_magic) == 0;
}

typedef struct blob {
    const void *data;
    size_t bytes;
    void *owned; /* freed with the writer */
} blob;

enum { AXIS_UNREAD = -2, AXIS_FLOAT = -1 };

typedef struct writer {
    pq_ctx *ctx;
    const pq_graph *g;
    pq_binding b;
    int *axis; /* per value: output channels of a constant stored as int8, or AXIS_… */
    blob *blob;
    size_t n_blobs, room;
    uint64_t payload;
} writer;

/* Takes `owned`, on failure too. */
static pq_status add_blob(writer *w, cJSON *to, const char *key, const void *data, size_t bytes,
                          void *owned)
{
    pq_status st;
    if (w->n_blobs == w->room) {
        const size_t room = 2 * w->room + 256;
        st = pq_grow(w->ctx, &w->blob, w->n_blobs, room, sizeof *w->blob);
        if (st != PQ_OK) {
            pq_free(owned);
            return st;
        }
        w->room = room;
    }
    w->blob[w->n_blobs++] = (blob){data, bytes, owned};
    const bool ok = cJSON_AddNumberToObject(to, key, (double)w->payload) != NULL;
    w->payload += pqe_padded(bytes);
    return ok ? PQ_OK : pq_json_check(w->ctx, NULL);
}

/* A constant is stored as int8 when INT8 nodes alone read it, as weights with the same channels. */
static void find_int8(writer *w)
{
    const pq_graph *g = w->g;
    for (size_t i = 0; i < g->n_values; i++) w->axis[i] = AXIS_UNREAD;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        for (int k = 0; k < n->n_in; k++) {
            if (n->in[k] == PQ_NONE || !g->value[n->in[k]].data) continue;
            int *axis = &w->axis[n->in[k]], want = AXIS_FLOAT;
            if (k == 1 && pq_op_is_weighted(n->op) && n->quant_index >= 0 &&
                w->b.precision[i] == PQ_PREC_INT8)
                want = pq_weight_axis(g, n);
            *axis = *axis == AXIS_UNREAD || *axis == want ? want : AXIS_FLOAT;
        }
    }
    for (size_t i = 0; i < g->n_outputs; i++) w->axis[g->output[i]] = AXIS_FLOAT;
}

/* q * scale rounded to float and quantized again must be q. */
static bool comes_back(const int8_t *q, const float *scale, const pq_shape *shape, int axis)
{
    const int64_t n = pq_shape_count(shape), channels = shape->dim[axis];
    int64_t inner = 1;
    for (int i = axis + 1; i < shape->rank; i++) inner *= shape->dim[i];
    for (int64_t i = 0; i < n; i++) {
        const float s = scale[i / inner % channels];
        const float v = (float)q[i] * s / s;
        if (!(v > (float)q[i] - 0.4f && v < (float)q[i] + 0.4f)) return false;
    }
    return true;
}

static pq_status check_scale(writer *w, const pq_value *v, int axis, const pq_tensor *scale)
{
    const int64_t n = pq_shape_count(&scale->shape);
    if (axis < 0 || n == v->shape.dim[axis]) return PQ_OK;
    return pq_fail(w->ctx, PQ_E_INVALID, "plan: weight '%s' has %lld scales, expected %lld",
                   v->name, (long long)n, (long long)v->shape.dim[axis]);
}

static pq_status add_constant(writer *w, cJSON *o, pq_value_id id)
{
    const pq_value *v = &w->g->value[id];
    const pq_plan_weight *fix = w->b.weight[id];
    const void *data = fix ? pq_tensor_data(&fix->data) : pq_buf_data(v->data);
    const float *given = fix && fix->scale.buf ? pq_tensor_data(&fix->scale) : NULL;
    const int64_t n = pq_shape_count(&v->shape);
    const int axis = w->axis[id];
    int8_t *q = NULL;
    float *scale = NULL;
    pq_status st;
    if (given) PQ_TRY(check_scale(w, v, axis, &fix->scale));
    if (axis >= 0) {
        PQ_TRY(pq_plan_quantize_weights(w->ctx, &q, &scale, data, &v->shape, axis, given));
        if (comes_back(q, scale, &v->shape, axis)) {
            int8_t *const integers = q;
            q = NULL;
            PQ_TRY(add_blob(w, o, "int8", integers, (size_t)n, integers));
            float *const channels = scale;
            scale = NULL;
            PQ_TRY(add_blob(w, o, "scale", channels, (size_t)v->shape.dim[axis] * sizeof *channels,
                            channels));
            st = pq_json_check(w->ctx, cJSON_AddNumberToObject(o, "axis", axis));
            goto out;
        }
    }
    PQ_TRY(add_blob(w, o, "data", data, (size_t)n * pq_dtype_size(v->dtype), NULL));
    if (given) {
        const size_t channels = (size_t)pq_shape_count(&fix->scale.shape);
        PQ_TRY(add_blob(w, o, "scale", given, channels * sizeof *given, NULL));
        st = pq_json_check(w->ctx, cJSON_AddNumberToObject(o, "n_scale", (double)channels));
    }
out:
    pq_free(q);
    pq_free(scale);
    return st;
}

static bool add_ids(cJSON *o, const char *key, const uint32_t *id, size_t n)
{
    cJSON *list = cJSON_AddArrayToObject(o, key);
    for (size_t i = 0; list && i < n; i++)
        if (!cJSON_AddItemToArray(list, id[i] == PQ_NONE ? cJSON_CreateNull()
                                                         : cJSON_CreateNumber((double)id[i])))
            return false;
    return list != NULL;
}

static pq_status add_values(writer *w, cJSON *header)
{
    const pq_graph *g = w->g;
    cJSON *list = cJSON_AddArrayToObject(header, "values");
    pq_status st = pq_json_check(w->ctx, list);
    for (size_t i = 0; st == PQ_OK && i < g->n_values; i++) {
        const pq_value *v = &g->value[i];
        cJSON *o = cJSON_CreateObject(), *shape = NULL;
        bool ok = cJSON_AddItemToArray(list, o) && cJSON_AddStringToObject(o, "name", v->name) &&
                  cJSON_AddStringToObject(o, "dtype", pq_dtype_name(v->dtype)) &&
                  (shape = cJSON_AddArrayToObject(o, "shape")) != NULL;
        for (int k = 0; ok && k < v->shape.rank; k++)
            ok = cJSON_AddItemToArray(shape, pqe_int(v->shape.dim[k]));
        st = ok ? PQ_OK : pq_json_check(w->ctx, NULL);
        if (st == PQ_OK && v->data) st = add_constant(w, o, (pq_value_id)i);
    }
    return st;
}

static pq_status add_nodes(writer *w, cJSON *header)
{
    const pq_graph *g = w->g;
    cJSON *list = cJSON_AddArrayToObject(header, "nodes");
    bool ok = list != NULL;
    for (size_t i = 0; ok && i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        cJSON *o = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(list, o) && cJSON_AddStringToObject(o, "name", n->name) &&
             cJSON_AddStringToObject(o, "op", pq_op_name(n->op)) &&
             cJSON_AddStringToObject(o, "type", n->type) &&
             add_ids(o, "in", n->in, (size_t)n->n_in) &&
             add_ids(o, "out", n->out, (size_t)n->n_out) &&
             cJSON_AddItemToObject(o, "attr", pqe_attr_json(&n->attr));
        if (ok && n->quant_index >= 0)
            ok = cJSON_AddNumberToObject(o, "quant_index", n->quant_index) &&
                 cJSON_AddStringToObject(o, "precision", pq_precision_name(w->b.precision[i]));
    }
    return ok ? PQ_OK : pq_json_check(w->ctx, NULL);
}

static pq_status add_plan(writer *w, cJSON *header)
{
    const pq_plan *p = w->b.plan;
    cJSON *o = cJSON_AddObjectToObject(header, "plan"), *list = NULL;
    bool ok = cJSON_AddStringToObject(o, "graph_hash", p->graph_hash) &&
              cJSON_AddStringToObject(o, "scheme", p->scheme == PQ_SCHEME_U8 ? "u8" : "s8") &&
              cJSON_AddStringToObject(o, "base", pq_precision_name(p->base)) &&
              (!p->rounds_outputs || cJSON_AddTrueToObject(o, "rounds_outputs")) &&
              (list = cJSON_AddArrayToObject(o, "tensors")) != NULL;
    for (size_t i = 0; ok && i < w->g->n_values; i++) {
        const pq_plan_tensor *t = w->b.tensor[i];
        if (!t) continue;
        cJSON *e = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(list, e) && cJSON_AddNumberToObject(e, "value", (double)i) &&
             cJSON_AddItemToObject(e, "scale", pqe_float(t->scale)) &&
             cJSON_AddNumberToObject(e, "zero_point", t->zero_point);
    }
    return ok ? PQ_OK : pq_json_check(w->ctx, NULL);
}

static pq_status add_facts(writer *w, cJSON *header)
{
    const pq_graph *g = w->g;
    cJSON *meta = NULL;
    bool ok = cJSON_AddStringToObject(header, "pquant", PQ_VERSION_STRING) &&
              cJSON_AddStringToObject(header, "family", g->family) &&
              cJSON_AddNumberToObject(header, "opset", g->opset) &&
              (meta = cJSON_AddArrayToObject(header, "meta")) != NULL &&
              add_ids(header, "inputs", g->input, g->n_inputs) &&
              add_ids(header, "outputs", g->output, g->n_outputs);
    for (size_t i = 0; ok && g->meta && g->meta[i]; i++)
        ok = cJSON_AddItemToArray(meta, cJSON_CreateString(g->meta[i]));
    return ok ? PQ_OK : pq_json_check(w->ctx, NULL);
}

static void put_u64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static const uint8_t zeros[PQE_ALIGN];

static size_t tail(size_t bytes) { return (size_t)(pqe_padded(bytes) - bytes); }

static pq_status write_file(writer *w, const char *path, const char *text)
{
    const size_t n = strlen(text);
    uint8_t pre[PQE_PREAMBLE] = {0}, spaces[PQE_ALIGN];
    char hex[65];
    pq_sha256 sha;
    pq_out f;
    memset(spaces, ' ', sizeof spaces);
    pq_sha256_init(&sha);
    pq_sha256_add(&sha, text, n);
    pq_sha256_add(&sha, spaces, tail(n));
    for (size_t i = 0; i < w->n_blobs; i++) {
        pq_sha256_add(&sha, w->blob[i].data, w->blob[i].bytes);
        pq_sha256_add(&sha, zeros, tail(w->blob[i].bytes));
    }
    pq_sha256_hex(&sha, hex);
    memcpy(pre, pqe_magic, sizeof pqe_magic);
    pre[PQE_AT_VERSION] = PQE_VERSION;
    put_u64(pre + PQE_AT_HEADER, pqe_padded(n));
    put_u64(pre + PQE_AT_PAYLOAD, w->payload);
    memcpy(pre + PQE_AT_HASH, hex, 64);

    pq_status st = pq_out_open(w->ctx, &f, path);
    if (st != PQ_OK) return st;
    fwrite(pre, 1, sizeof pre, f.f); /* errors are sticky: pq_out_commit sees them */
    fwrite(text, 1, n, f.f);
    fwrite(spaces, 1, tail(n), f.f);
    for (size_t i = 0; i < w->n_blobs; i++) {
        fwrite(w->blob[i].data, 1, w->blob[i].bytes, f.f);
        fwrite(zeros, 1, tail(w->blob[i].bytes), f.f);
    }
    return pq_out_commit(w->ctx, &f);
}

pq_status pq_pqe_save(pq_ctx *ctx, const char *path, const pq_graph *g, const pq_plan *plan)
{
    writer w = {.ctx = ctx, .g = g};
    cJSON *header = NULL;
    char *text = NULL;
    pq_status st;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->node[i].dead)
            return pq_fail(ctx, PQ_E_INVALID, "graph with removed nodes, expected a compacted one");
    PQ_TRY(pq_plan_bind(ctx, &w.b, plan, g));
    PQ_TRY(pq_alloc(ctx, &w.axis, g->n_values, sizeof *w.axis));
    find_int8(&w);
    header = cJSON_CreateObject();
    PQ_TRY(pq_json_check(ctx, header));
    PQ_TRY(add_facts(&w, header));
    PQ_TRY(add_plan(&w, header));
    PQ_TRY(add_nodes(&w, header));
    PQ_TRY(add_values(&w, header));
    text = cJSON_PrintUnformatted(header);
    if (!text) {
        st = pq_fail(ctx, PQ_E_NOMEM, "%s: no memory for its header", path);
        goto out;
    }
    st = write_file(&w, path, text);
out:
    for (size_t i = 0; i < w.n_blobs; i++) pq_free(w.blob[i].owned);
    pq_free(w.blob);
    pq_free(w.axis);
    pq_binding_clear(&w.b);
    cJSON_free(text);
    cJSON_Delete(header);
    return st;
}
