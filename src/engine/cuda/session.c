/* The cuda engine: sessions are one CUDA graph each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/cuda.h"

pq_status cu_failed(pq_ctx *ctx, const char *call, cudaError_t rc)
{
    const bool memory = rc == cudaErrorMemoryAllocation;
    cudaGetLastError(); /* not to be seen again by the next call */
    return pq_fail(ctx, memory ? PQ_E_NOMEM : PQ_E_ENGINE, "%.60s: %s (%s)", call,
                   cudaGetErrorName(rc), cudaGetErrorString(rc));
}

pq_status cu_alloc(pq_ctx *ctx, void *out, size_t bytes, const char *what)
{
    void *p = NULL;
    const cudaError_t rc = cudaMalloc(&p, bytes);
    memcpy(out, &p, sizeof p);
    return rc == cudaSuccess
               ? PQ_OK
               : pq_prefix(ctx, cu_failed(ctx, "cudaMalloc", rc), "%zu bytes for %s", bytes, what);
}

/* ---- device ---- */

/* PQUANT_CUDA_DEVICE, else the place among the processes of `--jobs` or, under MPI, of this
 * machine, else the first. */
static int choose_device(int n)
{
    static const char *const name[] = {"PQUANT_CUDA_DEVICE", "PQUANT_LOCAL_RANK",
                                       "OMPI_COMM_WORLD_LOCAL_RANK"};
    const char *text = NULL;
    for (size_t i = 0; !text && i < sizeof name / sizeof *name; i++) text = getenv(name[i]);
    const long id = text ? strtol(text, NULL, 10) : 0;
    return id >= 0 ? (int)(id % n) : 0;
}

static pq_status open_device(pq_ctx *ctx, cu_device *d)
{
    int n = 0, driver = 0, runtime = 0, value = 0;
    struct cudaFuncAttributes code;
    struct cudaDeviceProp prop;
    pq_status st = PQ_OK;
    cudaError_t rc = cudaGetDeviceCount(&n);
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (rc == cudaErrorInsufficientDriver || (rc != cudaSuccess && driver == 0))
        return pq_fail(ctx, PQ_E_UNAVAILABLE,
                       driver ? "the NVIDIA driver gives CUDA %d.%d, expected %d.%d or later"
                              : "no NVIDIA driver",
                       driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (rc != cudaSuccess || n == 0)
        return pq_fail(ctx, PQ_E_UNAVAILABLE, "no CUDA device: %s",
                       rc == cudaSuccess ? "none is visible" : cudaGetErrorString(rc));
    d->id = choose_device(n);
    CU_TRY(ctx, cudaSetDevice(d->id));
    CU_TRY(ctx, cudaGetDeviceProperties(&prop, d->id));
    snprintf(d->name, sizeof d->name, "%.90s", prop.name);
    d->major = prop.major;
    d->minor = prop.minor;
    d->sms = prop.multiProcessorCount;
    CU_TRY(ctx, cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, d->id));
    d->smem = (size_t)value;
    rc = cudaFuncGetAttributes(&code, pq_cu_kernels_get()->rows);
    if (rc != cudaSuccess) {
        cudaGetLastError();
        return pq_fail(ctx, PQ_E_UNAVAILABLE,
                       "%s has compute capability %d.%d: no code for it in this build (%s)",
                       d->name, d->major, d->minor, cudaGetErrorName(rc));
    }
    d->dependent = d->major >= 9 && code.ptxVersion >= 90;
    d->groups = d->dependent && d->major == 9 && d->minor == 0;
out:
    return st;
}

static pq_status probe(pq_ctx *ctx, pq_engine_info *out)
{
    cu_device d = {0};
    int runtime = 0;
    memset(out, 0, sizeof *out);
    pq_status st = open_device(ctx, &d);
    if (st != PQ_OK) return st;
    cudaRuntimeGetVersion(&runtime);
    snprintf(out->version, sizeof out->version, "CUDA %d.%d", runtime / 1000, runtime % 1000 / 10);
    snprintf(out->device, sizeof out->device, "%s, sm_%d%d, %d multiprocessors", d.name, d.major,
             d.minor, d.sms);
    out->precisions = 1u << PQ_PREC_FP32 | 1u << PQ_PREC_FP16 | 1u << PQ_PREC_INT8;
    out->scheme = PQ_SCHEME_S8;
    out->base = PQ_PREC_FP16;
    out->mixes = true;
    return PQ_OK;
}

