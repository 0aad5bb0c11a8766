/* Reading a .pqe. Nothing in the file is believed: sizes and offsets are checked against the file,
 * indices against the lists, shapes against inference, the whole against its hash. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/pqe_internal.h"
#include "engine/weights.h"
#include "plan/names.h"

static const struct {
    const char *name;
    int min_in, max_in, max_out;
} ops[PQ_OP_COUNT] = {
#define X(id, text, lo, hi, outs) {text, lo, hi, outs},
#include <pquant/op.def>
};

typedef struct reader {
    pq_ctx *ctx;
    pq_buf *file;
    const uint8_t *payload;
    uint64_t payload_bytes;
    pq_graph *g;
    pq_plan *plan;
    pq_tensor *scale;        /* per value, or empty */
    pq_precision *precision; /* per node */
    bool *sourced;           /* per value: input, constant or made by a node so far */
} reader;

static uint64_t get_u64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static pq_status open_file(reader *r, cJSON **header, const char *path)
{
    char hex[65];
    pq_sha256 sha;
    pq_status st = pq_file_map(r->ctx, &r->file, path);
    if (st != PQ_OK) return st;
    const uint8_t *p = pq_buf_data(r->file);
    const size_t n = pq_buf_bytes(r->file);
    if (!pq_pqe_is(p, n)) return pq_fail(r->ctx, PQ_E_FORMAT, "%s: no .pqe file", path);
    if (n < PQE_PREAMBLE)
        return pq_fail(r->ctx, PQ_E_FORMAT, "%s: truncated: %zu bytes, expected at least %d", path,
                       n, PQE_PREAMBLE);
    const uint64_t version = get_u64(p + PQE_AT_VERSION), n_header = get_u64(p + PQE_AT_HEADER),
                   rest = n - PQE_PREAMBLE;
    if (version != PQE_VERSION)
        return pq_fail(r->ctx, PQ_E_FORMAT, "%s: version %llu, expected %d", path,
                       (unsigned long long)version, PQE_VERSION);
    r->payload_bytes = get_u64(p + PQE_AT_PAYLOAD);
    if (n_header > rest || n_header % PQE_ALIGN || r->payload_bytes != rest - n_header)
        return pq_fail(r->ctx, PQ_E_FORMAT,
                       "%s: truncated: %zu bytes, expected %d + %llu of header + %llu of payload",
                       path, n, PQE_PREAMBLE, (unsigned long long)n_header,
                       (unsigned long long)r->payload_bytes);
    pq_sha256_init(&sha);
    pq_sha256_add(&sha, p + PQE_PREAMBLE, (size_t)rest);
    pq_sha256_hex(&sha, hex);
    if (memcmp(hex, p + PQE_AT_HASH, 64) != 0)
        return pq_fail(r->ctx, PQ_E_FORMAT, "%s: damaged: SHA-256 %.12s, expected %.12s", path, hex,
                       (const char *)p + PQE_AT_HASH);
    r->payload = p + PQE_PREAMBLE + n_header;
    return pq_json_parse(r->ctx, header, (const char *)p + PQE_PREAMBLE, (size_t)n_header, path);
}

/* Bytes of the payload; 64-byte aligned, inside it. */
static pq_status find_blob(reader *r, const uint8_t **out, const cJSON *o, const char *key,
                           uint64_t bytes, const char *what)
{
    int64_t at;
    *out = NULL;
    pq_status st = pqe_get_int(r->ctx, &at, cJSON_GetObjectItemCaseSensitive(o, key), what, 0,
                               (int64_t)r->payload_bytes);
    if (st != PQ_OK) return st;
    if (at % PQE_ALIGN || bytes > r->payload_bytes - (uint64_t)at)
        return pq_fail(
            r->ctx, PQ_E_FORMAT, "%s: %llu bytes at %lld lie outside the payload of %llu bytes",
            what, (unsigned long long)bytes, (long long)at, (unsigned long long)r->payload_bytes);
    *out = r->payload + at;
    return PQ_OK;
}

