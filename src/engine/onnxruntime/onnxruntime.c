/* The engine `onnxruntime`: its CPU provider, fed the QDQ ONNX from memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pquant/export.h>

#include "base/cpu.h"
#include "engine/engines.h"
#include "engine/foreign/library.h"
#include "engine/onnxruntime/ort.h"
#include "engine/program.h"

static const pq_library_spec spec = {
    .name = "onnxruntime",
    .variable = "PQUANT_ONNXRUNTIME",
    .file = "libonnxruntime.so",
    .package = "onnxruntime/capi",
    .hint = "'pip install onnxruntime' brings it (1.19 or later)",
    .below = {"onnxruntime/capi", "capi", "lib"},
};

pq_status pq_ort_check(pq_ctx *ctx, const ort_runtime *rt, ort_status *st, const char *what)
{
    if (!st) return PQ_OK;
    (void)pq_fail(ctx, PQ_E_ENGINE, "onnxruntime: %s: %s", what, rt->api->error_message(st));
    rt->api->release_status(st);
    return PQ_E_ENGINE;
}

/* ---- the runtime ---- */

static void ignore_log(void *user, int severity, const char *category, const char *id,
                       const char *where, const char *text)
{
    (void)user, (void)severity, (void)category, (void)id, (void)where, (void)text;
}

static void release(void *object)
{
    ort_runtime *rt = object;
    if (!rt || atomic_fetch_sub(&rt->references, 1) != 1) return;
    if (rt->memory) rt->api->release_memory_info(rt->memory);
    if (rt->env) rt->api->release_env(rt->env);
    pq_free(rt->path);
    pq_free(rt);
}

static pq_status load(pq_ctx *ctx, ort_runtime *rt)
{
    pq_library lib;
    ort_get_base_fn get_base = NULL;
    pq_status st = pq_library_open(ctx, &lib, &spec);
    if (st != PQ_OK) return st;
    rt->path = lib.path;
    if ((st = pq_library_symbol(ctx, (void *)&get_base, &lib, "OrtGetApiBase")) != PQ_OK) return st;
    const ort_api_base *base = get_base();
    snprintf(rt->version, sizeof rt->version, "%s", base->version());
    /* GetApi would print about a version that it does not have. */
    const char *minor = strchr(rt->version, '.');
    if (strtol(rt->version, NULL, 10) == 1 && (!minor || strtol(minor + 1, NULL, 10) < ORT_OLDEST))
        return pq_fail(ctx, PQ_E_UNAVAILABLE,
                       "engine 'onnxruntime': %s is %s, expected at least 1.%d", rt->path,
                       rt->version, ORT_OLDEST);
    rt->api = base->get_api(ORT_OLDEST);
    if (!rt->api)
        return pq_fail(ctx, PQ_E_UNAVAILABLE,
                       "engine 'onnxruntime': %s (%s) has no interface of version %d", rt->path,
                       rt->version, ORT_OLDEST);
    st = pq_ort_check(
        ctx, rt,
        rt->api->create_env_with_logger(ignore_log, NULL, ORT_LOG_FATAL, "pquant", &rt->env),
        "environment");
    if (st != PQ_OK) return st;
    return pq_ort_check(
        ctx, rt, rt->api->cpu_memory_info(ORT_ARENA_ALLOCATOR, ORT_MEMORY_DEFAULT, &rt->memory),
        "memory");
}

/* The context's runtime; opened by whoever asks first. Borrowed. */
static pq_status open_runtime(pq_ctx *ctx, ort_runtime **out)
{
    *out = pq_ctx_kept(ctx, &spec);
    if (*out) return PQ_OK;
    ort_runtime *rt;
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
    ort_runtime *rt;
    memset(out, 0, sizeof *out);
    pq_status st = open_runtime(ctx, &rt);
    if (st != PQ_OK) return st;
    *out = (pq_engine_info){.precisions = 1u << PQ_PREC_FP32 | 1u << PQ_PREC_INT8,
                            .scheme = PQ_SCHEME_U8,
                            .rounds_outputs = true};
    snprintf(out->version, sizeof out->version, "ONNX Runtime %s", rt->version);
    snprintf(out->library, sizeof out->library, "%s", rt->path);
    snprintf(out->device, sizeof out->device, "%s", pq_cpu_get()->model);
    return PQ_OK;
}

static bool accepts(const pq_graph *g, const pq_node *n, pq_precision p, const char **why)
{
    (void)g;
    (void)n;
    *why = "its CPU kernels know float32 and int8 only";
    return p == PQ_PREC_FP32 || p == PQ_PREC_INT8;
}