/* ---- sessions ---- */

static void destroy(pq_session *session)
{
    cu_session *s = (cu_session *)session;
    cudaSetDevice(s->device.id);
    if (s->exec) cudaGraphExecDestroy(s->exec);
    if (s->begin) cudaEventDestroy(s->begin);
    if (s->end) cudaEventDestroy(s->end);
    if (s->stream) cudaStreamDestroy(s->stream);
    for (size_t i = 0; s->input && i < s->base.n_inputs; i++) cudaFree(s->input[i]);
    for (size_t i = 0; s->output && i < s->base.n_outputs; i++) cudaFree(s->output[i]);
    cudaFree(s->arena);
    cudaFree(s->constants);
    cu_around_free(&s->around);
    pq_free(s->input);
    pq_free(s->output);
    pq_free(s->output_slot);
    pq_free(s->slot);
    pq_free(s->step);
    pq_free(s->extra);
    pq_free(s->node);
    pq_free(s->blob);
    pq_program_free(s->program);
    pq_session_forget(&s->base);
    pq_free(s);
}

static uint8_t *constant(const cu_session *s, size_t at, uint8_t *otherwise)
{
    return at == SIZE_MAX ? otherwise : s->constants + at;
}

/* Constants to the device, their offsets made addresses. */
static pq_status upload(pq_ctx *ctx, cu_session *s)
{
    pq_status st = PQ_OK;
    PQ_TRY(cu_alloc(ctx, &s->constants, s->blob_bytes + CU_SPARE, "weights"));
    CU_TRY(ctx, cudaMemcpy(s->constants, s->blob, s->blob_bytes, cudaMemcpyHostToDevice));
    s->base.weight_bytes = s->blob_bytes;
    pq_free(s->blob);
    s->blob = NULL;
    for (size_t i = 0; i < s->n_nodes; i++) {
        cu_node *n = &s->node[i];
        const pq_cu_kernels *k = pq_cu_kernels_get();
        if (n->kind >= 0 || s->step[n->step].stem != PQ_NONE || n->kernel == k->depthwise ||
            n->kernel == k->direct) {
            n->p.conv.weight = s->constants + n->weight_at;
            n->p.conv.scale = (const float *)(const void *)(s->constants + n->scale_at);
            n->p.conv.bias = (const float *)(const void *)(s->constants + n->bias_at);
        } else if (n->kernel == k->map) {
            n->p.map.in[0].data = constant(s, n->weight_at, n->p.map.in[0].data);
            n->p.map.in[1].data = constant(s, n->bias_at, n->p.map.in[1].data);
        } else if (n->kernel == k->reduce)
            n->p.reduce.in.data = constant(s, n->weight_at, n->p.reduce.in.data);
    }
out:
    return st;
}

static const char *name_of(const cu_session *s, const cu_node *n)
{
    const pq_step *step = &s->program->step[n->step];
    return step->convert ? s->program->graph->value[cu_slot_of(s, step->out[0])->value].name
                         : cu_node_of(s, n->step)->name;
}

static pq_status launch_failed(pq_ctx *ctx, const cu_session *s, const cu_node *n, const char *call,
                               cudaError_t rc)
{
    const pq_step *step = &s->program->step[n->step];
    char in[96], out[96];
    return pq_prefix(ctx, cu_failed(ctx, call, rc),
                     "node '%s' (%s to %s, %s, grid %u x %u x %u, %u threads, %u bytes shared)",
                     name_of(s, n),
                     pq_shape_text(&cu_slot_of(s, step->in[0])->shape, in, sizeof in),
                     pq_shape_text(&cu_slot_of(s, step->out[0])->shape, out, sizeof out), n->impl,
                     n->grid[0], n->grid[1], n->grid[2], n->block, n->smem);
}

static pq_status launch(pq_ctx *ctx, const cu_session *s, const cu_node *n, cudaStream_t stream)
{
    if (!n->grid[0]) return PQ_OK; /* a result of no elements */
    const cudaError_t rc = cu_launch(s, n, stream);
    return rc == cudaSuccess ? PQ_OK : launch_failed(ctx, s, n, "cudaLaunchKernelExC", rc);
}