static void drop_file(void *user) { pq_buf_unref(user); }

static pq_status read_scale(reader *r, pq_tensor *out, const cJSON *o, int64_t n, const char *what)
{
    const uint8_t *bytes = NULL;
    const pq_shape shape = PQ_SHAPE(n);
    pq_status st = find_blob(r, &bytes, o, "scale", (uint64_t)n * sizeof(float), what);
    if (st == PQ_OK) st = pq_tensor_new(r->ctx, out, PQ_F32, &shape);
    if (st != PQ_OK) return st;
    float *s = pq_tensor_data(out);
    memcpy(s, bytes, (size_t)n * sizeof *s);
    for (int64_t i = 0; i < n; i++)
        if (!(s[i] > 0) || !isfinite(s[i]))
            return pq_fail(r->ctx, PQ_E_FORMAT, "%s: scale %g of channel %lld, expected above 0",
                           what, (double)s[i], (long long)i);
    return PQ_OK;
}

/* int8 and scales into the floats q * scale. */
static pq_status read_int8(reader *r, const cJSON *o, pq_value_id id, int64_t n, const char *what)
{
    pq_value *v = &r->g->value[id];
    const uint8_t *q = NULL;
    int64_t axis, inner = 1;
    if (v->dtype != PQ_F32 || !v->shape.rank)
        return pq_fail(r->ctx, PQ_E_FORMAT, "%s: int8 of %s, expected float32 weights", what,
                       pq_dtype_name(v->dtype));
    pq_status st = pqe_get_int(r->ctx, &axis, cJSON_GetObjectItemCaseSensitive(o, "axis"), what, 0,
                               v->shape.rank - 1);
    if (st == PQ_OK) st = find_blob(r, &q, o, "int8", (uint64_t)n, what);
    if (st == PQ_OK) st = read_scale(r, &r->scale[id], o, v->shape.dim[axis], what);
    if (st == PQ_OK) st = pq_buf_new(r->ctx, &v->data, (size_t)n * sizeof(float));
    if (st != PQ_OK) return st;
    const float *s = pq_tensor_data(&r->scale[id]);
    float *w = pq_buf_data(v->data);
    for (int i = (int)axis + 1; i < v->shape.rank; i++) inner *= v->shape.dim[i];
    for (int64_t i = 0; i < n; i++) w[i] = (float)(int8_t)q[i] * s[i / inner % v->shape.dim[axis]];
    return PQ_OK;
}

static pq_status read_constant(reader *r, const cJSON *o, pq_value_id id)
{
    char what[200];
    pq_value *v = &r->g->value[id];
    const int64_t n = pq_shape_count(&v->shape);
    const uint8_t *bytes = NULL;
    int64_t n_scale;
    pq_status st;
    snprintf(what, sizeof what, "constant '%.120s'", v->name);
    if (n < 0 || n > INT64_C(1) << 40)
        return pq_fail(r->ctx, PQ_E_FORMAT, "%s: no constant has such a shape", what);
    if (cJSON_GetObjectItemCaseSensitive(o, "int8")) return read_int8(r, o, id, n, what);
    const size_t size = (size_t)n * pq_dtype_size(v->dtype);
    PQ_TRY(find_blob(r, &bytes, o, "data", size, what));
    /* A view of the file: only the reference is released with it. */
    PQ_TRY(pq_buf_wrap(r->ctx, &v->data, (void *)(uintptr_t)bytes, size, drop_file, r->file));
    pq_buf_ref(r->file);
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(o, "n_scale");
    if (!given) goto out;
    PQ_TRY(pqe_get_int(r->ctx, &n_scale, given, what, 0, (int64_t)r->payload_bytes));
    st = read_scale(r, &r->scale[id], o, n_scale, what);
out:
    return st;
}