/* ---- sessions ---- */

static pq_status set_options(pq_ctx *ctx, const ort_runtime *rt, ort_options *o, int threads,
                             const char *profile)
{
    const ort_api *api = rt->api;
    pq_status st;
    PQ_TRY(pq_ort_check(ctx, rt, api->set_optimisation(o, ORT_OPTIMISE_ALL), "optimisation"));
    PQ_TRY(pq_ort_check(ctx, rt, api->set_intra_threads(o, threads), "threads"));
    PQ_TRY(pq_ort_check(ctx, rt, api->set_inter_threads(o, 1), "threads"));
    /* Its threads spin while a run is on, as its users have it, but not into what follows. */
    PQ_TRY(pq_ort_check(ctx, rt, api->add_config(o, "session.force_spinning_stop", "1"),
                        "session.force_spinning_stop"));
    if (profile) PQ_TRY(pq_ort_check(ctx, rt, api->enable_profiling(o, profile), "profiling"));
    st = PQ_OK;
out:
    return st;
}

pq_status pq_ort_session(pq_ctx *ctx, ort_session **out, const ort_runtime *rt, const pq_buf *model,
                         int threads, const char *profile)
{
    ort_options *o = NULL;
    *out = NULL;
    pq_status st = pq_ort_check(ctx, rt, rt->api->create_options(&o), "options");
    if (st == PQ_OK) st = set_options(ctx, rt, o, threads, profile);
    if (st == PQ_OK)
        st = pq_ort_check(
            ctx, rt,
            rt->api->create_session(rt->env, pq_buf_data(model), pq_buf_bytes(model), o, out),
            "cannot load the exported model");
    if (o) rt->api->release_options(o);
    return st;
}

static void destroy(pq_session *session)
{
    ort_engine_session *s = (ort_engine_session *)session;
    if (s->session) s->rt->api->release_session(s->session);
    pq_buf_unref(s->model);
    pq_kernel_names_clear(&s->names);
    pq_free(s->output);
    pq_free(s->profile.layer);
    pq_session_forget(&s->base);
    release(s->rt);
    pq_free(s);
}

static pq_status compile(pq_ctx *ctx, pq_session **out, const pq_graph *g, const pq_plan *plan,
                         const pq_compile_opts *opts)
{
    const pq_export_opts as = {.target = PQ_TARGET_ONNXRUNTIME};
    ort_engine_session *s = NULL;
    ort_runtime *rt;
    pq_status st;
    PQ_TRY(open_runtime(ctx, &rt));
    PQ_TRY(pq_alloc(ctx, &s, 1, sizeof *s));
    atomic_fetch_add(&rt->references, 1);
    s->rt = rt;
    s->threads = opts->threads > 0 ? opts->threads : pq_ctx_threads(ctx);
    PQ_TRY(pq_session_describe(ctx, &s->base, &pq_engine_onnxruntime, g));
    PQ_TRY(pq_foreign_outputs(ctx, &s->output, g));
    PQ_TRY(pq_export_onnx(ctx, &s->model, g, plan, &as));
    PQ_TRY(pq_kernel_names_init(ctx, &s->names, g));
    PQ_TRY(pq_ort_session(ctx, &s->session, rt, s->model, s->threads, NULL));
    s->base.weight_bytes = pq_buf_bytes(s->model);
    *out = &s->base;
    s = NULL;
out:
    if (s) destroy(&s->base);
    return st;
}

/* ---- running ---- */

static pq_status as_value(pq_ctx *ctx, const ort_runtime *rt, ort_value **value, const pq_tensor *t)
{
    const size_t bytes = (size_t)pq_shape_count(&t->shape) * sizeof(float);
    return pq_ort_check(ctx, rt,
                        rt->api->tensor_of(rt->memory, pq_tensor_data(t), bytes, t->shape.dim,
                                           (size_t)t->shape.rank, ORT_FLOAT, value),
                        "tensor");
}

static pq_status as_values(pq_ctx *ctx, const ort_engine_session *s, ort_value **value,
                           const pq_tensor *in, const pq_tensor *out)
{
    const size_t n_in = s->base.n_inputs;
    pq_status st = PQ_OK;
    for (size_t i = 0; i < n_in && st == PQ_OK; i++) st = as_value(ctx, s->rt, &value[i], &in[i]);
    for (size_t i = 0; i < s->base.n_outputs && st == PQ_OK; i++)
        if (!s->output[i].taken) st = as_value(ctx, s->rt, &value[n_in + i], &out[i]);
    return st;
}