/* Each waited for. */
static pq_status launch_all(pq_ctx *ctx, const cu_session *s)
{
    for (size_t i = 0; i < s->n_nodes; i++) {
        const cu_node *n = &s->node[i];
        const pq_status st = launch(ctx, s, n, s->stream);
        if (st != PQ_OK) return st;
        const cudaError_t rc = n->grid[0] ? cudaStreamSynchronize(s->stream) : cudaSuccess;
        if (rc != cudaSuccess) return launch_failed(ctx, s, n, "cudaStreamSynchronize", rc);
    }
    return PQ_OK;
}

/* What was captured, or what launching failed with. */
static pq_status end_capture(pq_ctx *ctx, cudaGraphExec_t *out, const cu_session *s, pq_status st)
{
    cudaGraph_t graph = NULL;
    const cudaError_t rc = cudaStreamEndCapture(s->stream, &graph);
    if (st != PQ_OK) goto out;
    CU_TRY(ctx, rc);
    CU_TRY(ctx, cudaGraphInstantiate(out, graph, 0));
out:
    if (graph) cudaGraphDestroy(graph);
    return st;
}

pq_status cu_repeat(pq_ctx *ctx, cudaGraphExec_t *out, const cu_session *s, const cu_node *n,
                    int times)
{
    pq_status st = PQ_OK;
    *out = NULL;
    CU_TRY(ctx, cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal));
    for (int k = 0; k < times && st == PQ_OK; k++) st = launch(ctx, s, n, s->stream);
    st = end_capture(ctx, out, s, st);
out:
    return st;
}

static pq_status launch_on(pq_ctx *ctx, const cu_session *s, size_t i, cudaEvent_t *ended)
{
    const cu_node *n = &s->node[i];
    cudaStream_t stream = n->side ? s->second : s->stream;
    pq_status st;
    if (n->wait >= 0) CU_TRY(ctx, cudaStreamWaitEvent(stream, ended[n->wait], 0));
    PQ_TRY(launch(ctx, s, n, stream));
    if (ended[i]) CU_TRY(ctx, cudaEventRecord(ended[i], stream));
out:
    return st;
}

/* The main branch in order, before each node that waits for the side what the side has up to there.
 */
static pq_status launch_branches(pq_ctx *ctx, const cu_session *s, cudaEvent_t *ended)
{
    int next = 0; /* place on the side */
    pq_status st = PQ_OK;
    for (size_t i = 0; i < s->n_nodes; i++) {
        const cu_node *n = &s->node[i];
        if (n->side) continue;
        const int last = n->wait >= 0 ? s->step[s->node[n->wait].step].place : -1;
        for (; next <= last; next++)
            for (size_t k = 0; k < s->n_nodes; k++)
                if (s->node[k].side && s->step[s->node[k].step].place == next)
                    PQ_TRY(launch_on(ctx, s, k, ended));
        PQ_TRY(launch_on(ctx, s, i, ended));
    }
out:
    return st;
}

pq_status cu_capture(pq_ctx *ctx, cudaGraphExec_t *out, cu_session *s)
{
    cudaEvent_t *ended = NULL;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &ended, s->n_nodes, sizeof *ended));
    for (size_t i = 0; i < s->n_nodes; i++) {
        const int wait = s->node[i].wait;
        if (wait >= 0 && !ended[wait])
            CU_TRY(ctx, cudaEventCreateWithFlags(&ended[wait], cudaEventDisableTiming));
    }
    CU_TRY(ctx, cudaStreamCreateWithFlags(&s->second, cudaStreamNonBlocking));
    CU_TRY(ctx, cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal));
    PQ_TRY(end_capture(ctx, out, s, launch_branches(ctx, s, ended)));
    CU_TRY(ctx, cudaGraphUpload(*out, s->stream));
    CU_TRY(ctx, cudaStreamSynchronize(s->stream));
out:
    for (size_t i = 0; ended && i < s->n_nodes; i++)
        if (ended[i]) cudaEventDestroy(ended[i]);
    if (s->second) cudaStreamDestroy(s->second);
    s->second = NULL;
    pq_free(ended);
    return st;
}