static pq_status read_shape(reader *r, pq_shape *out, const cJSON *list, const char *what)
{
    const cJSON *e;
    pq_status st = PQ_OK;
    memset(out, 0, sizeof *out);
    cJSON_ArrayForEach(e, list)
    {
        if (out->rank == PQ_MAX_RANK)
            return pq_fail(r->ctx, PQ_E_FORMAT, "value '%.120s': more than %d dimensions", what,
                           PQ_MAX_RANK);
        st = pqe_get_int(r->ctx, &out->dim[out->rank++], e, what, 0, INT64_C(1) << 40);
        if (st != PQ_OK) return st;
    }
    return st;
}

static pq_status read_value(reader *r, const cJSON *o, size_t index)
{
    const char *name, *dtype;
    const cJSON *list;
    pq_shape shape;
    pq_value_id id;
    pq_status st;
    char what[32];
    unsigned t = 0;
    snprintf(what, sizeof what, "values[%zu]", index);
    PQ_TRY(pq_json_string(r->ctx, &name, o, "name", what));
    PQ_TRY(pq_json_string(r->ctx, &dtype, o, "dtype", name));
    PQ_TRY(pq_json_array(r->ctx, &list, o, "shape", name));
    while (t < PQ_DTYPE_COUNT && strcmp(dtype, pq_dtype_name((pq_dtype)t)) != 0) t++;
    if (t == PQ_DTYPE_COUNT) {
        st = pq_fail(r->ctx, PQ_E_FORMAT, "value '%.120s': no type '%.20s'", name, dtype);
        goto out;
    }
    PQ_TRY(read_shape(r, &shape, list, name));
    PQ_TRY(pq_graph_add_value(r->ctx, &id, r->g, name, (pq_dtype)t, &shape));
    if (cJSON_GetObjectItemCaseSensitive(o, "int8") || cJSON_GetObjectItemCaseSensitive(o, "data"))
        PQ_TRY(read_constant(r, o, id));
    r->sourced[id] = r->g->value[id].data != NULL;
out:
    return st;
}

static pq_status read_values(reader *r, const cJSON *header)
{
    const cJSON *list, *o;
    size_t i = 0;
    pq_status st;
    PQ_TRY(pq_json_array(r->ctx, &list, header, "values", "header"));
    const size_t n = (size_t)cJSON_GetArraySize(list);
    PQ_TRY(pq_alloc(r->ctx, &r->scale, n, sizeof *r->scale));
    PQ_TRY(pq_alloc(r->ctx, &r->sourced, n, 1));
    cJSON_ArrayForEach(o, list) PQ_TRY(read_value(r, o, i++));
out:
    return st;
}

/* Memory: *out (pq_free). null is an absent input. */
static pq_status read_ids(reader *r, pq_value_id **out, size_t *n, const cJSON *o, const char *key,
                          const char *what)
{
    const cJSON *list, *e;
    int64_t id;
    pq_status st;
    *out = NULL;
    *n = 0;
    PQ_TRY(pq_json_array(r->ctx, &list, o, key, what));
    PQ_TRY(pq_alloc(r->ctx, out, (size_t)cJSON_GetArraySize(list), sizeof **out));
    cJSON_ArrayForEach(e, list)
    {
        id = PQ_NONE;
        if (!cJSON_IsNull(e))
            PQ_TRY(pqe_get_int(r->ctx, &id, e, what, 0, (int64_t)r->g->n_values - 1));
        (*out)[(*n)++] = (pq_value_id)id;
    }
out:
    return st;
}

static pq_status check_ports(reader *r, pq_node_id id, const char *name, const pq_value_id *in,
                             size_t n_in, const pq_value_id *out, size_t n_out)
{
    for (size_t i = 0; i < n_in; i++)
        if (in[i] != PQ_NONE && !r->sourced[in[i]])
            return pq_fail(r->ctx, PQ_E_FORMAT,
                           "node '%.120s': input '%.120s' is not made before it", name,
                           r->g->value[in[i]].name);
    for (size_t i = 0; i < n_out; i++) {
        if (out[i] == PQ_NONE || r->sourced[out[i]])
            return pq_fail(r->ctx, PQ_E_FORMAT, "node '%.120s': output %zu is absent or made twice",
                           name, i);
        r->sourced[out[i]] = true;
        r->g->value[out[i]].producer = id;
    }
    return PQ_OK;
}

