/* The engine `openvino`: its CPU plugin, fed the QDQ ONNX from memory. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <pquant/export.h>

#include "base/cpu.h"
#include "engine/engines.h"
#include "engine/foreign/kernels.h"
#include "engine/foreign/library.h"
#include "engine/foreign/outputs.h"
#include "engine/openvino/ov_api.h"
#include "engine/program.h"

static const pq_library_spec spec = {
    .name = "openvino",
    .variable = "PQUANT_OPENVINO",
    .file = "libopenvino_c.so",
    .package = "openvino/libs",
    .hint = "'pip install openvino' brings it",
    .below = {"openvino/libs", "libs", "lib", "runtime/lib/intel64", "lib/intel64"},
};

/* The library and its core: opened once for a context, which keeps it; sessions hold references, so
 * that they may outlive the context. */
typedef struct ov_runtime {
    atomic_int references;
    ov_api api;
    ov_core *core;
    char *path;
    char version[64];
} ov_runtime;

typedef struct ov_session {
    pq_session base;
    ov_runtime *rt;
    ov_compiled *model;
    ov_request *request;
    int float_type;            /* as this release numbers float32 */
    pq_buf *file;              /* the ONNX file: times come from a model compiled for them */
    pq_foreign_output *output; /* [base.n_outputs] */
    pq_kernel_names names;
    ov_compiled *timed_model; /* made on first need */
    ov_request *timed;
    int threads;
    bool bf16;
} ov_session;

static pq_status check(pq_ctx *ctx, const ov_runtime *rt, int status, const char *what)
{
    if (status == 0) return PQ_OK;
    const char *why = rt->api.last_error ? rt->api.last_error() : NULL;
    return pq_fail(ctx, PQ_E_ENGINE, "openvino: %s: %s (status %d)", what,
                   why && *why ? why : "no reason given", status);
}

/* ---- the runtime ---- */

static void release(void *object)
{
    ov_runtime *rt = object;
    if (!rt || atomic_fetch_sub(&rt->references, 1) != 1) return;
    if (rt->core) rt->api.core_free(rt->core);
    pq_free(rt->path);
    pq_free(rt);
}

static pq_status load_api(pq_ctx *ctx, ov_api *api, const pq_library *lib)
{
    pq_status st;
#define X(name, arguments) PQ_TRY(pq_library_symbol(ctx, (void *)&api->name, lib, "ov_" #name));
    OV_STATUS_FUNCTIONS(X)
    OV_FREE_FUNCTIONS(X)
#undef X
    if (pq_library_symbol(ctx, (void *)&api->last_error, lib, "ov_get_last_err_msg") != PQ_OK)
        api->last_error = NULL;
    st = PQ_OK;
out:
    return st;
}

static pq_status load(pq_ctx *ctx, ov_runtime *rt)
{
    pq_library lib;
    ov_version version = {0};
    pq_status st = pq_library_open(ctx, &lib, &spec);
    if (st != PQ_OK) return st;
    rt->path = lib.path;
    PQ_TRY(load_api(ctx, &rt->api, &lib));
    PQ_TRY(check(ctx, rt, rt->api.get_openvino_version(&version), "version"));
    snprintf(rt->version, sizeof rt->version, "%s", version.build ? version.build : "");
    rt->api.version_free(&version);
    st = check(ctx, rt, rt->api.core_create(&rt->core), "core");
out:
    return st;
}

/* The context's runtime; opened by whoever asks first. Borrowed. */
static pq_status open_runtime(pq_ctx *ctx, ov_runtime **out)
{
    *out = pq_ctx_kept(ctx, &spec);
    if (*out) return PQ_OK;
    ov_runtime *rt;
    pq_status st = pq_alloc(ctx, &rt, 1, sizeof *rt);
    if (st != PQ_OK) return st;
    atomic_init(&rt->references, 1);
    st = load(ctx, rt);
    if (st != PQ_OK) {
        release(rt);
        return st;
    }
    st = pq_ctx_keep(ctx, &spec, rt, release);
    if (st == PQ_OK) *out = rt;
    return st;
}

