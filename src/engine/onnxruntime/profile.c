/* What ONNX Runtime's profile says about each kernel. The runtime writes it to a file, which lies
 * in a folder of its own for the moment. */
#define _XOPEN_SOURCE 700 /* mkdtemp */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "engine/onnxruntime/ort.h"

enum { WARM_UP = 2, RUNS = 12 };

static const char *text_of(const cJSON *o, const char *key)
{
    const cJSON *t = cJSON_GetObjectItemCaseSensitive(o, key);
    return cJSON_IsString(t) ? t->valuestring : "";
}

/* Name of the element type of input or output number i: the key in [{"uint8":[1,3,640,640]}, …]. */
static const char *element(const cJSON *args, const char *key, int i)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(args, key);
    const cJSON *o = cJSON_IsArray(list) ? cJSON_GetArrayItem(list, i) : NULL;
    return o && o->child && o->child->string ? o->child->string : "";
}

static const char *short_type(const char *t)
{
    if (strcmp(t, "uint8") == 0 || strcmp(t, "int8") == 0) return "int8";
    if (strcmp(t, "float") == 0) return "fp32";
    return strcmp(t, "float16") == 0 ? "fp16" : t;
}

static pq_kernel_role role_of(const char *op, const char *kernel, const pq_kernel_names *k)
{
    static const char *const converts[] = {"QuantizeLinear", "DequantizeLinear", "Cast"};
    for (size_t i = 0; i < sizeof converts / sizeof *converts; i++)
        if (strcmp(op, converts[i]) == 0) return PQ_KERNEL_CONVERTS;
    /* A Transpose of the graph bears its name. */
    if (strncmp(op, "Reorder", 7) == 0 ||
        (strcmp(op, "Transpose") == 0 && !pq_kernel_find(k, kernel, NULL)))
        return PQ_KERNEL_REORDERS;
    return strstr(op, "Conv") || strstr(op, "MatMul") || strstr(op, "Gemm") ? PQ_KERNEL_COMPUTES
                                                                            : PQ_KERNEL_OTHER;
}

static void describe(pq_layer *l, const pq_kernel_names *k, const cJSON *event)
{
    static const char suffix[] = "_kernel_time";
    char name[512];
    const cJSON *args = cJSON_GetObjectItemCaseSensitive(event, "args");
    const cJSON *dur = cJSON_GetObjectItemCaseSensitive(event, "dur");
    const char *op = text_of(args, "op_name");
    const char *in = short_type(element(args, "input_type_shape", 0));
    const char *out = short_type(element(args, "output_type_shape", 0));
    snprintf(name, sizeof name, "%s", text_of(event, "name"));
    name[strlen(name) - (sizeof suffix - 1)] = 0;
    pq_kernel_layer(l, k, name, op, op, role_of(op, name, k));
    if (strcmp(l->op, PQ_LAYER_CONVERT) == 0)
        snprintf(l->precision, sizeof l->precision, "%.7s>%.7s", in, out);
    else
        snprintf(l->precision, sizeof l->precision, "%.15s", in);
    l->ms = cJSON_IsNumber(dur) ? 1e-3 * dur->valuedouble : 0;
}

static bool is_kernel(const cJSON *event)
{
    static const char suffix[] = "_kernel_time";
    const char *name = text_of(event, "name");
    const size_t n = strlen(name);
    return strcmp(text_of(event, "cat"), "Node") == 0 && n > sizeof suffix - 1 &&
           strcmp(name + n - (sizeof suffix - 1), suffix) == 0;
}

/* Kernels stand in the order in which they ran, run after run. */
static pq_status keep(pq_ctx *ctx, ort_engine_session *s, const cJSON *doc)
{
    ort_profile *p = &s->profile;
    const cJSON *e;
    size_t n = 0, at = 0;
    cJSON_ArrayForEach(e, doc) n += is_kernel(e);
    if (n == 0 || n % (WARM_UP + RUNS) != 0)
        return pq_fail(ctx, PQ_E_ENGINE, "onnxruntime: its profile has %zu kernels in %d runs", n,
                       WARM_UP + RUNS);
    pq_free(p->layer);
    memset(p, 0, sizeof *p);
    p->n = n / (WARM_UP + RUNS);
    pq_status st = pq_alloc(ctx, &p->layer, RUNS * p->n, sizeof *p->layer);
    if (st != PQ_OK) return st;
    p->n_runs = RUNS;
    cJSON_ArrayForEach(e, doc)
    {
        if (!is_kernel(e)) continue;
        if (at >= WARM_UP * p->n) describe(&p->layer[at - WARM_UP * p->n], &s->names, e);
        at++;
    }
    return PQ_OK;
}

static pq_status record(pq_ctx *ctx, ort_engine_session *s, const pq_tensor *in, const char *prefix)
{
    const ort_api *api = s->rt->api;
    ort_session *session = NULL;
    ort_allocator *allocator = NULL;
    pq_tensor *out = NULL;
    char *path = NULL;
    cJSON *doc = NULL;
    pq_status st;
    PQ_TRY(pq_session_outputs(ctx, &out, &s->base));
    PQ_TRY(pq_ort_session(ctx, &session, s->rt, s->model, s->threads, prefix));
    for (int i = 0; i < WARM_UP + RUNS; i++) PQ_TRY(pq_ort_run(ctx, s, session, in, out));
    PQ_TRY(pq_ort_check(ctx, s->rt, api->default_allocator(&allocator), "allocator"));
    PQ_TRY(pq_ort_check(ctx, s->rt, api->end_profiling(session, allocator, &path), "profile"));
    PQ_TRY(pq_json_load(ctx, &doc, path));
    st = keep(ctx, s, doc);
out:
    if (session) api->release_session(session);
    if (path) {
        unlink(path);
        ort_status *freed = api->allocator_free(allocator, path);
        if (freed) api->release_status(freed);
    }
    cJSON_Delete(doc);
    pq_session_outputs_free(out, &s->base);
    return st;
}

pq_status pq_ort_profile(pq_ctx *ctx, ort_engine_session *s, const pq_tensor *in)
{
    const char *tmp = getenv("TMPDIR");
    char *folder = NULL, *prefix = NULL;
    bool made = false;
    pq_status st;
    PQ_TRY(pq_asprintf(ctx, &folder, "%s/pquant-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp"));
    made = mkdtemp(folder) != NULL;
    if (!made) {
        st = pq_fail(ctx, PQ_E_IO, "%s: no folder for a profile can be made", folder);
        goto out;
    }
    PQ_TRY(pq_asprintf(ctx, &prefix, "%s/profile", folder));
    st = record(ctx, s, in, prefix);
out:
    if (made) rmdir(folder);
    pq_free(prefix);
    pq_free(folder);
    return st;
}