static pq_status read_node(reader *r, const cJSON *o, size_t index)
{
    const char *name, *op_name, *type, *precision;
    pq_graph *g = r->g;
    pq_node *n = &g->node[index];
    pq_value_id *in = NULL, *to = NULL;
    size_t n_in, n_out;
    unsigned op = 0;
    int64_t quant_index = -1;
    pq_status st;
    char what[32];
    snprintf(what, sizeof what, "nodes[%zu]", index);
    PQ_TRY(pq_json_string(r->ctx, &name, o, "name", what));
    PQ_TRY(pq_json_string(r->ctx, &op_name, o, "op", name));
    PQ_TRY(pq_json_string(r->ctx, &type, o, "type", name));
    PQ_TRY(read_ids(r, &in, &n_in, o, "in", name));
    PQ_TRY(read_ids(r, &to, &n_out, o, "out", name));
    while (op < PQ_OP_COUNT && strcmp(op_name, ops[op].name) != 0) op++;
    if (op == PQ_OP_COUNT || n_in < (size_t)ops[op].min_in || n_in > (size_t)ops[op].max_in ||
        n_out < 1 || n_out > (size_t)ops[op].max_out) {
        st = pq_fail(r->ctx, PQ_E_FORMAT,
                     "node '%.120s': no operator '%.40s' of %zu inputs and %zu outputs", name,
                     op_name, n_in, n_out);
        goto out;
    }
    PQ_TRY(check_ports(r, (pq_node_id)index, name, in, n_in, to, n_out));
    if (cJSON_GetObjectItemCaseSensitive(o, "quant_index")) {
        PQ_TRY(pq_json_int(r->ctx, &quant_index, o, "quant_index", name));
        PQ_TRY(pq_json_string(r->ctx, &precision, o, "precision", name));
        PQ_TRY(pq_precision_parse(r->ctx, &r->precision[index], precision));
    }
    n->op = (pq_op)op;
    n->n_in = (int)n_in;
    n->n_out = (int)n_out;
    n->quant_index = quant_index >= 0 && quant_index < INT32_MAX ? (int)quant_index : -1;
    PQ_TRY(pqe_attr_parse(r->ctx, &n->attr, cJSON_GetObjectItemCaseSensitive(o, "attr"), name));
    PQ_TRY(pq_arena_strdup(r->ctx, g->arena, &n->name, name));
    PQ_TRY(pq_arena_strdup(r->ctx, g->arena, &n->type, type));
    PQ_TRY(pq_arena_alloc(r->ctx, g->arena, &n->in, n_in, sizeof *n->in));
    PQ_TRY(pq_arena_alloc(r->ctx, g->arena, &n->out, n_out, sizeof *n->out));
    memcpy(n->in, in, n_in * sizeof *in);
    memcpy(n->out, to, n_out * sizeof *to);
out:
    pq_free(in);
    pq_free(to);
    return st;
}

static pq_status read_nodes(reader *r, const cJSON *header)
{
    const cJSON *list, *o;
    pq_graph *g = r->g;
    pq_status st;
    PQ_TRY(pq_json_array(r->ctx, &list, header, "nodes", "header"));
    const size_t n = (size_t)cJSON_GetArraySize(list);
    PQ_TRY(pq_alloc(r->ctx, &g->node, n ? n : 1, sizeof *g->node));
    g->room_nodes = n ? n : 1;
    PQ_TRY(pq_alloc(r->ctx, &r->precision, n, sizeof *r->precision));
    cJSON_ArrayForEach(o, list)
    {
        PQ_TRY(read_node(r, o, g->n_nodes));
        g->n_nodes++;
    }
out:
    return st;
}