static pq_status make_session(pq_ctx *ctx, cu_session *s, const pq_graph *g, const pq_plan *plan,
                              const pq_compile_opts *opts, const cu_force *force)
{
    pq_status st;
    PQ_TRY(pq_session_describe(ctx, &s->base, &pq_engine_cuda, g));
    if (opts->tap) {
        st =
            pq_fail(ctx, PQ_E_UNSUPPORTED, "engine 'cuda' does not show values inside the network");
        goto out;
    }
    if (opts->outline) goto out;
    PQ_TRY(open_device(ctx, &s->device));
    PQ_TRY(pq_program_new(ctx, &s->program, g, plan, true));
    PQ_TRY(pq_alloc(ctx, &s->slot, s->program->n_slots, sizeof *s->slot));
    PQ_TRY(pq_alloc(ctx, &s->step, s->program->n_steps, sizeof *s->step));
    PQ_TRY(pq_alloc(ctx, &s->input, s->base.n_inputs, sizeof *s->input));
    PQ_TRY(pq_alloc(ctx, &s->output, s->base.n_outputs, sizeof *s->output));
    PQ_TRY(pq_alloc(ctx, &s->output_slot, s->base.n_outputs, sizeof *s->output_slot));
    CU_TRY(ctx, cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    CU_TRY(ctx, cudaEventCreate(&s->begin));
    CU_TRY(ctx, cudaEventCreate(&s->end));
    for (size_t i = 0; i < s->base.n_inputs; i++)
        PQ_TRY(cu_alloc(ctx, &s->input[i],
                        (size_t)pq_shape_count(&s->base.input_shape[i]) * sizeof(float) + CU_SPARE,
                        "an input"));
    PQ_TRY(cu_layout(ctx, s, force));
    PQ_TRY(cu_build(ctx, s));
    PQ_TRY(upload(ctx, s));
    PQ_TRY(cu_tune(ctx, s, force));
    s->one_by_one = getenv("PQUANT_CUDA_SYNC") != NULL;
    if (!s->one_by_one) st = cu_capture(ctx, &s->exec, s);
out:
    return st;
}

pq_status cu_session_new(pq_ctx *ctx, pq_session **out, const pq_graph *g, const pq_plan *plan,
                         const pq_compile_opts *opts, const cu_force *force)
{
    cu_session *s = NULL;
    *out = NULL;
    pq_status st = pq_alloc(ctx, &s, 1, sizeof *s);
    if (st != PQ_OK) return st;
    st = make_session(ctx, s, g, plan, opts, force);
    if (st == PQ_OK)
        *out = &s->base;
    else
        destroy(&s->base);
    return st;
}

static pq_status compile(pq_ctx *ctx, pq_session **out, const pq_graph *g, const pq_plan *plan,
                         const pq_compile_opts *opts)
{
    return cu_session_new(ctx, out, g, plan, opts, NULL);
}

/* ---- running ---- */

static void release_memory(void *p) { cudaFreeHost(p); }

/* Page-locked: else a copy goes through the driver's own, at a third of the speed. */
static pq_status memory(pq_ctx *ctx, pq_buf **out, size_t bytes)
{
    void *p = NULL;
    pq_status st = PQ_OK;
    *out = NULL;
    CU_TRY(ctx, cudaHostAlloc(&p, bytes, cudaHostAllocPortable));
    st = pq_buf_wrap(ctx, out, p, bytes, release_memory, p);
    if (st != PQ_OK) cudaFreeHost(p);
out:
    return st;
}

static pq_status send(pq_ctx *ctx, cu_session *s, const pq_tensor *in)
{
    pq_status st = PQ_OK;
    for (size_t i = 0; i < s->base.n_inputs; i++)
        CU_TRY(ctx, cudaMemcpyAsync(s->input[i], pq_tensor_data(&in[i]),
                                    (size_t)pq_shape_count(&in[i].shape) * sizeof(float),
                                    cudaMemcpyHostToDevice, s->stream));
out:
    return st;
}

const float *cu_output(const cu_session *s, size_t k)
{
    return s->output[k] ? s->output[k] : (const float *)(const void *)cu_data(s, s->output_slot[k]);
}

pq_status cu_run_network(pq_ctx *ctx, cu_session *s)
{
    pq_status st = PQ_OK;
    if (s->one_by_one)
        st = launch_all(ctx, s);
    else
        CU_TRY(ctx, cudaGraphLaunch(s->exec, s->stream));
out:
    return st;
}

static pq_status run(pq_ctx *ctx, pq_session *session, const pq_tensor *in, size_t n_in,
                     pq_tensor *out, size_t n_out)
{
    cu_session *s = (cu_session *)session;
    float ms = 0;
    pq_status st;
    (void)n_in;
    CU_TRY(ctx, cudaSetDevice(s->device.id));
    PQ_TRY(send(ctx, s, in));
    CU_TRY(ctx, cudaEventRecord(s->begin, s->stream));
    PQ_TRY(cu_run_network(ctx, s));
    CU_TRY(ctx, cudaEventRecord(s->end, s->stream));
    for (size_t k = 0; k < n_out; k++)
        CU_TRY(ctx, cudaMemcpyAsync(pq_tensor_data(&out[k]), cu_output(s, k),
                                    (size_t)pq_shape_count(&out[k].shape) * sizeof(float),
                                    cudaMemcpyDeviceToHost, s->stream));
    CU_TRY(ctx, cudaStreamSynchronize(s->stream));
    CU_TRY(ctx, cudaEventElapsedTime(&ms, s->begin, s->end));
    s->device_ms = (double)ms;
out:
    return st;
}

static double device_ms(const pq_session *session)
{
    return ((const cu_session *)session)->device_ms;
}

static void describe_layer(const cu_session *s, const cu_node *n, pq_layer *l)
{
    const pq_step *step = &s->program->step[n->step];
    memset(l, 0, sizeof *l);
    snprintf(l->node, sizeof l->node, "%s", name_of(s, n));
    if (n->kind >= 0) {
        int unused;
        const pq_cu_variant *v = &cu_variants(n->kind, &unused)[n->how.variant];
        snprintf(l->impl, sizeof l->impl, "%s %dx%dx%d/%d/%d", n->impl, v->bm, v->bn, v->row, v->wk,
                 n->p.conv.split);
    } else
        snprintf(l->impl, sizeof l->impl, "%s", n->impl);
    snprintf(l->op, sizeof l->op, "%s%s",
             step->convert ? "Convert" : pq_op_name(cu_node_of(s, n->step)->op),
             step->add == PQ_NONE ? "" : "+Add");
    snprintf(l->precision, sizeof l->precision, "%s", pq_precision_name(step->precision));
    for (size_t j = n->step; n->kind >= 0 && j < s->program->n_steps; j++)
        if (s->step[j].leader == n->step && cu_is_weighted(s, j))
            l->macs += pq_node_macs(s->program->graph, cu_node_of(s, j));
    if (n->kind < 0 && !step->convert)
        l->macs = pq_node_macs(s->program->graph, cu_node_of(s, n->step));
}

/* A node's time: a graph of many of it, so that the time is its own and not that of starting it. */
static pq_status time_node(pq_ctx *ctx, cu_session *s, const cu_node *n, double *each)
{
    enum { REPEATS = 32 };
    cudaGraphExec_t graph = NULL;
    float ms = 0;
    pq_status st;
    PQ_TRY(cu_repeat(ctx, &graph, s, n, REPEATS));
    for (int round = 0; round < 2; round++) { /* the first warms up */
        CU_TRY(ctx, cudaEventRecord(s->begin, s->stream));
        CU_TRY(ctx, cudaGraphLaunch(graph, s->stream));
        CU_TRY(ctx, cudaEventRecord(s->end, s->stream));
        CU_TRY(ctx, cudaStreamSynchronize(s->stream));
    }
    CU_TRY(ctx, cudaEventElapsedTime(&ms, s->begin, s->end));
    *each = (double)ms / REPEATS;
out:
    if (graph) cudaGraphExecDestroy(graph);
    return st;
}

static pq_status layers(pq_ctx *ctx, pq_session *session, const pq_tensor *in, size_t n_in,
                        pq_layer *out, size_t *n)
{
    cu_session *s = (cu_session *)session;
    pq_status st;
    (void)n_in;
    CU_TRY(ctx, cudaSetDevice(s->device.id));
    PQ_TRY(send(ctx, s, in));
    if (s->n_nodes < *n) *n = s->n_nodes;
    for (size_t i = 0; i < *n; i++) {
        describe_layer(s, &s->node[i], &out[i]);
        if (s->node[i].grid[0]) PQ_TRY(time_node(ctx, s, &s->node[i], &out[i].ms));
    }
out:
    return st;
}

const pq_engine pq_engine_cuda = {.abi = PQ_ENGINE_ABI,
                                  .name = "cuda",
                                  .probe = probe,
                                  .accepts = pq_cuda_accepts,
                                  .compile = compile,
                                  .run = run,
                                  .destroy = destroy,
                                  .layers = layers,
                                  .device_ms = device_ms,
                                  .memory = memory,
                                  .pictures = cu_pictures};