static pq_status probe(pq_ctx *ctx, pq_engine_info *out)
{
    ov_runtime *rt;
    memset(out, 0, sizeof *out);
    pq_status st = open_runtime(ctx, &rt);
    if (st != PQ_OK) return st;
    *out = (pq_engine_info){.precisions = 1u << PQ_PREC_FP32 | 1u << PQ_PREC_INT8,
                            .scheme = PQ_SCHEME_U8};
    if (pq_cpu_get()->avx512_bf16) out->precisions |= 1u << PQ_PREC_BF16;
    /* "2026.4.1-21874-8f1d03f7c49-releases/2026/4": what stands before the dash is enough */
    snprintf(out->version, sizeof out->version, "OpenVINO %.*s", (int)strcspn(rt->version, "-"),
             rt->version);
    snprintf(out->library, sizeof out->library, "%s", rt->path);
    snprintf(out->device, sizeof out->device, "%s", pq_cpu_get()->model);
    return PQ_OK;
}

static bool accepts(const pq_graph *g, const pq_node *n, pq_precision p, const char **why)
{
    (void)g;
    (void)n;
    *why = p == PQ_PREC_FP16 ? "its CPU kernels know no float16"
                             : "bfloat16 needs a processor with AVX512-BF16";
    return p == PQ_PREC_FP32 || p == PQ_PREC_INT8 ||
           (p == PQ_PREC_BF16 && pq_cpu_get()->avx512_bf16);
}

/* ---- sessions ---- */

static void destroy(pq_session *session)
{
    ov_session *s = (ov_session *)session;
    const ov_api *api = &s->rt->api;
    if (s->timed) api->infer_request_free(s->timed);
    if (s->timed_model) api->compiled_model_free(s->timed_model);
    if (s->request) api->infer_request_free(s->request);
    if (s->model) api->compiled_model_free(s->model);
    pq_buf_unref(s->file);
    pq_kernel_names_clear(&s->names);
    pq_free(s->output);
    pq_session_forget(&s->base);
    release(s->rt);
    pq_free(s);
}

/* Compile the file: latency of one request, float parts exactly as asked. */
static pq_status load_model(pq_ctx *ctx, ov_session *s, bool timed, ov_compiled **out)
{
    const ov_runtime *rt = s->rt;
    ov_model *model = NULL;
    char threads[16];
    snprintf(threads, sizeof threads, "%d", s->threads);
    pq_status st = check(ctx, rt,
                         rt->api.core_read_model_from_memory_buffer(
                             rt->core, pq_buf_data(s->file), pq_buf_bytes(s->file), NULL, &model),
                         "cannot read the exported model");
    if (st == PQ_OK)
        st = check(ctx, rt,
                   rt->api.core_compile_model(rt->core, model, "CPU", 10, out, "PERFORMANCE_HINT",
                                              "LATENCY", "INFERENCE_NUM_THREADS", threads,
                                              "NUM_STREAMS", "1", "INFERENCE_PRECISION_HINT",
                                              s->bf16 ? "bf16" : "f32", "PERF_COUNT",
                                              timed ? "YES" : "NO"),
                   "cannot compile the exported model");
    if (model) rt->api.model_free(model);
    return st;
}

static pq_status find_float_type(pq_ctx *ctx, ov_session *s)
{
    const ov_runtime *rt = s->rt;
    ov_tensor *t = NULL;
    pq_status st =
        check(ctx, rt, rt->api.infer_request_get_input_tensor_by_index(s->request, 0, &t),
              "input tensor");
    if (st == PQ_OK)
        st = check(ctx, rt, rt->api.tensor_get_element_type(t, &s->float_type), "element type");
    if (t) rt->api.tensor_free(t);
    return st;
}