/* The network's inputs (which nothing else may make), and its outputs. */
static pq_status read_ends(reader *r, const cJSON *header, bool outputs)
{
    pq_value_id *id = NULL;
    size_t n;
    pq_status st;
    PQ_TRY(read_ids(r, &id, &n, header, outputs ? "outputs" : "inputs", "header"));
    for (size_t i = 0; i < n; i++) {
        if (id[i] == PQ_NONE || r->sourced[id[i]] != outputs) {
            st = pq_fail(r->ctx, PQ_E_FORMAT, "%s %zu of the network is %s",
                         outputs ? "output" : "input", i, outputs ? "not made" : "made by it");
            goto out;
        }
        r->sourced[id[i]] = true;
    }
    if (!n)
        st = pq_fail(r->ctx, PQ_E_FORMAT, "a network without %s", outputs ? "outputs" : "inputs");
    else
        st = outputs ? pq_graph_set_outputs(r->ctx, r->g, id, n)
                     : pq_graph_set_inputs(r->ctx, r->g, id, n);
out:
    pq_free(id);
    return st;
}

static pq_status read_facts(reader *r, const cJSON *header)
{
    const char *family, **meta;
    const cJSON *list, *e;
    size_t n = 0;
    int64_t opset;
    pq_graph *g = r->g;
    pq_status st;
    PQ_TRY(pq_json_string(r->ctx, &family, header, "family", "header"));
    PQ_TRY(pq_arena_strdup(r->ctx, g->arena, &g->family, family));
    PQ_TRY(pq_json_int(r->ctx, &opset, header, "opset", "header"));
    g->opset = opset >= 0 && opset < 1000 ? (int)opset : 0;
    PQ_TRY(pq_json_array(r->ctx, &list, header, "meta", "header"));
    const size_t room = (size_t)cJSON_GetArraySize(list);
    if (!room || room % 2) goto out;
    PQ_TRY(pq_arena_alloc(r->ctx, g->arena, &meta, room + 1, sizeof *meta));
    cJSON_ArrayForEach(e, list) PQ_TRY(
        pq_arena_strdup(r->ctx, g->arena, &meta[n++], cJSON_IsString(e) ? e->valuestring : ""));
    g->meta = meta;
out:
    return st;
}

/* ---- what engines rely on ---- */

static pq_status check_names(pq_ctx *ctx, const pq_names *names, const char *what)
{
    for (size_t i = 1; i < names->n; i++)
        if (strcmp(names->entry[i].name, names->entry[i - 1].name) == 0)
            return pq_fail(ctx, PQ_E_FORMAT, "two %s are called '%.120s'", what,
                           names->entry[i].name);
    return PQ_OK;
}

static pq_status check_unique(reader *r)
{
    pq_names values = {0}, nodes = {0};
    pq_status st;
    PQ_TRY(pq_names_of_values(r->ctx, &values, r->g));
    PQ_TRY(pq_names_of_nodes(r->ctx, &nodes, r->g));
    PQ_TRY(check_names(r->ctx, &values, "values"));
    PQ_TRY(check_names(r->ctx, &nodes, "nodes"));
out:
    pq_names_clear(&values);
    pq_names_clear(&nodes);
    return st;
}

static bool is_float_constant(const pq_value *v) { return v && v->data && v->dtype == PQ_F32; }

/* Quantizable operators: numbered 0, 1, …, with constant weights and biases. */
static pq_status check_quantizable(reader *r)
{
    const pq_graph *g = r->g;
    bool *seen = NULL;
    size_t n_quantizable = pq_graph_quantizable_count(g);
    pq_status st = pq_alloc(r->ctx, &seen, n_quantizable, 1);
    for (size_t i = 0; st == PQ_OK && i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->quant_index < 0) continue;
        const bool weighted = pq_op_is_weighted(n->op);
        bool ok = (size_t)n->quant_index < n_quantizable && !seen[n->quant_index] &&
                  (weighted || n->op == PQ_OP_MAX_POOL);
        if (ok && weighted)
            ok = is_float_constant(pq_in(g, n, 1)) && pq_in(g, n, 1)->shape.rank > 0 &&
                 (!pq_in(g, n, 2) || is_float_constant(pq_in(g, n, 2)));
        if (ok)
            seen[n->quant_index] = true;
        else
            st = pq_fail(r->ctx, PQ_E_FORMAT,
                         "node '%.120s': cannot be quantizable operator %d of %zu", n->name,
                         n->quant_index, n_quantizable);
    }
    pq_free(seen);
    return st;
}