static int type_of(pq_dtype t)
{
    switch (t) {
    case PQ_S64: return ORT_INT64;
    case PQ_S32: return ORT_INT32;
    case PQ_S8: return ORT_INT8;
    case PQ_U8: return ORT_UINT8;
    case PQ_BOOL: return ORT_BOOL;
    default: return ORT_FLOAT;
    }
}

/* Output i, which the runtime allocated. */
static pq_status take(pq_ctx *ctx, const ort_engine_session *s, size_t i, ort_value *value,
                      pq_tensor *to)
{
    const ort_runtime *rt = s->rt;
    const char *name = s->base.output_name[i];
    int64_t dim[PQ_MAX_RANK] = {0};
    ort_type_and_shape *info = NULL;
    size_t rank = 0;
    int type = 0;
    void *data = NULL;
    pq_status st;
    PQ_TRY(pq_ort_check(ctx, rt, rt->api->type_and_shape(value, &info), name));
    PQ_TRY(pq_ort_check(ctx, rt, rt->api->element_type(info, &type), name));
    PQ_TRY(pq_ort_check(ctx, rt, rt->api->rank(info, &rank), name));
    if (type != type_of(s->output[i].dtype)) {
        st = pq_fail(ctx, PQ_E_ENGINE, "onnxruntime: output '%s' is of type %d, expected %d", name,
                     type, type_of(s->output[i].dtype));
        goto out;
    }
    if (rank <= PQ_MAX_RANK)
        PQ_TRY(pq_ort_check(ctx, rt, rt->api->dimensions(info, dim, rank), name));
    PQ_TRY(pq_ort_check(ctx, rt, rt->api->tensor_data(value, &data), name));
    st = pq_foreign_take(ctx, to, name, s->output[i].dtype, dim, rank, data);
out:
    if (info) rt->api->release_type_and_shape(info);
    return st;
}

pq_status pq_ort_run(pq_ctx *ctx, const ort_engine_session *s, ort_session *session,
                     const pq_tensor *in, pq_tensor *out)
{
    const ort_runtime *rt = s->rt;
    const size_t n_in = s->base.n_inputs, n_out = s->base.n_outputs;
    ort_value **value = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &value, n_in + n_out, sizeof *value));
    PQ_TRY(as_values(ctx, s, value, in, out));
    PQ_TRY(pq_ort_check(ctx, rt,
                        rt->api->run(session, NULL, (const char *const *)s->base.input_name,
                                     (const ort_value *const *)value, n_in,
                                     (const char *const *)s->base.output_name, n_out, value + n_in),
                        "run"));
    for (size_t i = 0; i < n_out; i++)
        if (s->output[i].taken) PQ_TRY(take(ctx, s, i, value[n_in + i], &out[i]));
    st = PQ_OK;
out:
    for (size_t i = 0; value && i < n_in + n_out; i++)
        if (value[i]) rt->api->release_value(value[i]);
    pq_free(value);
    return st;
}

static pq_status run(pq_ctx *ctx, pq_session *session, const pq_tensor *in, size_t n_in,
                     pq_tensor *out, size_t n_out)
{
    const ort_engine_session *s = (const ort_engine_session *)session;
    (void)n_in;
    (void)n_out;
    return pq_ort_run(ctx, s, s->session, in, out);
}

/* Runs are profiled by the dozen, because a profile ends its session; each call gives the next. */
static pq_status layers(pq_ctx *ctx, pq_session *session, const pq_tensor *in, size_t n_in,
                        pq_layer *out, size_t *n)
{
    ort_engine_session *s = (ort_engine_session *)session;
    ort_profile *p = &s->profile;
    (void)n_in;
    if (p->next == p->n_runs) {
        const pq_status st = pq_ort_profile(ctx, s, in);
        if (st != PQ_OK) return st;
    }
    const pq_layer *from = p->layer + p->next++ * p->n;
    if (p->n < *n) *n = p->n;
    memcpy(out, from, *n * sizeof *out);
    return PQ_OK;
}

const pq_engine pq_engine_onnxruntime = {.abi = PQ_ENGINE_ABI,
                                         .name = "onnxruntime",
                                         .probe = probe,
                                         .accepts = accepts,
                                         .compile = compile,
                                         .run = run,
                                         .destroy = destroy,
                                         .layers = layers};