static pq_status compile(pq_ctx *ctx, pq_session **out, const pq_graph *g, const pq_plan *plan,
                         const pq_compile_opts *opts)
{
    const pq_export_opts as = {.target = PQ_TARGET_OPENVINO};
    ov_session *s = NULL;
    ov_runtime *rt;
    pq_status st;
    PQ_TRY(open_runtime(ctx, &rt));
    PQ_TRY(pq_alloc(ctx, &s, 1, sizeof *s));
    atomic_fetch_add(&rt->references, 1);
    s->rt = rt;
    s->threads = opts->threads > 0 ? opts->threads : pq_ctx_threads(ctx);
    s->bf16 = plan->base == PQ_PREC_BF16;
    PQ_TRY(pq_session_describe(ctx, &s->base, &pq_engine_openvino, g));
    PQ_TRY(pq_foreign_outputs(ctx, &s->output, g));
    PQ_TRY(pq_export_onnx(ctx, &s->file, g, plan, &as));
    PQ_TRY(pq_kernel_names_init(ctx, &s->names, g));
    PQ_TRY(load_model(ctx, s, false, &s->model));
    PQ_TRY(check(ctx, rt, rt->api.compiled_model_create_infer_request(s->model, &s->request),
                 "request"));
    PQ_TRY(find_float_type(ctx, s));
    s->base.weight_bytes = pq_buf_bytes(s->file);
    *out = &s->base;
    s = NULL;
out:
    if (s) destroy(&s->base);
    return st;
}

/* ---- running ---- */

static pq_status set_tensor(pq_ctx *ctx, const ov_session *s, ov_request *request, size_t i,
                            const pq_tensor *t, bool input)
{
    const ov_api *api = &s->rt->api;
    int64_t dim[PQ_MAX_RANK];
    ov_tensor *x = NULL;
    memcpy(dim, t->shape.dim, sizeof dim);
    const ov_shape shape = {t->shape.rank, dim};
    pq_status st = check(
        ctx, s->rt, api->tensor_create_from_host_ptr(s->float_type, shape, pq_tensor_data(t), &x),
        "tensor");
    if (st == PQ_OK)
        st = check(ctx, s->rt,
                   input ? api->infer_request_set_input_tensor_by_index(request, i, x)
                         : api->infer_request_set_output_tensor_by_index(request, i, x),
                   input ? "input" : "output");
    if (x) api->tensor_free(x);
    return st;
}

/* Output i, which the runtime allocated. */
static pq_status take(pq_ctx *ctx, const ov_session *s, ov_request *request, size_t i,
                      pq_tensor *to)
{
    const ov_api *api = &s->rt->api;
    const char *name = s->base.output_name[i];
    ov_tensor *x = NULL;
    ov_shape shape = {0, NULL};
    size_t bytes = 0, size = pq_dtype_size(s->output[i].dtype);
    void *data = NULL;
    pq_status st;
    PQ_TRY(
        check(ctx, s->rt, api->infer_request_get_output_tensor_by_index(request, i, &x), "output"));
    PQ_TRY(check(ctx, s->rt, api->tensor_get_shape(x, &shape), name));
    PQ_TRY(check(ctx, s->rt, api->tensor_get_byte_size(x, &bytes), name));
    for (int64_t k = 0; k < shape.rank; k++) size *= (size_t)shape.dims[k];
    if (bytes != size) {
        st = pq_fail(ctx, PQ_E_ENGINE, "openvino: output '%s' has %zu bytes, expected %zu", name,
                     bytes, size);
        goto out;
    }
    PQ_TRY(check(ctx, s->rt, api->tensor_data(x, &data), name));
    st = pq_foreign_take(ctx, to, name, s->output[i].dtype, shape.dims, (size_t)shape.rank, data);
out:
    if (shape.dims) (void)api->shape_free(&shape);
    if (x) api->tensor_free(x);
    return st;
}