/* Inference must find what the file says. */
static pq_status check_shapes(reader *r)
{
    char found[128], said[128];
    pq_graph *g = r->g;
    pq_shape *shape = NULL;
    pq_dtype *dtype = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(r->ctx, &shape, g->n_values, sizeof *shape));
    PQ_TRY(pq_alloc(r->ctx, &dtype, g->n_values, sizeof *dtype));
    for (size_t i = 0; i < g->n_values; i++) {
        shape[i] = g->value[i].shape;
        dtype[i] = g->value[i].dtype;
    }
    st = pq_graph_infer(r->ctx, g);
    if (st == PQ_E_UNSUPPORTED || st == PQ_E_INVALID) st = PQ_E_FORMAT; /* it was compiled once */
    for (size_t i = 0; st == PQ_OK && i < g->n_values; i++) {
        const pq_value *v = &g->value[i];
        if (dtype[i] != v->dtype || !pq_shape_equal(&shape[i], &v->shape))
            st = pq_fail(r->ctx, PQ_E_FORMAT, "value '%.120s': %s %s, expected %s %s", v->name,
                         pq_dtype_name(dtype[i]), pq_shape_text(&shape[i], said, sizeof said),
                         pq_dtype_name(v->dtype), pq_shape_text(&v->shape, found, sizeof found));
    }
out:
    pq_free(shape);
    pq_free(dtype);
    return st;
}

/* ---- the plan ---- */

static pq_status read_tensor(reader *r, const cJSON *o)
{
    pq_plan *p = r->plan;
    pq_plan_tensor *t = &p->tensor[p->n_tensors];
    const bool u8 = p->scheme == PQ_SCHEME_U8;
    int64_t id, zero_point;
    pq_status st;
    PQ_TRY(pqe_get_int(r->ctx, &id, cJSON_GetObjectItemCaseSensitive(o, "value"), "plan: tensor", 0,
                       (int64_t)r->g->n_values - 1));
    const pq_value *v = &r->g->value[id];
    PQ_TRY(pqe_get_float(r->ctx, &t->scale, cJSON_GetObjectItemCaseSensitive(o, "scale"), v->name));
    PQ_TRY(pqe_get_int(r->ctx, &zero_point, cJSON_GetObjectItemCaseSensitive(o, "zero_point"),
                       v->name, 0, u8 ? 255 : 0));
    if (!(t->scale > 0) || !isfinite(t->scale) || v->dtype != PQ_F32) {
        st = pq_fail(r->ctx, PQ_E_FORMAT,
                     "plan: tensor '%.120s': %s of scale %g, expected float32 above 0", v->name,
                     pq_dtype_name(v->dtype), (double)t->scale);
        goto out;
    }
    t->dtype = u8 ? PQ_U8 : PQ_S8;
    t->zero_point = (int32_t)zero_point;
    PQ_TRY(pq_strdup(r->ctx, &t->name, v->name));
    p->n_tensors++;
out:
    return st;
}

/* Scales that the file gives: with them the weights round to the integers that were stored. */
static pq_status take_scales(reader *r)
{
    pq_plan *p = r->plan;
    pq_graph *g = r->g;
    pq_status st = pq_alloc(r->ctx, &p->weight, g->n_values, sizeof *p->weight);
    for (size_t i = 0; st == PQ_OK && i < g->n_values; i++) {
        if (!r->scale[i].buf) continue;
        pq_plan_weight *w = &p->weight[p->n_weights];
        st = pq_strdup(r->ctx, &w->name, g->value[i].name);
        if (st != PQ_OK) break;
        w->data = (pq_tensor){PQ_F32, g->value[i].shape, pq_buf_ref(g->value[i].data)};
        w->scale = r->scale[i];
        r->scale[i] = (pq_tensor){0};
        p->n_weights++;
    }
    return st;
}

/* A given scale must have one number per output channel of whatever INT8 node reads it. */
static pq_status check_channels(reader *r)
{
    const pq_graph *g = r->g;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->quant_index < 0 || n->op == PQ_OP_MAX_POOL) continue;
        const pq_value *w = pq_in(g, n, 1);
        const pq_tensor *s = &r->scale[n->in[1]];
        if (s->buf && s->shape.dim[0] != w->shape.dim[pq_weight_axis(g, n)])
            return pq_fail(r->ctx, PQ_E_FORMAT, "constant '%.120s': %lld scales, expected %lld",
                           w->name, (long long)s->shape.dim[0],
                           (long long)w->shape.dim[pq_weight_axis(g, n)]);
    }
    return PQ_OK;
}

static pq_status read_plan(reader *r, const cJSON *header)
{
    const cJSON *o = cJSON_GetObjectItemCaseSensitive(header, "plan"), *list, *e;
    const char *scheme, *base;
    pq_precision p;
    pq_binding b;
    pq_status st;
    PQ_TRY(pq_json_string(r->ctx, &scheme, o, "scheme", "plan"));
    PQ_TRY(pq_json_string(r->ctx, &base, o, "base", "plan"));
    PQ_TRY(pq_json_array(r->ctx, &list, o, "tensors", "plan"));
    PQ_TRY(pq_precision_parse(r->ctx, &p, base));
    PQ_TRY(pq_plan_float(r->ctx, &r->plan, r->g, p));
    r->plan->scheme = strcmp(scheme, "u8") == 0 ? PQ_SCHEME_U8 : PQ_SCHEME_S8;
    r->plan->rounds_outputs = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "rounds_outputs"));
    for (size_t i = 0; i < r->g->n_nodes; i++)
        if (r->plan->node[i].quantizable) r->plan->node[i].precision = r->precision[i];
    PQ_TRY(pq_alloc(r->ctx, &r->plan->tensor, (size_t)cJSON_GetArraySize(list),
                    sizeof *r->plan->tensor));
    cJSON_ArrayForEach(e, list) PQ_TRY(read_tensor(r, e));
    PQ_TRY(check_channels(r));
    PQ_TRY(take_scales(r));
    st = pq_plan_bind(r->ctx, &b, r->plan, r->g);
    pq_binding_clear(&b);
out:
    return st == PQ_E_INVALID ? PQ_E_FORMAT : st;
}

static pq_status read_all(reader *r, const cJSON *header)
{
    pq_status st;
    PQ_TRY(pq_graph_new(r->ctx, &r->g));
    PQ_TRY(read_facts(r, header));
    PQ_TRY(read_values(r, header));
    PQ_TRY(read_ends(r, header, false));
    PQ_TRY(read_nodes(r, header));
    PQ_TRY(read_ends(r, header, true));
    PQ_TRY(check_unique(r));
    PQ_TRY(check_shapes(r));
    PQ_TRY(check_quantizable(r));
    pq_graph_seal(r->g);
    PQ_TRY(read_plan(r, header));
out:
    return st;
}

pq_status pq_pqe_load(pq_ctx *ctx, pq_graph **g, pq_plan **plan, const char *path)
{
    reader r = {.ctx = ctx};
    cJSON *header = NULL;
    pq_status st;
    *g = NULL;
    *plan = NULL;
    PQ_TRY(open_file(&r, &header, path));
    st = pq_prefix(ctx, read_all(&r, header), "%s", path);
    if (st != PQ_OK) goto out;
    *g = r.g;
    *plan = r.plan;
    r.g = NULL;
    r.plan = NULL;
out:
    for (size_t i = 0; r.scale && r.g && i < r.g->n_values; i++) pq_tensor_clear(&r.scale[i]);
    pq_free(r.scale);
    pq_free(r.precision);
    pq_free(r.sourced);
    pq_plan_free(r.plan);
    pq_graph_free(r.g);
    pq_buf_unref(r.file);
    cJSON_Delete(header);
    return st;
}