static pq_status infer(pq_ctx *ctx, const ov_session *s, ov_request *request, const pq_tensor *in,
                       pq_tensor *out)
{
    pq_status st;
    for (size_t i = 0; i < s->base.n_inputs; i++)
        PQ_TRY(set_tensor(ctx, s, request, i, &in[i], true));
    for (size_t i = 0; i < s->base.n_outputs; i++)
        if (!s->output[i].taken) PQ_TRY(set_tensor(ctx, s, request, i, &out[i], false));
    PQ_TRY(check(ctx, s->rt, s->rt->api.infer_request_infer(request), "run"));
    for (size_t i = 0; i < s->base.n_outputs; i++)
        if (s->output[i].taken) PQ_TRY(take(ctx, s, request, i, &out[i]));
    st = PQ_OK;
out:
    return st;
}

static pq_status run(pq_ctx *ctx, pq_session *session, const pq_tensor *in, size_t n_in,
                     pq_tensor *out, size_t n_out)
{
    const ov_session *s = (const ov_session *)session;
    (void)n_in;
    (void)n_out;
    return infer(ctx, s, s->request, in, out);
}

/* ---- times ---- */

/* "brgconv_avx512_1x1_I8": what stands behind the last '_' is the precision it computes in. */
static const char *precision_of(const char *exec)
{
    static const char *const names[][2] = {{"I8", "int8"},   {"U8", "int8"},   {"f32", "fp32"},
                                           {"FP32", "fp32"}, {"bf16", "bf16"}, {"BF16", "bf16"},
                                           {"f16", "fp16"},  {"FP16", "fp16"}};
    const char *last = strrchr(exec, '_');
    for (size_t i = 0; last && i < sizeof names / sizeof *names; i++)
        if (strcmp(last + 1, names[i][0]) == 0) return names[i][1];
    return last ? last + 1 : exec;
}

static pq_kernel_role role_of(const char *type)
{
    if (strstr(type, "Convolution") || strstr(type, "MatMul") || strstr(type, "FullyConnected"))
        return PQ_KERNEL_COMPUTES;
    if (strcmp(type, "Reorder") == 0) return PQ_KERNEL_REORDERS;
    return strcmp(type, "Convert") == 0 || strcmp(type, "FakeQuantize") == 0 ? PQ_KERNEL_CONVERTS
                                                                             : PQ_KERNEL_OTHER;
}

static void describe(pq_layer *out, const pq_kernel_names *k, const ov_profile_entry *e)
{
    pq_kernel_layer(out, k, e->node_name, e->node_type, e->exec_type, role_of(e->node_type));
    snprintf(out->precision, sizeof out->precision, "%.15s", precision_of(e->exec_type));
    out->ms = 1e-3 * (double)e->real_time;
}

static pq_status prepare_timed(pq_ctx *ctx, ov_session *s)
{
    if (s->timed) return PQ_OK;
    pq_status st = load_model(ctx, s, true, &s->timed_model);
    return st == PQ_OK
               ? check(ctx, s->rt,
                       s->rt->api.compiled_model_create_infer_request(s->timed_model, &s->timed),
                       "request")
               : st;
}

static pq_status layers(pq_ctx *ctx, pq_session *session, const pq_tensor *in, size_t n_in,
                        pq_layer *out, size_t *n)
{
    ov_session *s = (ov_session *)session;
    ov_profile_list list = {0};
    pq_tensor *result = NULL;
    pq_status st;
    size_t count = 0;
    (void)n_in;
    PQ_TRY(prepare_timed(ctx, s));
    PQ_TRY(pq_session_outputs(ctx, &result, session));
    PQ_TRY(infer(ctx, s, s->timed, in, result));
    PQ_TRY(
        check(ctx, s->rt, s->rt->api.infer_request_get_profiling_info(s->timed, &list), "profile"));
    for (size_t i = 0; i < list.n && count < *n; i++)
        if (list.entry[i].status == OV_EXECUTED) describe(&out[count++], &s->names, &list.entry[i]);
    *n = count;
    s->rt->api.profiling_info_list_free(&list);
out:
    pq_session_outputs_free(result, session);
    return st;
}

const pq_engine pq_engine_openvino = {.abi = PQ_ENGINE_ABI,
                                      .name = "openvino",
                                      .probe = probe,
                                      .accepts = accepts,
                                      .compile = compile,
                                      .run = run,
                                      .destroy = destroy,
                                      .layers = layers};
